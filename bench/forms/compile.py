"""torch.compile of the whole head as one graph, specialised to its batch size.

How many assignments the rows of a batch have is left open, so that one graph serves every routing policy.

Letters: N rows, D input width, C output width.
"""

from __future__ import annotations

import itertools
import logging
import shutil
from collections.abc import Callable

import torch
import torch._dynamo.config
from torch import Tensor

from bench.errors import BenchError
from bench.forms.eager import wide_soft
from bench.forms.form import Form, Runner, torch_runner
from models.heads.heads import Head, HeadConfig
from models.heads.soft import SoftMoEHead

logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it warns of a CUDA compiler without a GPU


def _unavailable(config: HeadConfig, device: torch.device, dtype: torch.dtype) -> str | None:
    if device.type == "cpu" and not any(shutil.which(compiler) for compiler in ("g++", "clang++", "c++")):
        return "torch.compile needs a C++ compiler on a CPU and finds none; install g++"
    return None


def _prepare(head: Head, example: Tensor) -> Runner:
    function = isolated(wide_soft(head) if isinstance(head, SoftMoEHead) else head.forward)
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True), torch.inference_mode():
        compiled = torch.compile(function, fullgraph=True, dynamic=False)
        compiled(example)

    layout = example.shape, example.stride()

    def run(x: Tensor) -> Tensor:
        if (x.shape, x.stride()) != layout:  # would recompile; a stance that forbids it costs tens of microseconds
            raise BenchError(f"compiled for {layout[0][0]} rows laid out alike; prepare the form again for other rows")
        return compiled(x)

    return torch_runner(run, example, options="fullgraph, dynamic=False")


def isolated(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return `function` under a code object of its own.

    Dynamo keeps what it compiled with the code object: sharing one, the heads and shapes of a run would lengthen
    each other's guard checks and soon reach the recompile limit.
    """

    def isolated(x: Tensor) -> Tensor:
        return function(x)

    isolated.__code__ = isolated.__code__.replace(co_name=f"isolated_{next(_numbers)}")
    return isolated


_numbers = itertools.count()


FORM = Form("compile", 2, "torch.compile, one graph", _unavailable, _prepare, setup=6.0)
