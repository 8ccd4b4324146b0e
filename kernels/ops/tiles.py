"""The order of the tiles of a grouped product, and where each of them lies.

E experts; `blocks` column blocks make the width of the result, `parts` the depth of its sums.
"""

import triton
import triton.language as tl

BEYOND = tl.constexpr(2**31 - 1)


@triton.jit
def place(unit, tiles, blocks, group: tl.constexpr) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """Return part, row tile and column block of a unit: `group` tiles take all columns, then the next do."""
    part = unit // (tiles * blocks)
    unit = unit % (tiles * blocks)
    width = group * blocks
    first = unit // width * group
    height = min(tiles - first, group)
    return part, first + unit % width % height, unit % width // height


@triton.jit
def find(
    tile, offsets, tile_starts, E, tile_rows: tl.constexpr, block_e: tl.constexpr
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """Return the expert of a row tile, the tile's first slot, and the slot after the expert's last."""
    e = tl.arange(0, block_e)
    starts = tl.load(tile_starts + 1 + e, mask=e < E, other=BEYOND)
    expert = tl.sum((starts <= tile).to(tl.int32))  # experts whose tiles all come before
    begin = tl.load(offsets + expert) + (tile - tl.load(tile_starts + expert)) * tile_rows
    return expert, begin, tl.load(offsets + expert + 1)
