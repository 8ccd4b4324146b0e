"""torch.compile of a head as one graph, specialised to its batch size: in the default mode, and with max-autotune.

The number of assignments of a batch stays dynamic, so that one graph serves every routing policy. max-autotune would
add CUDA graphs; they are off, because every form is captured in the same kind of graph, or called without one.

Letters: N rows, D input width, C output width.
"""

from __future__ import annotations

import itertools
import logging
import shutil
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from bench.errors import BenchError
from bench.forms import grouped_mm, masked
from bench.forms.eager import wide_soft
from bench.forms.form import Form, Runner, torch_runner
from models.heads.heads import Head, HeadConfig
from models.heads.soft import SoftMoEHead
from models.heads.sparse import SparseMoEHead

logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it warns of a CUDA compiler without a GPU

Function = Callable[[Tensor], Tensor]
TUNED = "max-autotune-no-cudagraphs"


def plain(head: Head) -> Function:
    """Return what is compiled by default, (N, D) -> (N, C): the head's definition, or a soft head as wide products."""
    return wide_soft(head) if isinstance(head, SoftMoEHead) else head.forward


def wide(head: Head) -> Function:
    """Return a head as two products over all experts side by side, (N, D) -> (N, C), or a dense head's definition."""
    return masked.wide_sparse(head) if isinstance(head, SparseMoEHead) else plain(head)


def grouped(head: Head, *, training: bool = False) -> Function:
    """Return a sparse head as grouped products over sorted rows, (N, D) -> (N, C)."""
    assert isinstance(head, SparseMoEHead)
    return grouped_mm.GroupedHead(head, training=training).__call__


def _unavailable(config: HeadConfig, device: torch.device, dtype: torch.dtype) -> str | None:
    if device.type == "cpu" and not any(shutil.which(compiler) for compiler in ("g++", "clang++", "c++")):
        return "torch.compile needs a C++ compiler on a CPU and finds none; install g++"
    return None


def _unavailable_wide(config: HeadConfig, device: torch.device, dtype: torch.dtype) -> str | None:
    return _only_on_a_gpu(device) or masked.too_many(config)


def _unavailable_grouped(config: HeadConfig, device: torch.device, dtype: torch.dtype) -> str | None:
    return _only_on_a_gpu(device) or grouped_mm.unavailable(config, device, dtype)


def _only_on_a_gpu(device: torch.device) -> str | None:
    return None if device.type == "cuda" else "max-autotune chooses among GPU kernels; it is left out on a CPU"


def _prepare(function: Callable[[Head], Function], mode: str | None, head: Head, example: Tensor) -> Runner:
    with torch.inference_mode():
        return _compiled(function(head), mode, example)


def _train(function: Callable[[Head], Function], mode: str | None, head: Head, example: Tensor) -> Runner:
    return _compiled(lambda x: function(head)(x), mode, example.detach().requires_grad_())


def _compiled(function: Function, mode: str | None, example: Tensor) -> Runner:
    from torch._dynamo import config

    with config.patch(capture_dynamic_output_shape_ops=True):
        compiled = torch.compile(isolated(function), fullgraph=True, dynamic=False, mode=mode)
        compiled(example)

    layout = example.shape, example.stride()

    def run(x: Tensor) -> Tensor:
        if (x.shape, x.stride()) != layout:  # would recompile; a stance that forbids it costs tens of microseconds
            raise BenchError(f"compiled for {layout[0][0]} rows in one layout; prepare the form again for other rows")
        return compiled(x)

    return torch_runner(run, example, options=", ".join(filter(None, ("fullgraph", "dynamic=False", mode))))


def isolated(function: Function) -> Function:
    """Return `function` under a new code object.

    Dynamo keeps what it compiled with the code object. If the heads and shapes of a run shared one, they would lengthen
    each other's guard checks and soon reach the recompile limit.
    """

    def isolated(x: Tensor) -> Tensor:
        return function(x)

    isolated.__code__ = isolated.__code__.replace(co_name=f"isolated_{next(_numbers)}")
    return isolated


_numbers = itertools.count()

FORMS = (
    Form(
        "compile", 2, "torch.compile, one graph", _unavailable, partial(_prepare, plain, None),
        partial(_train, plain, None), setup=6.0,
    ),
    Form(
        "compile_max", 7, "torch.compile, max-autotune, all experts in wide products",
        _unavailable_wide, partial(_prepare, wide, TUNED), partial(_train, wide, TUNED), setup=45.0, default=False,
    ),
    Form(
        "compile_grouped_mm", 8, "torch.compile, max-autotune, of grouped_mm",
        _unavailable_grouped, partial(_prepare, grouped, TUNED),
        partial(_train, partial(grouped, training=True), TUNED), setup=45.0, default=False,
    ),
)  # fmt: skip
