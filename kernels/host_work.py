"""Host work of a call of `moe`: its Python without kernels. `TRITON_INTERPRET=1 python -m kernels.host_work`, on a CPU.

Starts of kernels do nothing here, so Triton's launcher costs nothing. Allocations are torch's part of the work: the
same calls of torch.empty and torch.zeros, alone. The least of many blocks is what a busy machine disturbs least.
"""

import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
import triton
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.overrides import TorchFunctionMode
from triton.runtime.jit import KernelInterface

from kernels.call import operator
from kernels.moe import moe
from kernels.paths.fused_rows import FusedRows
from kernels.paths.fused_tiles import FusedTiles
from kernels.paths.grouped import Grouped
from kernels.paths.options import Options
from kernels.problem.experts import Experts
from kernels.problem.options import Product, Router
from kernels.problem.problem import Problem, RoutingKind
from kernels.problem.routes import SOURCES, RoutingSource

ROUTER = Router(tile_rows=16, depth=16, warps=4, stages=2)
PRODUCT = Product(columns=64, depth=32, warps=4, stages=2)
DESCRIBED = replace(PRODUCT, described=True)
GROUPED = Grouped(16, ROUTER, PRODUCT, PRODUCT)
SPLIT = Grouped(16, replace(ROUTER, splits=2), DESCRIBED, replace(DESCRIBED, splits=2))
TILES = FusedTiles(tile_rows=16, experts=8, slices=1, hidden=32, depth=32, warps=4, stages=2)
PATHS: dict[str, tuple[RoutingKind, Options | None]] = {
    "grouped, gate": ("gate", GROUPED),
    "grouped, gate, described and split": ("gate", SPLIT),
    "grouped, top k": ("top_k", GROUPED),
    "grouped, flat": ("flat", GROUPED),
    "fused tiles, one part": ("gate", TILES),
    "fused tiles, four parts": ("gate", replace(TILES, experts=2)),
    "fused rows": ("gate", FusedRows(slices=1, hidden=32, depth=32, warps=4)),
    "chosen": ("gate", None),
}
"""Kind of routing and options of each case."""

BLOCKS, CALLS = 200, 20


def arguments(kind: RoutingKind, N: int = 64) -> tuple[Tensor, RoutingSource, Experts]:
    """Return arguments of `moe` for N rows of a small layer; the host's work does not depend on its sizes."""
    problem = Problem(N=N, D=32, H=32, E=8, C=32, k=2, M=2 * N, dtype=torch.float16)

    def new(*shape: int, dtype: torch.dtype = problem.dtype) -> Tensor:
        return torch.zeros(shape, dtype=dtype)

    experts = Experts(new(8, 32, 32), new(8, 32), new(8, 32, 32), new(8, 32), "relu")
    return new(N, 32), SOURCES[kind].of(problem, new), experts


@contextmanager
def idle_kernels() -> Iterator[None]:
    """Let starts of kernels do nothing."""

    def nothing(*arguments: object, **options: object) -> None:
        pass

    with patch.object(KernelInterface, "__getitem__", lambda kernel, grid: nothing):
        yield


class _Allocations(TorchFunctionMode):
    """Keeps the calls of torch that allocate while it is active."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[Callable[[], Tensor]] = []

    def __torch_function__(
        self, function: Callable[..., Any], types: Iterable[type], args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function in (torch.empty, torch.zeros):
            self.made.append(partial(function, *args, **(kwargs or {})))
        return function(*args, **(kwargs or {}))


def allocations(call: Callable[[], object]) -> Callable[[], None]:
    """Return a function that makes the allocations of `call`, and nothing else."""
    with _Allocations() as seen:
        call()

    def allocate() -> None:
        for make in seen.made:
            make()

    return allocate


def microseconds(cases: dict[str, Callable[[], object]]) -> dict[str, tuple[float, float]]:
    """Return the median and the least microseconds of one call of each case; blocks of calls take turns."""
    samples: dict[str, list[float]] = {name: [] for name in cases}
    for block in range(BLOCKS + 1):
        for name, call in cases.items():
            start = time.perf_counter()
            for _ in range(CALLS):
                call()
            if block > 0:  # the first one warms up
                samples[name].append(1e6 * (time.perf_counter() - start) / CALLS)
    return {name: (statistics.median(times), min(times)) for name, times in samples.items()}


def measured() -> Table:
    """Return the table of all paths: a whole call, its allocations alone, and a call through torch's dispatcher."""
    versions = f"torch {torch.__version__}, Triton {triton.__version__}, Python {platform.python_version()}"
    title = f"Host work of moe in us, {BLOCKS} blocks of {CALLS} calls ({versions}, {platform.machine()})"
    view = Table("path", "median", "least", "least of allocations", "least as an operator", title=title)
    with idle_kernels(), torch.no_grad():
        for path, (kind, options) in PATHS.items():
            parts = arguments(kind)
            call = partial(moe, *parts, options=options)
            alone = allocations(partial(operator.run, *parts, "ieee", options))
            times = microseconds({"call": call, "alone": alone})
            with patch.object(operator, "is_unseen", lambda tensors: False):
                seen = microseconds({"call": call})
            view.add_row(path, *(f"{each:.1f}" for each in (*times["call"], times["alone"][1], seen["call"][1])))
    return view


def main() -> int:
    """Print the table; return the exit status, which is 2 without Triton's interpreter."""
    if not triton.knobs.runtime.interpret:
        Console(stderr=True).print("kernels.host_work takes tensors on the CPU, so run it with TRITON_INTERPRET=1.")
        return 2
    torch.set_num_threads(1)
    Console(width=None if sys.stdout.isatty() else 120).print(measured())
    return 0


if __name__ == "__main__":
    sys.exit(main())
