"""Where a program of a grouped product works: which tile of rows, which columns, which expert.

Triton's kernel and Gluon's share these functions.

E experts.
"""

import triton
import triton.language as tl

BEYOND = tl.constexpr(2**31 - 1)
"""A start beyond that of any tile."""


@triton.jit
def place(unit, tiles, blocks, group: tl.constexpr) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """Return part, row tile and column block of a unit: `group` tiles take all columns before the next ones do."""
    part = unit // (tiles * blocks)
    unit = unit % (tiles * blocks)
    width = group * blocks
    first = unit // width * group
    height = min(tiles - first, group)
    return part, first + unit % width % height, unit % width // height


@triton.jit
def find(e, tile, offsets, tile_starts, E, tile_rows: tl.constexpr) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """Return the expert of a row tile, the first slot of the tile, and the slot after the last of the expert.

    `e` counts from 0 to E - 1 or further.
    """
    starts = tl.load(tile_starts + 1 + e, mask=e < E, other=BEYOND)
    expert = tl.sum((starts <= tile).to(tl.int32))  # experts whose tiles all come before
    begin = tl.load(offsets + expert) + (tile - tl.load(tile_starts + expert)) * tile_rows
    return expert, begin, tl.load(offsets + expert + 1)
