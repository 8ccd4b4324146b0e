"""Whether each path gives the right result, and the same one twenty times.

N rows, D input width, H hidden width of one expert, E experts, C output width.
"""

import time
from dataclasses import replace

import torch

from kernels.first.layers import layer
from kernels.first.log import Log
from kernels.moe import moe, moe_reference
from kernels.paths.fused_rows import FusedRows
from kernels.paths.fused_tiles import FusedTiles
from kernels.paths.grouped import Grouped
from kernels.paths.options import Options
from kernels.problem.options import Product, Router
from kernels.tune import right, tensors

REPEATS = {"cuda": 20, "cpu": 2}
MOST_FUSED = 128
"""Output columns beyond which no fused path is tried."""
SHAPES = (("paper", 300), ("paper", 1), ("e128", 64))

_ROUTER = Router(tile_rows=16, depth=64, warps=4, stages=2)
_PART = Product(columns=64, depth=64, warps=4, stages=3)
_SWAPPED, _DESCRIBED = replace(_PART, swapped=True), replace(_PART, described=True)
PATHS: dict[str, Options] = {
    "low tiles": FusedTiles(tile_rows=16, experts=1, slices=2, hidden=32, depth=128, warps=4, stages=4),
    "tall tiles": FusedTiles(tile_rows=64, experts=1, slices=1, hidden=64, depth=64, warps=4, stages=4),
    "rows": FusedRows(slices=2, hidden=32, depth=256, warps=4),
    "grouped": Grouped(64, _ROUTER, _PART, _PART),
    "chained": Grouped(64, _ROUTER, _PART, _PART, chained=True),
    "swapped": Grouped(16, replace(_ROUTER, splits=4), _SWAPPED, replace(_SWAPPED, splits=4)),
    "described": Grouped(64, _ROUTER, replace(_PART, described=True), _PART),
    "persistent": Grouped(
        64, _ROUTER, replace(_PART, described=True, persistent=True), replace(_PART, persistent=True)
    ),
}


def smoke(log: Log) -> None:
    """Log, for each path and shape, the error, whether it is small enough, and how many repeats differ."""
    for name, N in SHAPES:
        problem = layer(name, N, log.device)
        arguments = tensors(problem, log.device)
        expected = moe_reference(*arguments).float()
        for path, options in PATHS.items():
            if problem.C > MOST_FUSED and not isinstance(options, Grouped):
                continue
            start = time.monotonic()
            try:
                first, *others = [moe(*arguments, options=options) for _ in range(REPEATS[log.device.type])]
                log.write(
                    layer=name,
                    N=problem.N,
                    path=path,
                    ok=right(first, expected, problem),
                    error=float((first.float() - expected).norm() / expected.norm()),
                    repeats=len(others) + 1,
                    differing=sum(not torch.equal(first, other) for other in others),
                    wall_s=round(time.monotonic() - start, 2),
                )
            except Exception as error:
                log.failed(error, layer=name, N=problem.N, path=path)
