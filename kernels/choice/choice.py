"""The choice of path and tiles: the options of least estimated time on a machine.

A call takes the sum, over its launches, of

    launch + max(touched x missing / DRAM,
                 asked / L2,
                 max(rounds x max(F / (share x FLOP rate of a multiprocessor), B / its rate from L2),
                     waves x fillings x wait)
                 + waves x start x wait)

with, for each launch (`kernels.choice.work` counts it):

    touched    bytes of different values; missing is the share that the L2 cache does not still hold from the call
               before: all when cold, else 1 - L2 size / touched bytes of the whole call, at least 0
    asked      bytes that programs read and write
    F, B       FLOPs and bytes of one program
    rounds     programs over multiprocessors, rounded up: a last round takes as long as a full one
    waves      programs over those that the device holds at once, as shared memory, registers and threads allow, rounded
               up; a persistent product has one program per multiprocessor, which starts a tile while it ends another,
               so that its `start` counts once
    share      of the FLOP rate that a tile of r rows and c columns lets a multiprocessor reach, 1 / (1 + 16/r + 16/c),
               an estimate: the smaller the tile, the more operands each FLOP takes from shared memory; half of it
               without tensor cores
    wait       of one dependent read, longer by the share that is missing

The rates stand in `kernels.problem.machine`. The table of a layer is made once, N by N on a ladder of powers of two and
one step between them, from the largest down: the options stay until others promise to be 5 % faster, so that a layer
needs few of them, and has tiles rather too tall than too low for an expert that has more rows than the others.

N rows, D input width, H hidden width of one expert, E experts, k experts per row, C output width, M assignments.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache, partial
from heapq import nsmallest
from itertools import product as combinations

from kernels.choice import candidates
from kernels.choice.account import works
from kernels.choice.work import Work, balanced
from kernels.launch.integers import cdiv
from kernels.launch.tickets import MOST
from kernels.ops.fused import MOST_COLUMNS, sliced
from kernels.problem.machine import Machine
from kernels.problem.options import FusedRows, Grouped, Options, Precision, Product, Router
from kernels.problem.problem import Problem

LADDER = tuple(sorted({size for power in range(20) for size in (2**power, 3 * 2**power // 2)} | {2**20}))
"""N for which options are chosen; another N has those of the next one up, and one beyond the last those of the last."""

WORTH = 1.05
"""How many times faster other options must promise to be to replace those of the next larger N."""


@lru_cache(maxsize=4096)
def choose(problem: Problem, machine: Machine) -> Options:
    """Return the options for a call: the same for all N between two steps of the ladder. N and M must not be 0."""
    N = problem.M if problem.routing == "flat" else problem.N
    return _table(_layer(problem, 1), machine)[min(bisect_left(LADDER, N), len(LADDER) - 1)]


def reachable(problem: Problem, machine: Machine) -> list[tuple[int, Options]]:
    """Return all options that `choose` may return for this layer, whatever N, each with the least N that has them."""
    layer = _layer(problem, 1)
    first = {options: N for N, options in reversed(list(zip(LADDER, _table(layer, machine), strict=True)))}
    return sorted(((N, options) for options, N in first.items()), key=lambda pair: pair[0])


def _layer(problem: Problem, N: int) -> Problem:
    """Return the same layer for N rows; for a flat list, for N assignments of a row each."""
    k = 1 if problem.routing == "flat" else problem.k
    return replace(problem, N=N, k=k, M=N * k)


@lru_cache(maxsize=256)
def _table(layer: Problem, machine: Machine) -> tuple[Options, ...]:
    """Return the options of each step of the ladder; those of the last are good for any N beyond."""
    table: list[Options] = []
    for N in reversed(LADDER):
        problem, reach = _layer(layer, N), N if table else math.inf
        times = {
            options: estimate(problem, options, machine)
            for options in (*table[-1:], *options_of(problem, machine))
            if most_rows(layer, options) >= reach and _fits(problem, options)
        }
        best = min(times, key=times.__getitem__)
        kept = table[-1] if table and table[-1] in times else best
        table.append(best if times[kept] > WORTH * times[best] else kept)
    return tuple(reversed(table))


def _fits(problem: Problem, options: Options) -> bool:
    return not isinstance(options, Grouped) or options.tile_rows in candidates.heights(problem)


def options_of(problem: Problem, machine: Machine, each: int = 1) -> list[Options]:
    """Return the options worth a look: all of the fused paths, and per tile height the best parts of the grouped.

    Launches add up, so what is best for each launch is best for the path; `each` is how many of each are put together.
    """
    found: list[Options] = [*candidates.fused_rows(problem), *candidates.fused_tiles(problem, machine)]
    for tile_rows in candidates.heights(problem):
        found.extend(_grouped(problem, machine, tile_rows, each))
    return [options for options in found if most_rows(problem, options) >= problem.N]


def _grouped(problem: Problem, machine: Machine, tile_rows: int, each: int) -> Iterator[Grouped]:
    """Yield the grouped path in tiles of `tile_rows` rows, with the `each` best of each part."""
    routers = list(candidates.routers(problem, machine))
    first, second = (list(candidates.products(problem, machine, which, tile_rows)) for which in ("first", "second"))
    if not (routers and first and second):
        return
    path = partial(_path, tile_rows, problem.precision)

    def best(paths: Iterable[Grouped]) -> list[Grouped]:
        return nsmallest(each, paths, key=lambda options: estimate(problem, options, machine))

    chosen = combinations(
        [options.router for options in best(path(router, first[0], second[0]) for router in routers)],
        [options.first for options in best(path(routers[0], part, second[0]) for part in first)],
        [options.second for options in best(path(routers[0], first[0], part) for part in second)],
    )
    yield from (path(*parts) for parts in chosen)


@lru_cache(maxsize=4096)
def _path(tile_rows: int, precision: Precision, router: Router, first: Product, second: Product) -> Grouped:
    return Grouped(tile_rows, router, first, second, precision)


def most_rows(problem: Problem, options: Options) -> float:
    """Return the largest N for which `options` can be used, since the sums that programs share have tickets."""
    if isinstance(options, Grouped):
        return math.inf if options.router.splits == 1 else MOST * options.router.tile_rows
    groups = problem.k if isinstance(options, FusedRows) else cdiv(problem.E, options.experts)
    if groups * sliced(problem.H, options.hidden, options.slices)[0] == 1:
        return math.inf
    rows = 1 if isinstance(options, FusedRows) else options.tile_rows
    return MOST // cdiv(problem.C, MOST_COLUMNS) * rows


def estimate(problem: Problem, options: Options, machine: Machine, *, cold: bool = False) -> float:
    """Return the seconds of one call in a CUDA graph, rows balanced; `cold` if nothing is in the L2 cache before."""
    launches = works(problem, options, balanced(problem))
    missing = _missing(launches, machine, cold)
    return sum(seconds(work, machine, missing) for work in launches)


def _missing(launches: Iterable[Work], machine: Machine, cold: bool) -> float:
    touched = sum(work.touched for work in launches)
    return 1.0 if cold else max(0.0, 1 - machine.l2_bytes / max(touched, 1))


def seconds(work: Work, machine: Machine, missing: float) -> float:
    """Return the seconds of one launch, where `missing` of what it touches is not in the L2 cache."""
    asked = work.read + work.written
    rounds = cdiv(work.programs, machine.multiprocessors)
    waves = cdiv(rounds, held_at_once(work, machine))
    wait = machine.wait_seconds * (1 + missing)
    arithmetic = rounds * work.flops / work.programs / (share(work) * rate(work, machine) / machine.multiprocessors)
    transfer = rounds * asked / work.programs / machine.multiprocessor_rate
    loop = max(arithmetic, transfer, waves * work.fillings * wait)
    start = (1 if work.persistent else waves) * work.start * wait
    return machine.launch_seconds + max(
        work.touched * missing / machine.dram_rate, asked / machine.l2_rate, loop + start
    )


def rate(work: Work, machine: Machine) -> float:
    """Return the FLOP/s of what multiplies."""
    return {"half": machine.half_rate, "tf32": machine.tf32_rate, "fp32": machine.fp32_rate}[work.unit]


def share(work: Work) -> float:
    """Return the share of the FLOP rate that the tile of a launch can reach."""
    rows, columns = work.tile
    reached = 1 / (1 + 16 / rows + 16 / columns) if rows else 1.0
    return reached / 2 if work.unit == "fp32" else reached


def held_at_once(work: Work, machine: Machine) -> int:
    """Return how many programs of a launch one multiprocessor holds at once: 64 warps, 65536 registers."""
    registers = (work.held // (32 * work.warps) + 64) * 32 * work.warps
    if work.persistent:
        return 1
    places = min(64 // work.warps, 65536 // registers, machine.shared_bytes // max(work.shared, 1))
    return max(1, min(places, 16))
