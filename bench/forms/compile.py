"""torch.compile of a head as one graph, specialised to its batch size: in the default mode, and with max-autotune.

The definition of a sparse head has E dynamic sizes, and as many small kernels. On a CPU plain top-k with few rows is
compiled as what is faster there (`on_a_cpu`). Dynamo's guards are off, because the runner itself refuses other rows;
bench/METHOD.md says what they cost.

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
from bench.execution.form import Form, Runner, torch_runner
from bench.forms import grouped_mm, masked
from bench.forms.eager import wide_soft
from bench.forms.grouped_mm import GroupedHead
from bench.forms.routing import by_max, router
from models.heads.heads import Head, HeadConfig
from models.heads.soft import SoftMoEHead
from models.heads.sparse import SparseMoEHead

logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it warns of a CUDA compiler without a GPU

Function = Callable[[Tensor], Tensor]
TUNED = "max-autotune-no-cudagraphs"
MASKED_ROWS, GROUPED_ROWS = 64, 512
"""Up to so many rows a sparse head is compiled for a CPU as masked or as grouped products; see `on_a_cpu`."""


def on_a_cpu(head: Head, rows: int) -> Function:
    """Return what is compiled for a CPU, (N, D) -> (N, C): for plain top-k what was fastest at this number of rows.

    Speed beside the definition with guards, for D 128, E 8, H 64, k 2 and C 10, routed by `by_max` (AMD EPYC, one
    thread, CPU time, medians of 15 in turn while other processes ran, 2026-11-29):

    | rows | masked | grouped_mm | definition |
    | --- | --- | --- | --- |
    | 1 | 2.12 | 1.35 | 1.34 |
    | 32 | 1.92 | 1.36 | 1.11 |
    | 256 | 0.78 | 1.23 | 0.92 |
    | 2,048 | 0.51 | 0.98 | 0.93 |

    `by_sort` took 1.04 to 1.36 times as long as `by_max`, a dispatch by one-hot cumulative sums 1.24 times as long as
    one sort at 256 rows. max-autotune gained nothing at 1 row and 2 % on the grouped products at 256; on the masked
    ones, with frozen weights, it gained 13 % there, and they stayed slower.
    """
    if not isinstance(head, SparseMoEHead) or router(head) == head.routing:
        return plain(head)
    route = router(head, by_max)
    if rows <= MASKED_ROWS and masked.too_many(head.config) is None:
        return masked.wide_sparse(head, route)
    if rows <= GROUPED_ROWS:
        return GroupedHead(head, route).__call__
    return plain(head)


def plain(head: Head) -> Function:
    """Return what is compiled by default, (N, D) -> (N, C): the head's definition, or a soft head as wide products."""
    return wide_soft(head) if isinstance(head, SoftMoEHead) else head.forward


def wide(head: Head, *, training: bool = False) -> Function:
    """Return a head as two products over all experts side by side, (N, D) -> (N, C), or a dense head's definition."""
    if not isinstance(head, SparseMoEHead):
        return plain(head)
    return masked.wide_sparse(head, head.routing if training else router(head))


def grouped(head: Head, *, training: bool = False) -> Function:
    """Return a sparse head as grouped products over sorted rows, (N, D) -> (N, C)."""
    assert isinstance(head, SparseMoEHead)
    return GroupedHead(head, training=training).__call__


def _unavailable(config: HeadConfig, device: torch.device, dtype: torch.dtype) -> str | None:
    if device.type == "cpu" and not any(shutil.which(compiler) for compiler in ("g++", "clang++", "c++")):
        return "torch.compile needs a C++ compiler on a CPU and finds none; install g++"
    return None


def _unavailable_wide(config: HeadConfig, device: torch.device, dtype: torch.dtype) -> str | None:
    return _only_on_a_gpu(device) or masked.too_many(config)


def _unavailable_grouped(config: HeadConfig, device: torch.device, dtype: torch.dtype) -> str | None:
    return _only_on_a_gpu(device) or grouped_mm.unavailable(config, device, dtype)


def _only_on_a_gpu(device: torch.device) -> str | None:
    return (
        None
        if device.type == "cuda"
        else "on a CPU max-autotune gains 2 % at most on what is fastest; it is left out there"
    )


def _prepare_default(head: Head, example: Tensor) -> Runner:
    function = on_a_cpu(head, len(example)) if example.device.type == "cpu" else plain(head)
    with torch.inference_mode():
        return _compiled(function, None, example)


def _prepare(function: Callable[[Head], Function], head: Head, example: Tensor) -> Runner:
    with torch.inference_mode():
        return _compiled(function(head), TUNED, example)


def _train(function: Callable[[Head], Function], mode: str | None, head: Head, example: Tensor) -> Runner:
    return _compiled(lambda x: function(head)(x), mode, example.detach().requires_grad_())


def _compiled(function: Function, mode: str | None, example: Tensor) -> Runner:
    from torch._dynamo import config
    from torch._inductor import list_mode_options

    options = {**list_mode_options(mode or "default"), "guard_filter_fn": lambda guards: [False] * len(guards)}
    with config.patch(capture_dynamic_output_shape_ops=True):
        compiled = torch.compile(isolated(function), fullgraph=True, dynamic=False, options=options)
        compiled(example)

    layout = example.shape, example.stride(), example.dtype

    def run(x: Tensor) -> Tensor:
        if (x.shape, x.stride(), x.dtype) != layout:  # nothing else would notice
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
        "compile", 2, "torch.compile, one graph", _unavailable, _prepare_default,
        partial(_train, plain, None), setup=6.0,
    ),
    Form(
        "compile_max", 7, "torch.compile, max-autotune, all experts in wide products",
        _unavailable_wide, partial(_prepare, wide), partial(_train, partial(wide, training=True), TUNED),
        setup=45.0, default=False,
    ),
    Form(
        "compile_grouped_mm", 8, "torch.compile, max-autotune, of grouped_mm",
        _unavailable_grouped, partial(_prepare, grouped),
        partial(_train, partial(grouped, training=True), TUNED), setup=45.0, default=False,
    ),
)  # fmt: skip
