"""The tiles that the grouped path tries: they compile without spills, and rows fill their height.

N rows, D input width, H hidden width of one expert, E experts, k experts per row, C output width, M assignments.
"""

from collections.abc import Iterator
from dataclasses import replace

from kernels.cost.machine import Machine
from kernels.cost.work import balanced
from kernels.launch.integers import cdiv, next_power_of_2
from kernels.ops.grouped_gemm import Which, product_sizes, shared_bytes
from kernels.ops.router import shared_bytes as router_bytes
from kernels.ops.stored_gemm import stored_bytes
from kernels.paths.candidates import at_most, ragged, staged, unit
from kernels.problem.activation import column_blocks
from kernels.problem.options import Product, Router
from kernels.problem.problem import Problem

WIDE = (None, "relu", "interleaved_swiglu")
"""Activations whose epilogue leaves registers for persistent sums of 256 columns."""

MOST_SPLITS = 8
"""The most programs that share one sum: with more, adding up costs more than it hides."""


def heights(problem: Problem) -> list[int]:
    """Return the tile heights to try, tallest first: from a quarter to twice the rows of an expert.

    Twice as tall costs little if reading weights takes the time, and suits an expert with more rows than the others.
    """
    tallest = 64 if unit(problem) == "fp32" or ragged(problem) else 128
    filled = min(max(16, next_power_of_2(max(rows for rows, _ in balanced(problem)))), tallest)
    return [height for height in (128, 64, 32, 16) if filled // 4 <= height <= min(2 * filled, tallest)]


def routers(problem: Problem, machine: Machine) -> Iterator[Router]:
    """Yield options of the gate: for few rows programs share its depth, for many rows tiles are taller.

    Tall tiles also leave fewer counts for the dispatch to read. The scores of a tile must fit its registers.
    """
    E, half = problem.E, problem.element_size == 2
    if problem.routing != "gate":
        yield Router(tile_rows=16, depth=32, warps=4, stages=3)
        return
    depth = at_most(problem.D, 64 if half and E <= 128 else 32 if half or E <= 256 else 16)
    most_splits = cdiv(problem.D, 2 * depth)
    columns = max(16, next_power_of_2(E))
    most = 128 * 128 if half else 64 * 128
    for tile_rows in (16, 32, 64, 128) if half else (16, 32, 64):
        tiles = cdiv(problem.N, tile_rows)
        for splits in (1, 4, 8):
            if tile_rows > max(16, most // columns // (1 if splits == 1 else 2)):
                continue
            if half and tile_rows == 32 and E > 64 and machine.capability >= 100:
                continue
            if machine.amd and tile_rows > 64 and ragged(problem):
                continue
            if splits == 1 or (splits <= most_splits and tiles * splits <= machine.multiprocessors):
                warps = 8 if tile_rows * columns > (64 * 64 if half else 32 * 64) else 4
                router = Router(tile_rows=tile_rows, depth=depth, warps=warps, stages=3, splits=splits)
                yield from staged(router, machine, lambda part: router_bytes(problem, part))


def products(problem: Problem, machine: Machine, which: Which, tile_rows: int) -> Iterator[Product]:
    """Yield options of one of the two products in tiles of `tile_rows` rows."""
    halves = problem.halves if which == "first" else 1
    size, scheme = problem.element_size, problem.stored[which == "second"]
    if scheme is not None:
        for part in _stored_products(problem, machine, which, tile_rows):
            yield from staged(part, machine, lambda options: stored_bytes(options, tile_rows, halves, size, scheme))
        return
    for part in _products(problem, machine, which, tile_rows):
        yield from staged(part, machine, lambda options: shared_bytes(options, tile_rows, halves, size))


def _stored_products(problem: Problem, machine: Machine, which: Which, tile_rows: int) -> Iterator[Product]:
    """Yield the same options for weights stored in 8 or 4 bits."""
    deep, wide, halves = product_sizes(problem, which)
    tiles = cdiv(problem.M, tile_rows) + problem.E
    for columns, most_depth, warps, stages in _stored_tiles(problem, machine, tile_rows, halves):
        depth = max(32, at_most(deep, most_depth))
        plain = Product(columns, depth, warps, min(stages, cdiv(deep, depth)), swapped=True)
        yield plain
        for splits in (2, 4, MOST_SPLITS):
            few = tiles * cdiv(wide, columns) * splits <= 2 * machine.multiprocessors and deep >= 2 * depth * splits
            if few and which == "second":
                yield replace(plain, splits=splits, stages=min(stages, cdiv(deep, depth * splits)))


def _stored_tiles(problem: Problem, machine: Machine, tile_rows: int, halves: int) -> list[tuple[int, int, int, int]]:
    """Return columns, depth, warps and stages of a product with stored weights; its tiles are `tile_rows` high."""
    if unit(problem) != "half":
        return [(64, 32, 8 if tile_rows >= 32 else 4, 3)]
    if tile_rows >= 64:
        return [(128 // halves, 64 * halves if machine.asynchronous else 64, 8, 3)]
    warps = 4 if machine.capability // 10 == 9 else 8
    narrow = [(64, 128, 4, 4)] * (halves == 1)
    widest = [(256 // halves, 128, 8, 4)] * (machine.asynchronous and (halves == 1 or machine.capability < 100))
    return [*narrow, (128 // halves, 128, warps, 4), *widest]


def _products(problem: Problem, machine: Machine, which: Which, tile_rows: int) -> Iterator[Product]:
    """Yield the same options, but regardless of the size of the shared memory."""
    first = which == "first"
    deep, wide, halves = product_sizes(problem, which)
    activation = problem.activation if first else None
    cores = unit(problem) != "fp32"
    swapped = tile_rows < 64 and cores and machine.asynchronous
    aligned = problem.described[not first] and wide * problem.element_size % 16 == 0
    described = machine.capability >= 90 and cores and aligned
    tiles = cdiv(problem.M, tile_rows) + problem.E
    for columns, depth, warps, stages in _tiles(problem, machine, tile_rows, halves, activation):
        columns = max(64 if swapped else 16, at_most(wide, columns))
        depth = at_most(deep, depth)
        if columns < 64 and tile_rows == 128 and machine.asynchronous:
            warps = 8  # four would wait for the first 64 rows before they multiply the others
        programs = tiles * cdiv(wide, columns)
        plain = Product(columns, depth, warps, min(stages, cdiv(deep, depth)), swapped=swapped, described=described)
        yield plain
        many = programs >= 2 * machine.multiprocessors
        if (
            many
            and described
            and unit(problem) == "half"
            and tile_rows >= 64
            and (machine.capability < 100 or halves == 1)
            and (columns * halves == 128 or (columns * halves == 256 and activation in WIDE))
        ):
            yield replace(plain, persistent=True)
        for splits in (2, 4, MOST_SPLITS):
            few = programs * splits <= 2 * machine.multiprocessors and deep >= 2 * depth * splits
            if few and not first:
                yield replace(plain, splits=splits, stages=min(stages, cdiv(deep, depth * splits)))


def _tiles(
    problem: Problem, machine: Machine, tile_rows: int, halves: int, activation: str | None
) -> list[tuple[int, int, int, int]]:
    """Return columns, depth, warps and stages of a product in tiles of `tile_rows` rows."""
    stacked = column_blocks(activation) == 2
    if unit(problem) == "fp32":
        return (
            [(64, 16, 8, 3 if problem.E <= 256 else 2)]
            if tile_rows == 64
            else [(64, 32, 8 if tile_rows == 32 else 4, 3)]
        )
    if ragged(problem):
        return [(64, 32, 4, 3)]
    if unit(problem) == "tf32":
        return [(64, 32, 4, 4)] if tile_rows < 64 else [(64, 32, 8, 3), (128, 32, 8, 3)][: 3 - halves]
    if machine.amd:
        return _mfma_tiles(tile_rows, halves, 3 - machine.register_stages)
    if tile_rows < 64:
        return [(64, 128 // halves, 4, 4), (128, 64, 4, 4)] if machine.asynchronous else [(64, 64, 4, 4)]
    if tile_rows == 64:
        many = stacked or (halves == 2 and machine.capability >= 120)
        return [(64, 64, 4, 4), (128, 64, 8 if many else 4, 4)]
    if halves == 2:
        widest = [(128, 64, 8, 3)] if machine.asynchronous and (stacked or machine.capability < 100) else []
        return [(64, 64, 8, 3 if machine.asynchronous else 4), *widest]
    widest = [(256, 64, 8, 3)] if machine.asynchronous and activation != "gelu" else []
    return [(64, 64, 4, 4), (128, 64, 8, 3), *widest]


def _mfma_tiles(tile_rows: int, halves: int, stages: int) -> list[tuple[int, int, int, int]]:
    """Return the same for 16-bit products on an AMD GPU, whose 4 or 8 warps are of 64 threads."""
    if tile_rows < 64:
        return [(64, 64, 4, stages), (128, 64, 4, stages)]
    narrow = (64, 64, 4 if halves == 1 else 8, stages)
    widest = [(256, 64, 8, stages)] if tile_rows == 128 and halves == 1 else []
    return [narrow, (128, 64, 8, stages), *widest]
