"""What decides which tiles compile without spills on a machine, for every path.

`python -m kernels.inspect` compiles those that are chosen, ahead of time for sm_80, sm_90 and sm_100. N and the
routing change nothing in what compiles, so a layer has few kernels.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

from kernels.cost.machine import Machine
from kernels.cost.work import Unit, unit_of
from kernels.launch.integers import next_power_of_2
from kernels.problem.problem import Problem

Staged = TypeVar("Staged", bound=Any)
"""A dataclass with a field `stages`."""

RESERVED = 1024
"""Bytes of shared memory that are left to the compiler: barriers, and sums across warps."""


def unit(problem: Problem) -> Unit:
    """Return what multiplies in the experts' products."""
    return unit_of(problem.dtype, problem.precision)


def ragged(problem: Problem) -> bool:
    """Return whether values are read one by one, since rows are not a multiple of 16 values apart; C may be small."""
    return any(width % 16 for width in (problem.D, problem.H)) or (problem.C > 64 and problem.C % 16 > 0)


def staged(options: Staged, machine: Machine, shared: Callable[[Staged], int]) -> Iterator[Staged]:
    """Yield `options` with as many of its stages as fit the machine's shared memory; nothing if one is too much."""
    for stages in range(options.stages, 0, -1):
        fewer = replace(options, stages=stages)
        if shared(fewer) + RESERVED <= machine.shared_bytes:
            yield fewer
            return


def at_most(size: int, most: int) -> int:
    """Return the power of two from 16 to `most` that holds `size`, or else `most`."""
    return min(most, max(16, next_power_of_2(size)))
