"""The work of one launch: programs, FLOPs, bytes. Each kernel counts its work beside its launch; tests hold it true.

FLOPs are all that dots execute, 2 per multiply-add, including unused rows of a tile and columns and experts beyond the
last. Bytes are those of the values that programs ask for: a value that two programs read counts twice, whichever memory
answers. Masked-out values do not count. The integers of the dispatch that tell a program where its rows are count only
in the dispatch itself.

The counts assume that every assignment has an expert, that the gate has the dtype of x, and that no bias is missing.

E experts, M assignments.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch

from kernels.launch.integers import cdiv
from kernels.launch.launch import Stage
from kernels.problem.problem import Problem

Unit = Literal["half", "tf32", "fp32"]
"""The unit that multiplies: tensor cores on 16 bits or on tf32, or fp32 without tensor cores."""

Histogram = tuple[tuple[int, int], ...]
"""How many experts have how many rows, as (rows, experts) pairs; unused experts are left out."""

MOST_DRAWN = 10**9
"""Pairs of a row and an expert from which NumPy can draw; with more, rows are spread evenly."""


@dataclass(frozen=True)
class LaunchWork:
    """The work of one launch: sums over its programs unless they are said to be of one program.

    Attributes:
        stage: The part of the operation.
        kernel: Name of the Triton function, or of the torch operator.
        programs: Programs with work; the grid may have more, which end at once.
        flops: Executed.
        read: Bytes asked for.
        written: Bytes written.
        touched: Bytes of different values among them: the least that must come from memory or go there.
        unit: The unit that multiplies.
        tile: Rows and columns of a program's dot, as the tensor core sees them: columns x rows if it is transposed;
            (0, 0) without one.
        dots: Dots of a step that share the rows of the tile, as those of two halves do.
        start: Reads of one program outside its loop that each wait for the one before.
        fillings: How often the loop of one program waits for memory: once for each filling of its stages.
        warps: Warps of a program.
        held: fp32 values that one program accumulates in registers.
        shared: Bytes of shared memory that the operands of one program take.
        persistent: Whether one program runs tile after tile.
        instructions: Those that one warp executes, or 0 if nobody counted them.
        barriers: How often the warps of one program wait for each other.
        unpacked: Instructions of threads that turn weights stored in 8 or 4 bits into operands.
        passing: Bytes by which such a weight keeps the port of the shared memory busy; 0 if weights are not stored.
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
    dots: int = 1
    start: int = 2
    fillings: int = 0
    warps: int = 4
    held: int = 0
    shared: int = 0
    persistent: bool = False
    instructions: int = 0
    barriers: int = 0
    unpacked: int = 0
    passing: float = 0.0


def balanced(problem: Problem) -> Histogram:
    """Return the rows of the experts in use if the M assignments are spread as evenly as they can be."""
    least, more = divmod(problem.M, problem.E)
    return tuple(pair for pair in ((least + 1, more), (least, problem.E - more)) if all(pair))


@lru_cache(maxsize=4096)
def spread(problem: Problem) -> Histogram:
    """Return the rows of the experts in use if each row chooses its k experts at random, all alike; one fixed draw.

    Tiles fill worse than if all experts had the same number of rows: just above a tile's height half of them need two.
    """
    if problem.N * problem.E >= MOST_DRAWN or problem.M > problem.N * problem.E:
        return balanced(problem)
    rows = np.random.default_rng(0).multivariate_hypergeometric([problem.N] * problem.E, problem.M, method="marginals")
    return histogram(rows.tolist())


def histogram(rows_per_expert: Iterable[int]) -> Histogram:
    """Return the histogram of the rows of each expert, largest first."""
    rows = sorted((rows for rows in rows_per_expert if rows), reverse=True)
    return tuple((size, rows.count(size)) for size in dict.fromkeys(rows))


@lru_cache(maxsize=4096)
def tiles_of(experts: Histogram, tile_rows: int) -> int:
    """Return how many tiles of `tile_rows` rows the experts fill, the last of each in part."""
    return sum(cdiv(rows, tile_rows) * number for rows, number in experts)


def unit_of(dtype: torch.dtype, precision: str) -> Unit:
    """Return the unit that multiplies operands of `dtype`."""
    if dtype.itemsize == 2:
        return "half"
    return "tf32" if precision == "tf32" else "fp32"
