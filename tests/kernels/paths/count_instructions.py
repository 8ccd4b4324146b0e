"""Print what one warp of each fused launch in OPTIONS executes: `python -m tests.kernels.paths.count_instructions`.

Their machine code for sm_90 has no loops, so every instruction is executed once.
"""

import json
import re
import subprocess
import tempfile

from triton import knobs

from kernels.choice.tuning import PAPER
from kernels.inspect import _compile, launches, specialise
from kernels.paths.fused_tiles import FusedTiles

OPTIONS = (
    FusedTiles(tile_rows=16, experts=1, slices=2, hidden=32, depth=128, warps=8, stages=4),
    FusedTiles(tile_rows=16, experts=1, slices=1, hidden=64, depth=128, warps=4, stages=4),
    FusedTiles(tile_rows=64, experts=1, slices=1, hidden=64, depth=64, warps=8, stages=4),
    FusedTiles(tile_rows=16, experts=1, slices=1, hidden=64, depth=128, warps=8, stages=4, swapped=True),
)


def executed(options: FusedTiles) -> tuple[int, int]:
    """Return the instructions and the barriers among them."""
    (launch,) = launches(PAPER, options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(_compile(specialise(launch, "sm_90")).asm["cubin"])
        file.flush()
        command = [knobs.nvidia.cuobjdump.path, "-sass", file.name]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    code = re.findall(r"/\*[0-9a-f]{4,}\*/\s+(\S.*?);", text)
    return sum("NOP" not in line for line in code), sum("BAR.SYNC" in line for line in code)


if __name__ == "__main__":
    print(json.dumps([executed(options) for options in OPTIONS]))  # noqa: T201 - the test reads it
