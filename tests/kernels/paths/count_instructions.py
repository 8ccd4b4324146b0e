"""Print what one warp of each fused launch in OPTIONS executes: `python -m tests.kernels.paths.count_instructions`.

Their machine code for sm_90 has no loops, so every instruction is executed once.
"""

import json

from kernels.choice.tuning import PAPER
from kernels.compiled.job import specialise
from kernels.compiled.jobs import launches
from kernels.compiled.machine_code import disassembled
from kernels.paths.fused_tiles import FusedTiles

OPTIONS = (
    FusedTiles(tile_rows=16, experts=1, slices=2, hidden=32, depth=128, warps=8, stages=4),
    FusedTiles(tile_rows=16, experts=1, slices=1, hidden=64, depth=128, warps=4, stages=4),
    FusedTiles(tile_rows=64, experts=1, slices=1, hidden=64, depth=64, warps=8, stages=4),
    FusedTiles(tile_rows=16, experts=1, slices=1, hidden=64, depth=128, warps=8, stages=4, swapped=True),
)

if __name__ == "__main__":
    jobs = [specialise(*launches(PAPER, options), "sm_90") for options in OPTIONS]
    codes = disassembled([job.compile() for job in jobs])
    print(json.dumps([(code.instructions, code.barriers) for code in codes]))  # noqa: T201 - the test reads it
