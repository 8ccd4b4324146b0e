"""What one launch does: programs, FLOPs, bytes. Each kernel's stands beside what launches it, and must be kept true.

FLOPs are those that dots execute, 2 per multiply-add, whatever they multiply: unused rows of a tile, columns and
experts beyond the last. Bytes are those of values that programs ask for: a value that two programs read counts twice,
whichever memory answers. Masked-out values do not count, nor do the integers of the dispatch that tell a program
where its rows lie, except in the dispatch itself.

Every assignment is taken to have an expert, the gate's weights to have the dtype of x, and both biases to be there.

E experts, M assignments.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch

from kernels.launch.launch import Stage
from kernels.problem.problem import Problem

Unit = Literal["half", "tf32", "fp32"]
"""What multiplies: tensor cores on 16 bits or on tf32, or fp32 without tensor cores."""

Histogram = tuple[tuple[int, int], ...]
"""How many experts have how many rows, as (rows, experts) pairs; unused experts are left out."""


@dataclass(frozen=True)
class LaunchWork:
    """What one launch does, in sums over its programs unless said otherwise.

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
