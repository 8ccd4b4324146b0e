"""What each launch of a call does: programs, FLOPs, bytes. One function per kernel, beside which it must be kept true.

FLOPs are those that dots execute, 2 per multiply-add, whatever they multiply: unused rows of a tile, columns and
experts beyond the last. Bytes are those of values that programs ask for: a value that two programs read counts twice,
whichever memory answers. What masks leave out does not count, nor do the integers of the dispatch that tell a program
where its rows lie, except in the dispatch itself.

Balanced or not, every assignment is taken to have an expert, the gate's weights to have the dtype of x, and both
biases to be there.

N rows, D input width, H hidden width of one expert, E experts, k experts per row, C output width, M assignments.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch

from kernels.launch.integers import cdiv, next_power_of_2
from kernels.launch.launch import Stage
from kernels.ops.combine import TILE
from kernels.ops.dispatch import COUNTED, PLACED, most_programs
from kernels.ops.fused import MOST_COLUMNS, sliced
from kernels.ops.grouped import EXACT_COLUMNS
from kernels.problem.options import FusedRows, FusedTiles, Grouped, Product, Router
from kernels.problem.problem import Problem

Unit = Literal["half", "tf32", "fp32"]
"""What multiplies: tensor cores on 16 bits or on tf32, or fp32 without tensor cores."""

Histogram = tuple[tuple[int, int], ...]
"""How many experts have how many rows, as (rows, experts) pairs; unused experts are left out."""


@dataclass(frozen=True)
class Work:
    """What one launch does; all numbers are of all its programs together, if not said otherwise.

    Attributes:
        stage: The part of the operation.
        kernel: Name of the Triton function, or of the torch operator.
        programs: Programs that have work; the grid may have more, which find none and end.
        flops: Executed.
        read: Bytes asked for.
        written: Bytes written.
        touched: Bytes of different values among them: what must come from memory or go there at least.
        unit: What multiplies.
        tile: Rows and columns of a program's dot, as the tensor core sees them; (0, 0) without one.
        start: Reads before and after the loop of one program that each wait for the one before.
        fillings: How often its loop waits for memory: a pipelined one once per filling of its stages.
        warps: Warps of a program.
        held: fp32 values that a program accumulates in registers.
        shared: Bytes of shared memory that the operands of a program take.
        persistent: Whether a program starts one tile while it ends another.
    """

    stage: Stage
    kernel: str
    programs: int
    flops: int = 0
    read: int = 0
    written: int = 0
    touched: int = 0
    unit: Unit = "fp32"
    tile: tuple[int, int] = (0, 0)
    start: int = 2
    fillings: int = 0
    warps: int = 4
    held: int = 0
    shared: int = 0
    persistent: bool = False


def balanced(problem: Problem) -> Histogram:
    """Return the rows of the experts in use when M assignments are spread as evenly as can be."""
    least, more = divmod(problem.M, problem.E)
    return tuple(pair for pair in ((least + 1, more), (least, problem.E - more)) if all(pair))


def histogram(rows_per_expert: Iterable[int]) -> Histogram:
    """Return the histogram of given numbers of rows, largest first."""
    rows = sorted((rows for rows in rows_per_expert if rows), reverse=True)
    return tuple((size, rows.count(size)) for size in dict.fromkeys(rows))


def unit_of(dtype: torch.dtype, precision: str) -> Unit:
    """Return what multiplies operands of `dtype`."""
    if dtype.itemsize == 2:
        return "half"
    return "tf32" if precision == "tf32" else "fp32"


def route(problem: Problem, options: Router) -> Work:
    """Return the work of `kernels.ops.router.route`."""
    N, D, E, k, size = problem.N, problem.D, problem.E, problem.k, problem.element_size
    tiles, splits, rows = cdiv(N, options.tile_rows), options.splits, options.tile_rows
    steps = cdiv(cdiv(D, options.depth), splits)
    block_e = max(64 if size == 2 and rows < 64 else 16, next_power_of_2(E))
    sums = 4 * splits * N * E if splits > 1 else 0
    results = 8 * N * k + 4 * tiles * E
    return Work(
        stage="route",
        kernel="_route_kernel",
        programs=tiles * splits,
        flops=2 * tiles * splits * steps * options.depth * rows * block_e,
        read=tiles * ((rows + block_e) * D + block_e) * size + sums,
        written=results + sums,
        touched=(N * D + E * D + E) * size + results,
        unit=unit_of(problem.dtype, "ieee"),
        tile=(rows, block_e),
        start=3 + cdiv(k, 4) + 2 * (splits > 1),
        fillings=cdiv(steps, options.stages),
        warps=options.warps,
        held=rows * block_e,
        shared=(rows + block_e) * options.depth * size * options.stages,
    )


def product(problem: Problem, options: Grouped, which: Literal["first", "second"], experts: Histogram) -> Work:
    """Return the work of `kernels.ops.grouped_gemm.grouped_gemm`, for the first or the second product."""
    first = which == "first"
    part: Product = options.first if first else options.second
    deep, wide, halves = (problem.D, problem.H, problem.halves) if first else (problem.H, problem.C, 1)
    size, rows, splits = problem.element_size, options.tile_rows, part.splits
    out_size = size if first else 4 if splits > 1 else y_size(problem)
    tiles = sum(cdiv(count, rows) * number for count, number in experts)
    used = sum(number for _, number in experts)
    blocks, steps = cdiv(wide, part.columns), cdiv(deep, part.depth * splits)
    weights = (deep + 1) * wide * halves * size
    written = splits * problem.M * wide * out_size
    a_rows = min(problem.N, problem.M) if first else problem.M
    return Work(
        stage="experts",
        kernel="_grouped_gemm_kernel",
        programs=tiles * blocks * splits,
        flops=2 * tiles * rows * blocks * part.columns * splits * steps * part.depth * halves,
        read=tiles * (blocks * rows * deep * size + weights),
        written=written,
        touched=a_rows * deep * size + used * weights + written,
        unit=unit_of(problem.dtype, options.precision),
        tile=(rows, part.columns),
        start=5,
        fillings=cdiv(steps, part.stages),
        warps=part.warps,
        held=rows * part.columns * halves,
        shared=product_shared(part, rows, halves, size),
        persistent=part.persistent,
    )


def product_shared(part: Product, rows: int, halves: int, size: int) -> int:
    """Return the bytes of shared memory of a program's operands, and of its last tile where it starts another."""
    operands = (rows + part.columns * halves) * part.depth * part.stages
    return (operands + part.persistent * rows * part.columns) * size


def count(problem: Problem) -> Work:
    """Return the work of `kernels.ops.dispatch.count`, for int32 ids."""
    B = cdiv(problem.M, COUNTED)
    read, written = 4 * problem.M, 4 * B * problem.E
    return Work("dispatch", "_count_kernel", B, read=read, written=written, touched=read + written)


def dispatch(problem: Problem, router: Router) -> Work:
    """Return the work of `kernels.ops.dispatch.dispatch`, for int32 ids."""
    M, E = problem.M, problem.E
    block = router.tile_rows * problem.k if problem.routing == "gate" else COUNTED
    B = cdiv(M, block)
    blocks = cdiv(B, most_programs(B, E))
    programs = cdiv(B, blocks)
    ids = (8 if problem.routing == "flat" else 4) * M  # the list's rows too
    written = 8 * M + 8 * (E + 1)
    return Work(
        stage="dispatch",
        kernel="_dispatch_kernel",
        programs=programs,
        read=4 * programs * B * E + ids,
        written=written,
        touched=4 * B * E + ids + written,
        start=3,
        fillings=cdiv(B, max(1, 4096 // next_power_of_2(E))) + cdiv(blocks * block, PLACED),
    )


def sort_rows(problem: Problem) -> tuple[Work, ...]:
    """Return the work of `kernels.ops.combine.row_order` on int32 rows in any order: torch operators, one launch each.

    Large sorts take torch several launches.
    """
    M, every = problem.M, problem.N + 1
    search = 4 * every * (1 + (M + 1).bit_length())
    return (
        Work("combine", "torch.sort", cdiv(M, 1024), read=4 * M, written=12 * M, touched=16 * M, start=8),
        Work("combine", "torch.arange", cdiv(every, 1024), written=4 * every, touched=4 * every, start=1),
        Work(
            "combine",
            "torch.searchsorted",
            cdiv(every, 1024),
            read=search,
            written=4 * every,
            touched=4 * (M + 2 * every),
            start=(M + 1).bit_length(),
        ),
    )


def combine(problem: Problem, splits: int) -> Work:
    """Return the work of `kernels.ops.combine.combine`."""
    N, C, M = problem.N, problem.C, problem.M
    block_c = min(next_power_of_2(C), TILE // 2)
    wide = cdiv(C, block_c)
    y = splits * M * C * (4 if splits > 1 else y_size(problem))
    written = N * C * problem.element_size
    flat = problem.routing == "flat"
    return Work(
        stage="combine",
        kernel="_combine_kernel",
        programs=cdiv(N, TILE // block_c) * wide,
        read=y + 4 * M * wide,
        written=written,
        touched=y + 4 * M + written,
        start=4 if flat else 3,
        fillings=2 * problem.k if flat else cdiv(problem.k, 8),
    )


def grouped(problem: Problem, options: Grouped, experts: Histogram) -> tuple[Work, ...]:
    """Return the launches of `kernels.ops.grouped.grouped`, in order."""
    return (
        route(problem, options.router) if problem.routing == "gate" else count(problem),
        dispatch(problem, options.router),
        product(problem, options, "first", experts),
        product(problem, options, "second", experts),
        *(sort_rows(problem) if problem.routing == "flat" else ()),
        combine(problem, options.second.splits),
    )


def fused_tiles(problem: Problem, options: FusedTiles) -> Work:
    """Return the work of `ops.fused_tiles` where the rows of a tile use as many experts as they can."""
    N, D, H, E, C, k, size = (*sizes(problem), problem.element_size)
    rows, gated, halves = options.tile_rows, problem.routing == "gate", problem.halves
    least = 64 if size == 2 and rows < 64 else 16
    block_e, block_h = max(least, next_power_of_2(E)), max(least, options.hidden)
    block_c = max(least, min(next_power_of_2(C), MOST_COLUMNS))
    slices = sliced(H, options.hidden, options.slices)[0]
    groups, tiles, wide = cdiv(E, options.experts), cdiv(N, rows), cdiv(C, block_c)
    parts, steps = groups * slices, cdiv(D, options.depth)
    used = min(E, min(rows, N) * k)
    gates = parts if gated else 0
    idle = gates * (E - used) // E  # with a gate each program runs its first expert, used or not
    items, columns = used * cdiv(H, options.hidden) + idle, used * H + idle * min(options.hidden, H)
    expert = steps * options.depth * block_h * halves + block_h * block_c
    gate = steps * options.depth * block_e
    return Work(
        stage="fused",
        kernel="_fused_tiles_kernel",
        programs=tiles * wide * (parts if gated else min(parts, used * slices)),
        flops=2 * tiles * wide * rows * (items * expert + gates * gate),
        read=wide * size * (N * D * items + tiles * (D + 1) * (columns * halves + gates * E))
        + size * tiles * (columns + items) * C
        + (0 if gated else 8 * N * k * parts * wide)
        + (4 * parts * N * C if parts > 1 else 0),
        written=N * C * size + (4 * parts * N * C if parts > 1 else 0),
        touched=least_bytes(problem, min(E, N * k)),
        unit=unit_of(problem.dtype, options.precision),
        tile=(rows, block_h),
        start=3 + gated * cdiv(k, 4) + 2 * (parts > 1),
        fillings=cdiv(items, parts) * (1 + cdiv(steps, options.stages)),
        warps=options.warps,
        held=rows * (block_h * halves + block_c + (block_e if gated else 0)),
        shared=(rows + block_h * halves + (block_e if gated else 0)) * options.depth * size * options.stages,
    )


def fused_rows(problem: Problem, options: FusedRows) -> Work:
    """Return the work of `ops.fused_rows`; what it multiplies without a dot counts as if with one."""
    N, D, H, E, C, k, size = (*sizes(problem), problem.element_size)
    gated, halves, hidden = problem.routing == "gate", problem.halves, options.hidden
    slices, blocks = sliced(H, hidden, options.slices)
    block_e, block_c = next_power_of_2(E), min(next_power_of_2(C), MOST_COLUMNS)
    gate_depth = max(1, options.depth * hidden // block_e)
    parts, wide = k * slices, cdiv(C, block_c)
    programs = N * parts * wide
    steps, gate_steps = cdiv(D, options.depth), cdiv(D, gate_depth) if gated else 0
    expert = blocks * hidden * (steps * options.depth * halves + block_c)
    return Work(
        stage="fused",
        kernel="_fused_rows_kernel",
        programs=programs,
        flops=2 * programs * (expert + gate_steps * gate_depth * block_e),
        read=size * programs * (D * blocks * halves + gated * (D + (D + 1) * E))
        + size * N * k * (wide * (D + 1) * H * halves + H * C + slices * C)
        + (0 if gated else 8 * programs)
        + (4 * parts * N * C if parts > 1 else 0),
        written=N * C * size + (4 * parts * N * C if parts > 1 else 0),
        touched=least_bytes(problem, min(E, N * k)),
        start=2 + gated * cdiv(k, 4) + 2 * (parts > 1),
        fillings=gate_steps + blocks * (1 + steps * halves),
        warps=options.warps,
        held=hidden * (options.depth + block_c),
    )


def sizes(problem: Problem) -> tuple[int, int, int, int, int, int]:
    """Return N, D, H, E, C and k."""
    return problem.N, problem.D, problem.H, problem.E, problem.C, problem.k


def y_size(problem: Problem) -> int:
    """Return the bytes of one value of the experts' outputs before the combine."""
    return 4 if problem.C <= EXACT_COLUMNS else problem.element_size


def least_bytes(problem: Problem, used: int) -> int:
    """Return the bytes that any execution moves: each input once, weights of `used` experts, each output once."""
    N, D, H, E, C, _ = sizes(problem)
    values = N * (D + C) + used * ((D + 1) * H * problem.halves + (H + 1) * C)
    if problem.routing == "gate":
        return problem.element_size * (values + (D + 1) * E)
    given = 8 if problem.routing == "top_k" else 12  # int32 ids or rows and experts, fp32 weights
    return problem.element_size * values + given * problem.M
