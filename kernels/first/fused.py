"""Fused options at few rows, beside the chosen ones, with and without transposed products.

N rows.
"""

from dataclasses import replace
from functools import partial

from kernels.choice.choice import choose
from kernels.cost.machine import machine_of
from kernels.first.layers import layer
from kernels.first.log import Log
from kernels.first.replays import log_times
from kernels.moe import moe
from kernels.paths.fused_rows import FusedRows
from kernels.paths.fused_tiles import FusedTiles
from kernels.paths.options import Options
from kernels.tune import tensors

ROWS = (1, 64, 256, 1024)
TRIED: tuple[Options, ...] = (
    FusedTiles(tile_rows=16, experts=1, slices=2, hidden=32, depth=256, warps=4, stages=2),
    FusedTiles(tile_rows=16, experts=1, slices=1, hidden=64, depth=128, warps=4, stages=4),
    FusedRows(slices=2, hidden=32, depth=256, warps=4),
)


def fused(log: Log) -> None:
    """Log the time of a call with each option."""
    for problem in dict.fromkeys(layer("paper", N, log.device) for N in ROWS):  # in a rehearsal several are the same
        try:
            arguments = tensors(problem, log.device)
            options = dict.fromkeys(
                replace(each, swapped=swapped) if isinstance(each, FusedTiles) else each
                for each in (choose(problem, machine_of(log.device)), *TRIED)
                for swapped in (False, True)
            )
            calls = {each.code: partial(moe, *arguments, options=each) for each in options}
            log_times(log, calls, layer="paper", N=problem.N)
        except Exception as error:
            log.failed(error, N=problem.N)
