"""Dispatch: a stable counting sort of the assignments into slots by expert, which never waits for the device.

N rows, E experts, k experts per row, M assignments, B blocks of consecutive assignments. Slot s is place s in the
order by expert, then by assignment.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn.functional import pad

from kernels.cost.machine import machine_of
from kernels.cost.work import LaunchWork
from kernels.launch.chain import follow
from kernels.launch.checks import bind_shapes, remembered, require_dtype
from kernels.launch.integers import cdiv, next_power_of_2
from kernels.launch.launch import launch, require_device
from kernels.problem.options import Router
from kernels.problem.problem import Problem

MOST_ASSIGNMENTS = 2**30
"""Slots are int32; half their range leaves room for the last block."""

COUNTED = 512
"""Assignments of a block of `count`."""

PLACED = 128
"""Assignments that a program of `dispatch` places at once, by comparing each with all before it.

On AMD GPUs half as many in twice the threads, because each comparison of a thread takes two scalar registers there.
"""


@dataclass(frozen=True)
class Dispatch:
    """The place of each assignment when they are sorted by expert, and the row tiles of that order.

    A tile is `tile_rows` consecutive slots of one expert; its last tile may be shorter. Expert e owns the slots from
    offsets[e] to offsets[e + 1] and the tiles from tile_starts[e] to tile_starts[e + 1]. Slots from offsets[E] on
    belong to no expert.
    """

    rows: Tensor  # (M,) int32, source row of each slot
    slots: Tensor  # (M,) int32, slot of each assignment, -1 if it has no expert
    offsets: Tensor  # (E + 1,) int32
    tile_starts: Tensor  # (E + 1,) int32
    tile_rows: int

    @property
    def experts(self) -> int:
        """Number of experts E."""
        return self.offsets.shape[0] - 1

    @property
    def most_tiles(self) -> int:
        """The most tiles that any routing of M assignments has; the host knows it without asking the device."""
        M = self.rows.shape[0]
        return min(M, M // self.tile_rows + self.experts)


@triton.jit
def _load_experts(ids, m, end, E):
    """Return the experts of assignments m below `end`, 0 if there is none, and whether there is one."""
    expert = tl.load(ids + m, mask=m < end, other=-1)
    there = (expert >= 0) & (expert < E)
    return tl.where(there, expert, 0).to(tl.int32), there


@triton.jit(do_not_specialize=["M"])
def _count_kernel(ids, counts, M, E, block: tl.constexpr, block_e: tl.constexpr, chained: tl.constexpr):
    follow(chained)
    b = tl.program_id(0).to(tl.int64)
    expert, there = _load_experts(ids, b * block + tl.arange(0, block), M, E)
    e = tl.arange(0, block_e)
    tl.store(counts + b * E + e, tl.histogram(expert, block_e, mask=there), mask=e < E)


@triton.jit
def _sum_counts(counts, first, B, E, block_b: tl.constexpr, block_e: tl.constexpr):
    """Return each expert's assignments in all B blocks, and in the blocks before `first`, (block_e,) each."""
    e = tl.arange(0, block_e)
    total = tl.zeros((block_b, block_e), tl.int32)
    before = tl.zeros((block_b, block_e), tl.int32)
    begin = tl.cast(0, tl.int64)
    while begin < B:
        b = begin + tl.arange(0, block_b)
        count = tl.load(counts + b[:, None] * E + e[None, :], mask=(b < B)[:, None] & (e < E)[None, :], other=0)
        total += count
        before += tl.where((b < first)[:, None], count, 0)
        begin += block_b
    return tl.sum(total, axis=0), tl.sum(before, axis=0)


@triton.jit(do_not_specialize=["M", "B", "block", "blocks"])
def _dispatch_kernel(
    ids, source, counts, rows, slots, offsets, tile_starts, M, B, block, blocks, E, tile_rows,
    k: tl.constexpr, chunk: tl.constexpr, block_b: tl.constexpr, block_e: tl.constexpr, chained: tl.constexpr,
):  # fmt: skip
    """Place the assignments of `blocks` blocks; the first program also stores the offsets."""
    follow(chained)
    e = tl.arange(0, block_e)
    first = tl.program_id(0) * blocks
    total, before = _sum_counts(counts, first, B, E, block_b, block_e)
    ends = tl.cumsum(total)
    if first == 0:
        tiles = tl.cumsum((total + tile_rows - 1) // tile_rows)
        tl.store(offsets, 0)
        tl.store(tile_starts, 0)
        tl.store(offsets + 1 + e, ends, mask=e < E)
        tl.store(tile_starts + 1 + e, tiles, mask=e < E)

    free = ends - total + before  # (block_e,) next slot of each expert
    i = tl.arange(0, chunk)
    begin = first.to(tl.int64) * block
    end = tl.minimum(begin + tl.cast(blocks, tl.int64) * block, M)
    while begin < end:
        m = begin + i
        expert, there = _load_experts(ids, m, end, E)
        same = (expert[:, None] == expert[None, :]) & there[None, :]
        rank = tl.sum((same & (i[None, :] < i[:, None])).to(tl.int32), axis=1)  # (chunk,)
        slot = tl.gather(free, expert, 0) + rank
        row = m // k if source is None else tl.load(source + m, mask=m < end, other=0)
        tl.store(slots + m, tl.where(there, slot, -1), mask=m < end)
        tl.store(rows + slot, row.to(tl.int32), mask=there)
        free += tl.histogram(expert, block_e, mask=there)
        begin += chunk


def count(ids: Tensor, experts: int) -> tuple[Tensor, int]:
    """Return how often each expert occurs in each block of ids (M,) as (B, E) int32, and the length of a block.

    Args:
        ids: int32 or int64; only those from 0 to experts - 1 are counted.
        experts: E.

    Raises:
        ValueError: ids has the wrong shape, dtype or device.
    """
    M = _length(ids)
    B = cdiv(M, COUNTED)
    counts = torch.empty(B, experts, dtype=torch.int32, device=ids.device)
    if M > 0:
        arguments = {"ids": ids.contiguous(), "counts": counts, "M": M, "E": experts}
        blocks = {"block": COUNTED, "block_e": _block_e(experts)}
        launch("dispatch", _count_kernel, (B,), {**arguments, **blocks})
    return counts, COUNTED


def dispatch(
    ids: Tensor, counts: Tensor, block: int, *, tile_rows: int, k: int | None = None, rows: Tensor | None = None
) -> Dispatch:
    """Return the dispatch of ids (M,), in one launch.

    Args:
        ids: Expert of each assignment, int32 or int64; one outside 0 to E - 1 gets no slot.
        counts: (B, E) int32, contiguous: how often expert e occurs in block b.
        block: Assignments of a block; the last may be shorter.
        tile_rows: Slots of a tile.
        k: If set, the row of assignment m is m // k.
        rows: Otherwise the row of each assignment, (M,) int32 or int64.

    Raises:
        ValueError: An argument has the wrong shape, dtype or device, or there are 2^30 assignments or more.
    """
    M, B, E = _sizes(ids, counts, block, k, rows)
    make = torch.empty if M > 0 else torch.zeros
    result = Dispatch(
        rows=torch.empty(M, dtype=torch.int32, device=ids.device),
        slots=torch.empty(M, dtype=torch.int32, device=ids.device),
        offsets=make(E + 1, dtype=torch.int32, device=ids.device),
        tile_starts=make(E + 1, dtype=torch.int32, device=ids.device),
        tile_rows=tile_rows,
    )
    if M == 0:
        return result
    blocks = cdiv(B, most_programs(B, E))
    block_e = _block_e(E)
    chunk, warps = (PLACED // 2, 8) if machine_of(ids.device).amd else (PLACED, 4)
    launch(
        "dispatch",
        _dispatch_kernel,
        (cdiv(B, blocks),),
        {
            "ids": ids.contiguous(),
            "source": None if rows is None else rows.contiguous(),
            "counts": counts,
            "rows": result.rows,
            "slots": result.slots,
            "offsets": result.offsets,
            "tile_starts": result.tile_starts,
            "M": M,
            "B": B,
            "block": block,
            "blocks": blocks,
            "E": E,
            "tile_rows": tile_rows,
            "k": k,
            "chunk": chunk,
            "block_b": max(1, 4096 // block_e),
            "block_e": block_e,
        },
        warps=warps,
    )
    return result


@remembered
def _length(ids: Tensor) -> int:
    """Check the argument of `count` and return M."""
    require_device(ids=ids)
    require_dtype(torch.int32, torch.int64, ids=ids)
    return bind_shapes(ids=(ids, "M"))["M"]


@remembered
def _sizes(ids: Tensor, counts: Tensor, block: int, k: int | None, rows: Tensor | None) -> tuple[int, int, int]:
    """Check the arguments of `dispatch` and return M, B and E."""
    require_device(ids=ids, counts=counts, rows=rows)
    require_dtype(torch.int32, torch.int64, ids=ids)
    require_dtype(torch.int32, counts=counts)
    M, B, E = bind_shapes(ids=(ids, "M"), counts=(counts, "B E")).values()
    if (k is None) == (rows is None):
        raise ValueError("pass the rows of the assignments by k or by rows, and not by both")
    if rows is not None:
        require_dtype(torch.int32, torch.int64, rows=rows)
    bind_shapes(ids=(ids, "M"), rows=(rows, "M"))
    if M >= MOST_ASSIGNMENTS:
        raise ValueError(f"M = {M} assignments are too many: at most {MOST_ASSIGNMENTS - 1}")
    if cdiv(M, block) != B:
        raise ValueError(f"counts must have {cdiv(M, block)} blocks of {block} assignments, not {B}")
    return M, B, E


def _block_e(E: int) -> int:
    """Return a width for E experts: a power of two, and at least one warp."""
    return max(32, next_power_of_2(E))


def most_programs(B: int, E: int) -> int:
    """Return the most programs that pay: enough to fill a GPU, but few if each must read many counts."""
    return max(128, 2**23 // (B * E))


def count_work(problem: Problem) -> LaunchWork:
    """Return the work of `count`, for int32 ids."""
    B = cdiv(problem.M, COUNTED)
    read, written = 4 * problem.M, 4 * B * problem.E
    return LaunchWork("dispatch", "_count_kernel", B, read=read, written=written, touched=read + written)


def dispatch_work(problem: Problem, router: Router) -> LaunchWork:
    """Return the work of `dispatch`, for int32 ids."""
    M, E = problem.M, problem.E
    block = router.tile_rows * problem.k if problem.routing == "gate" else COUNTED
    B = cdiv(M, block)
    blocks = cdiv(B, most_programs(B, E))
    programs = cdiv(B, blocks)
    ids = (8 if problem.routing == "flat" else 4) * M  # a flat list's rows too
    written = 8 * M + 8 * (E + 1)
    return LaunchWork(
        stage="dispatch",
        kernel="_dispatch_kernel",
        programs=programs,
        read=4 * programs * B * E + ids,
        written=written,
        touched=4 * B * E + ids + written,
        start=3,
        fillings=cdiv(B, max(1, 4096 // _block_e(E))) + cdiv(blocks * block, PLACED),
    )


def dispatch_reference(
    ids: Tensor, experts: int, *, tile_rows: int, k: int | None = None, rows: Tensor | None = None
) -> Dispatch:
    """Return the result of `dispatch` by a stable sort; slots that belong to no expert have row 0."""
    M = ids.shape[0]
    there = (ids >= 0) & (ids < experts)
    order = torch.argsort(torch.where(there, ids, experts), stable=True)  # (M,) assignment of each slot
    slots = torch.argsort(order).masked_fill(~there, -1)
    source = order // (k or 1) if rows is None else rows[order]
    counts = torch.bincount(ids[there], minlength=experts)  # (E,)
    tiles = (counts + tile_rows - 1) // tile_rows
    return Dispatch(
        rows=source.masked_fill(torch.arange(M, device=ids.device) >= counts.sum(), 0).int(),
        slots=slots.int(),
        offsets=pad(counts.cumsum(0), (1, 0)).int(),
        tile_starts=pad(tiles.cumsum(0), (1, 0)).int(),
        tile_rows=tile_rows,
    )
