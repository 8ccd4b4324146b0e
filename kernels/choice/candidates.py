"""Which options may be chosen at all: tiles that compile without spills on the machine, for each path.

`python -m kernels.inspect` compiles those that are chosen, ahead of time for sm_80, sm_90 and sm_100. N and the
routing change nothing in what compiles, so a layer has few kernels.

N rows, D input width, H hidden width of one expert, E experts, k experts per row, C output width, M assignments.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Literal, TypeVar

from kernels.choice.work import Unit, balanced, product_shared, unit_of
from kernels.choice.work import fused_tiles as fused_tiles_work
from kernels.choice.work import route as route_work
from kernels.launch.integers import cdiv, next_power_of_2
from kernels.ops.fused import MOST_COLUMNS, MOST_PARTS, sliced
from kernels.problem.machine import Machine
from kernels.problem.options import FusedRows, FusedTiles, Product, Router
from kernels.problem.problem import Problem

Which = Literal["first", "second"]

Part = TypeVar("Part", Router, Product, FusedTiles)

MOST_SPLITS = 8
"""Programs that share one sum at most: beyond, adding up costs more than it hides."""

RESERVED = 1024
"""Bytes of shared memory that are left to the compiler: barriers, and sums across warps."""


def unit(problem: Problem) -> Unit:
    """Return what multiplies in the experts' products."""
    return unit_of(problem.dtype, problem.precision)


def ragged(problem: Problem) -> bool:
    """Return whether values are read one by one, since rows are not a multiple of 16 values apart; C may be small."""
    return any(width % 16 for width in (problem.D, problem.H)) or (problem.C > 64 and problem.C % 16 > 0)


def heights(problem: Problem) -> list[int]:
    """Return the tile heights worth a look, tallest first: a quarter to twice of what the rows of an expert fill.

    Twice costs little where reading weights takes the time, and serves an expert that has more rows than the others.
    """
    tallest = 64 if unit(problem) == "fp32" or ragged(problem) else 128
    filled = min(max(16, next_power_of_2(max(rows for rows, _ in balanced(problem)))), tallest)
    return [height for height in (128, 64, 32, 16) if filled // 4 <= height <= min(2 * filled, tallest)]


def routers(problem: Problem, machine: Machine) -> Iterator[Router]:
    """Yield what may apply the gate: few rows share its depth among programs, many rows take taller tiles.

    Tall tiles also leave the dispatch fewer counts to read. The scores of a tile must fit its registers.
    """
    E, half = problem.E, problem.element_size == 2
    if problem.routing != "gate":
        yield Router(tile_rows=16, depth=32, warps=4, stages=3)
        return
    depth = _at_most(problem.D, 64 if half and E <= 128 else 32 if half or E <= 256 else 16)
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
            if splits == 1 or (splits <= most_splits and tiles * splits <= machine.multiprocessors):
                warps = 8 if tile_rows * columns > 64 * 64 else 4
                router = Router(tile_rows=tile_rows, depth=depth, warps=warps, stages=3, splits=splits)
                yield from _staged(router, machine, lambda part: route_work(problem, part).shared)


def products(problem: Problem, machine: Machine, which: Which, tile_rows: int) -> Iterator[Product]:
    """Yield what may compute one of the two products in tiles of `tile_rows` rows."""
    halves = problem.halves if which == "first" else 1
    for part in _products(problem, machine, which, tile_rows):
        yield from _staged(
            part, machine, lambda staged: product_shared(staged, tile_rows, halves, problem.element_size)
        )


def _products(problem: Problem, machine: Machine, which: Which, tile_rows: int) -> Iterator[Product]:
    """Yield the same for any size of shared memory."""
    first = which == "first"
    deep, wide, halves = (problem.D, problem.H, problem.halves) if first else (problem.H, problem.C, 1)
    activation = problem.activation if first else None
    cores = machine.capability >= 90 and unit(problem) != "fp32"
    swapped = tile_rows < 64 and cores
    described = cores and problem.described[not first] and wide * problem.element_size % 16 == 0
    tiles = cdiv(problem.M, tile_rows) + problem.E
    for columns, depth, warps, stages in _tiles(problem, machine, tile_rows, halves, activation):
        columns = max(64 if swapped else 16, _at_most(wide, columns))
        depth = _at_most(deep, depth)
        programs = tiles * cdiv(wide, columns)
        plain = Product(columns, depth, warps, min(stages, cdiv(deep, depth)), swapped=swapped, described=described)
        yield plain
        many = programs >= 2 * machine.multiprocessors
        if (
            many
            and described
            and unit(problem) == "half"
            and tile_rows >= 64
            and _loops(tile_rows, columns, halves, deep, activation)
        ):
            yield replace(plain, persistent=True)
        for splits in (2, 4, MOST_SPLITS):
            few = programs * splits <= 2 * machine.multiprocessors and deep >= 2 * depth * splits
            if few and not first:
                yield replace(plain, splits=splits, stages=min(stages, cdiv(deep, depth * splits)))


def _loops(tile_rows: int, columns: int, halves: int, deep: int, activation: str | None) -> bool:
    """Return whether a persistent 16-bit product in described tiles of 64 or 128 rows compiles without spills."""
    if columns * halves == 128 or (tile_rows == 64 and halves == 2 and columns == 128):
        return True
    return columns == 256 and deep >= 2048 and activation in ("relu", None)


def _tiles(
    problem: Problem, machine: Machine, tile_rows: int, halves: int, activation: str | None
) -> list[tuple[int, int, int, int]]:
    """Return columns, depth, warps and stages of a product in tiles of `tile_rows` rows."""
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
    if tile_rows < 64:
        return [(64, 128 // halves, 4, 4), (128, 64, 4, 4)] if machine.capability >= 90 else [(64, 64, 4, 4)]
    if tile_rows == 64:
        return [(64, 64, 4, 4), (128, 64, 4 * halves, 4)]
    if halves == 2:
        return [(64, 64, 8, 4), (128, 64, 8, 3)] if machine.capability >= 90 else [(64, 64, 8, 4)]
    widest = [(256, 64, 8, 3)] if machine.capability >= 90 and activation != "gelu" else []
    return [(64, 64, 4, 4), (128, 64, 8, 3), *widest]


def fused_tiles(problem: Problem, machine: Machine) -> Iterator[FusedTiles]:
    """Yield what may compute everything in one launch for a tile of rows: some experts whole, or a part of one."""
    if problem.routing == "flat" or problem.C > MOST_COLUMNS:
        return
    filled = max(16, next_power_of_2(problem.N))
    for tile_rows in (128, 64, 32, 16):
        if tile_rows > filled or tile_rows * 4096 < filled:
            continue
        for hidden in (64, 32, 16):
            blocks = cdiv(problem.H, hidden)
            if hidden > 16 and blocks == cdiv(problem.H, hidden // 2):
                continue  # narrower than this
            parts = {(experts, 1) for experts in (2, 4, problem.E) if experts <= problem.E and hidden >= 32}
            for experts, slices in sorted(parts | {(1, 1), (1, cdiv(blocks, 2)), (1, blocks)}):
                items = experts * cdiv(blocks, slices)
                found = _fused_tile(problem, machine, tile_rows, hidden, items)
                parts_of_sum = cdiv(problem.E, experts) * sliced(problem.H, hidden, slices)[0]
                if found is not None and parts_of_sum <= MOST_PARTS:
                    depth, warps, stages = found
                    tiles = FusedTiles(
                        tile_rows=tile_rows,
                        experts=experts,
                        slices=slices,
                        hidden=hidden,
                        depth=_at_most(problem.D, depth),
                        warps=warps,
                        stages=stages,
                        precision=problem.precision,
                    )
                    yield from _staged(tiles, machine, lambda part: fused_tiles_work(problem, part).shared)


def _fused_tile(
    problem: Problem, machine: Machine, tile_rows: int, hidden: int, items: int
) -> tuple[int, int, int] | None:
    """Return depth, warps and stages of a program that runs `items` blocks of hidden columns; None where it spills."""
    wide = problem.E > 16 or problem.C > 64
    most = 128 if unit(problem) == "half" and problem.halves == 1 else 64
    if unit(problem) == "fp32" and wide:
        most = 16
    elif ragged(problem) or problem.E > 128:
        most = 32 if problem.E <= 256 else 16
    elif machine.capability < 90:
        most = 64
    if tile_rows > most:
        return None
    if ragged(problem) or problem.E > 128:
        return 32, 8, 2
    if unit(problem) == "fp32":
        narrow = hidden == 64 and (wide or (tile_rows == 64 and items > 1))
        return None if narrow else (32, 8, 2 if wide else 3)
    if unit(problem) == "tf32":
        return (64, 4, 3) if tile_rows <= 32 and items == 1 else (32, 4 if items == 1 else 8, 3)
    if machine.capability < 90:
        simple = items == 1 and problem.halves == 1 and not wide and (tile_rows < 64 or hidden == 64)
        return (64, 4 if tile_rows == 64 else 8, 4) if simple else (32, 8, 4)
    warps = 4 if items == 1 and tile_rows <= 64 else 8
    if wide and machine.capability > 90:
        return 32, 8, 3
    if wide or tile_rows >= 64:
        return 64, warps, 3 if problem.halves == 2 or items > 1 else 4
    return 128, warps, 3 if problem.halves == 2 or items > 1 else 4


def fused_rows(problem: Problem) -> Iterator[FusedRows]:
    """Yield what may compute everything in one launch, each expert of each row, or a part of one, by itself."""
    if problem.routing == "flat" or problem.N > 64:
        return
    for hidden, depth, warps in ((32, 256, 4), (16, 512, 4)) + ((64, 128, 8),) * (not ragged(problem)):
        blocks = cdiv(problem.H, hidden)
        for slices in sorted({1, cdiv(blocks, 4), blocks}):
            if problem.k * sliced(problem.H, hidden, slices)[0] <= MOST_PARTS:
                yield FusedRows(slices=slices, hidden=hidden, depth=_at_most(problem.D, depth), warps=warps)


def _staged(part: Part, machine: Machine, shared: Callable[[Part], int]) -> Iterator[Part]:
    """Yield `part` with as many of its stages as fit the machine's shared memory; nothing where one is too much."""
    for stages in range(part.stages, 0, -1):
        fewer = replace(part, stages=stages)
        if shared(fewer) + RESERVED <= machine.shared_bytes:
            yield fewer
            return


def _at_most(size: int, most: int) -> int:
    """Return the power of two from 16 to `most` that holds `size`, or else `most`."""
    return min(most, max(16, next_power_of_2(size)))
