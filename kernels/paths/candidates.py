"""What every path needs to choose tiles that compile without spills on a machine.

`python -m kernels.inspect` compiles the choices ahead of time for the GPUs of `kernels.compiled.targets`. N and the
routing do not change which tiles compile, so a layer has few kernels.
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
"""Bytes of shared memory left to the compiler, for barriers and sums across warps."""


def unit(problem: Problem) -> Unit:
    """Return the unit that multiplies in the experts' products."""
    return unit_of(problem.dtype, problem.precision)


def ragged(problem: Problem) -> bool:
    """Return whether values are read one by one, because rows are no multiple of 16 values wide; C may be small."""
    return any(width % 16 for width in (problem.D, problem.H)) or (problem.C > 64 and problem.C % 16 > 0)


def staged(options: Staged, machine: Machine, shared: Callable[[Staged], int]) -> Iterator[Staged]:
    """Yield `options` with as many of its stages as the shared memory holds, or nothing if it cannot hold one."""
    for stages in range(options.stages, 0, -1):
        tried = options if stages == options.stages else replace(options, stages=stages)
        held = replace(tried, stages=max(1, stages - machine.register_stages)) if machine.register_stages else tried
        if shared(held) + RESERVED <= machine.shared_bytes:
            yield tried
            return


def at_most(size: int, most: int) -> int:
    """Return the least power of two from 16 on that holds `size`, but at most `most`."""
    return min(most, max(16, next_power_of_2(size)))
