"""The choice of path and tiles: the options of least estimated time on a machine (`kernels.cost.seconds`).

The table of a layer is made once, for each N on a ladder of powers of two with one step between them, from the largest
down. Options are kept until others are estimated to be 5 % faster. So a layer needs few options, and its tiles are
rather too tall than too low, which suits an expert that has more rows than the others.

N rows, k experts per row, M assignments.
"""

import math
from bisect import bisect_left
from dataclasses import replace
from functools import lru_cache

from kernels.cost.machine import Machine
from kernels.paths.options import Options
from kernels.paths.paths import PATHS
from kernels.problem.problem import Problem

LADDER = tuple(sorted({size for power in range(20) for size in (2**power, 3 * 2**power // 2)} | {2**20}))
"""N for which options are chosen; any other N has those of the next step up, and a larger N those of the last step."""

WORTH = 1.05
"""Other options replace those of the next larger N only if they are estimated to be this many times faster."""


@lru_cache(maxsize=4096)
def choose(problem: Problem, machine: Machine) -> Options:
    """Return the options for a call, the same for all N between two steps of the ladder; N and M must not be 0."""
    N = problem.M if problem.routing == "flat" else problem.N
    return _table(_layer(problem, 1), machine)[min(bisect_left(LADDER, N), len(LADDER) - 1)]


def reachable(problem: Problem, machine: Machine) -> list[tuple[int, Options]]:
    """Return all options that `choose` may return for this layer at any N, each with its least N."""
    layer = _layer(problem, 1)
    first = {options: N for N, options in reversed(list(zip(LADDER, _table(layer, machine), strict=True)))}
    return sorted(((N, options) for options, N in first.items()), key=lambda pair: pair[0])


def _layer(problem: Problem, N: int) -> Problem:
    """Return the same layer for N rows, or for a flat list of N assignments."""
    k = 1 if problem.routing == "flat" else problem.k
    return replace(problem, N=N, k=k, M=N * k)


@lru_cache(maxsize=256)
def _table(layer: Problem, machine: Machine) -> tuple[Options, ...]:
    """Return the options of each step of the ladder; those of the last step allow any larger N."""
    table: list[Options] = []
    for N in reversed(LADDER):
        problem, reach = _layer(layer, N), N if table else math.inf
        times = {
            options: options.seconds(problem, machine)
            for options in (*table[-1:], *options_of(problem, machine))
            if options.most_rows(layer) >= reach and options.suitable(problem)
        }
        best = min(times, key=times.__getitem__)
        kept = table[-1] if table and table[-1] in times else best
        table.append(best if times[kept] > WORTH * times[best] else kept)
    return tuple(reversed(table))


def options_of(problem: Problem, machine: Machine, each: int = 1) -> list[Options]:
    """Return the options to try of every path; if parts are chosen one by one, the `each` best are combined."""
    paths = [path for path in PATHS if path.takes_stored or not problem.is_stored]
    every = (options for path in paths for options in path.candidates(problem, machine, each))
    return [options for options in every if options.most_rows(problem) >= problem.N]
