"""Dispatch: routing ids to expert-contiguous slots, by a stable counting sort without atomics or host sync.

N rows, E experts, k experts per row, M = N k assignments. Assignment m is place m % k of row m // k; slot s
is place s in the order by expert, then by assignment.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn.functional import pad

from kernels.checks import bind_shapes, require_dtype
from kernels.launch import launch, require_device

BLOCK_M = 128
"""Assignments counted and placed by one program."""

MOST_ASSIGNMENTS = 2**30
"""Slots are int32; half the range leaves room for the last block."""


@dataclass(frozen=True)
class Dispatch:
    """Where each assignment's row lies when rows are sorted by expert, and the row tiles of that order.

    A tile is `tile_rows` consecutive slots of one expert, fewer at its end. Expert e owns slots offsets[e] to
    offsets[e + 1] and tiles tile_starts[e] to tile_starts[e + 1].
    """

    rows: Tensor  # (M,) int32, source row of each slot
    slots: Tensor  # (N, k) int32, slot of each assignment
    offsets: Tensor  # (E + 1,) int32
    tile_starts: Tensor  # (E + 1,) int32
    tile_rows: int

    @property
    def experts(self) -> int:
        """Number of experts E."""
        return self.offsets.shape[0] - 1

    @property
    def most_tiles(self) -> int:
        """Number of tiles of the worst routing, known without reading the device."""
        M = self.rows.shape[0]
        return min(M, M // self.tile_rows + self.experts)


@triton.jit(do_not_specialize=["M"])
def _count_kernel(ids, counts, M, E: tl.constexpr, block_m: tl.constexpr, block_e: tl.constexpr):
    """Store counts[e, b], the assignments to expert e in block b."""
    block = tl.program_id(0)
    m = block * block_m + tl.arange(0, block_m)
    expert = tl.load(ids + m, mask=m < M, other=-1)
    for first in range(0, E, block_e):
        e = first + tl.arange(0, block_e)
        count = tl.sum((expert[None, :] == e[:, None]).to(tl.int32), axis=1)  # (block_e,)
        tl.store(counts + e.to(tl.int64) * tl.num_programs(0) + block, count, mask=e < E)


@triton.jit
def _store_offsets(ends, offsets, tile_starts, blocks, E, tile_rows, block_e: tl.constexpr):
    """Store each expert's first slot and first tile; ends[e, b] is the end of its slots in block b."""
    e = tl.arange(0, block_e)
    last = ends + e.to(tl.int64) * blocks + blocks - 1
    end = tl.load(last, mask=e < E, other=0)
    begin = tl.load(last - blocks, mask=(e > 0) & (e < E), other=0)
    tiles = tl.cumsum((end - begin + tile_rows - 1) // tile_rows)
    tl.store(offsets, 0)
    tl.store(tile_starts, 0)
    tl.store(offsets + 1 + e, end, mask=e < E)
    tl.store(tile_starts + 1 + e, tiles, mask=e < E)


@triton.jit(do_not_specialize=["M"])
def _place_kernel(
    ids,
    counts,
    ends,
    rows,
    slots,
    offsets,
    tile_starts,
    M,
    k,
    E,
    tile_rows,
    block_m: tl.constexpr,
    block_e: tl.constexpr,
):
    """Store rows and slots of one block of assignments; the first program stores the offsets too."""
    block = tl.program_id(0)
    blocks = tl.num_programs(0)
    m = block * block_m + tl.arange(0, block_m)
    expert = tl.load(ids + m, mask=m < M, other=-1)
    before = (expert[None, :] == expert[:, None]) & (m[None, :] < m[:, None])  # (block_m, block_m)
    cell = expert.to(tl.int64) * blocks + block
    end = tl.load(ends + cell, mask=m < M, other=0)
    slot = end - tl.load(counts + cell, mask=m < M, other=0) + tl.sum(before.to(tl.int32), axis=1)
    tl.store(slots + m, slot, mask=m < M)
    tl.store(rows + slot, m // k, mask=m < M)
    if block == 0:
        _store_offsets(ends, offsets, tile_starts, blocks, E, tile_rows, block_e)


def dispatch_rows(ids: Tensor, experts: int, *, tile_rows: int) -> Dispatch:
    """Return the dispatch of ids (N, k) int32, each within 0 to experts - 1 (not checked: that would wait).

    Raises:
        ValueError: ids has the wrong shape, dtype or device, or 2^30 assignments or more.
    """
    require_device(ids=ids)
    require_dtype(torch.int32, ids=ids)
    N, k = bind_shapes(ids=(ids, "N k")).values()
    M = N * k
    if M >= MOST_ASSIGNMENTS:
        raise ValueError(f"N * k = {M} assignments are too many: at most {MOST_ASSIGNMENTS - 1}")
    ids = ids.contiguous()
    blocks = max(1, triton.cdiv(M, BLOCK_M))
    counts = ids.new_empty(experts * blocks)  # (E, blocks)
    block_e = triton.next_power_of_2(experts)
    sizes = {"M": M, "E": experts, "block_m": BLOCK_M}
    launch(_count_kernel, (blocks,), {"ids": ids, "counts": counts, **sizes, "block_e": min(block_e, 128)})
    found = Dispatch(
        rows=ids.new_empty(M),
        slots=torch.empty_like(ids),
        offsets=ids.new_empty(experts + 1),
        tile_starts=ids.new_empty(experts + 1),
        tile_rows=tile_rows,
    )
    launch(
        _place_kernel,
        (blocks,),
        {
            "ids": ids,
            "counts": counts,
            "ends": torch.cumsum(counts, dim=0, dtype=torch.int32),
            "rows": found.rows,
            "slots": found.slots,
            "offsets": found.offsets,
            "tile_starts": found.tile_starts,
            "k": k,
            **sizes,
            "tile_rows": tile_rows,
            "block_e": block_e,
        },
    )
    return found


def dispatch_reference(ids: Tensor, experts: int, *, tile_rows: int) -> Dispatch:
    """Return what `dispatch_rows` does, by a stable sort."""
    N, k = ids.shape
    order = torch.argsort(ids.flatten(), stable=True)  # (M,) assignment of each slot
    slots = torch.argsort(order).reshape(N, k)
    counts = torch.bincount(ids.flatten(), minlength=experts)  # (E,)
    tiles = (counts + tile_rows - 1) // tile_rows
    return Dispatch(
        rows=(order // k).int(),
        slots=slots.int(),
        offsets=pad(counts.cumsum(0), (1, 0)).int(),
        tile_starts=pad(tiles.cumsum(0), (1, 0)).int(),
        tile_rows=tile_rows,
    )
