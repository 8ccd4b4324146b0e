"""What a call costs before any clock runs: its launches, what each does, and the least that any execution must do.

`kernels.choice.work` says what counts as executed and as read. The least is products without padding, each input read
once (of the weights, those of experts in use), each output written once.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from kernels.choice.work import Histogram, Work, balanced, fused_rows, fused_tiles, grouped, histogram, least_bytes
from kernels.problem.options import FusedRows, FusedTiles, Options
from kernels.problem.problem import Problem


@dataclass(frozen=True)
class Account:
    """The launches of one call in order, and the least that any execution of it must do."""

    works: tuple[Work, ...]
    least_flops: int
    least_bytes: int

    @property
    def launches(self) -> int:
        """How many launches there are."""
        return len(self.works)

    @property
    def flops(self) -> int:
        """FLOPs executed, padding included."""
        return sum(work.flops for work in self.works)

    @property
    def read(self) -> int:
        """Bytes that programs ask for."""
        return sum(work.read for work in self.works)

    @property
    def written(self) -> int:
        """Bytes that programs write."""
        return sum(work.written for work in self.works)

    @property
    def padding(self) -> float:
        """Share of the executed FLOPs that no result needs."""
        return 1 - self.least_flops / self.flops if self.flops else 0.0

    def as_record(self) -> dict[str, int | float | str]:
        """Return the account as one flat record for JSON."""
        return {
            "launches": self.launches,
            "kernels": " ".join(work.kernel for work in self.works),
            "flops": self.flops,
            "least_flops": self.least_flops,
            "padding": self.padding,
            "bytes_read": self.read,
            "bytes_written": self.written,
            "least_bytes": self.least_bytes,
        }


def account(problem: Problem, options: Options, rows_per_expert: Iterable[int] | None = None) -> Account:
    """Return what `problem` costs under `options`.

    Args:
        problem: Sizes of the call; without rows or assignments nothing is launched.
        options: Path and tiles.
        rows_per_expert: Assignments of each expert, M together; by default as even as can be. The fused paths take
            the rows of a tile to use as many experts as they can.
    """
    experts = balanced(problem) if rows_per_expert is None else histogram(rows_per_expert)
    if sum(rows * number for rows, number in experts) != problem.M:
        raise ValueError(f"rows_per_expert must sum to the M = {problem.M} assignments")
    return Account(
        works=works(problem, options, experts),
        least_flops=least_flops(problem),
        least_bytes=least_bytes(problem, sum(number for _, number in experts)),
    )


def works(problem: Problem, options: Options, experts: Histogram) -> tuple[Work, ...]:
    """Return the launches of `problem` under `options`, in order."""
    if problem.N == 0 or problem.M == 0:
        return ()
    if isinstance(options, FusedTiles):
        return (fused_tiles(problem, options),)
    if isinstance(options, FusedRows):
        return (fused_rows(problem, options),)
    return grouped(problem, options, experts)


def least_flops(problem: Problem) -> int:
    """Return the FLOPs of the products alone: of the chosen experts, and of the gate if there is one."""
    experts = 2 * problem.M * problem.H * (problem.D * problem.halves + problem.C)
    return experts + (2 * problem.N * problem.D * problem.E if problem.routing == "gate" else 0)
