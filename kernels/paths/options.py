"""A path: a dataclass of tiles that knows how to run a call and how much work that is on a GPU.

To add a path, write a subclass in a file of its own and list its name in `kernels.paths.paths`.

N rows, D input width, E experts, k experts per row, C output width, M assignments.
"""

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from torch import Tensor

from kernels.cost.machine import Machine
from kernels.cost.seconds import total_seconds
from kernels.cost.work import Histogram, LaunchWork, balanced, histogram, spread
from kernels.problem.experts import Experts
from kernels.problem.problem import Problem
from kernels.problem.routes import RoutingSource


class Options(ABC):
    """A path and the tiles, warps and stages of its kernels; subclasses are frozen dataclasses.

    Attributes:
        code: The options as text, made once, so that a compiled graph can hold them.
        takes_stored: Whether the path runs weights stored in 8 or 4 bits.
    """

    code: str
    takes_stored: ClassVar[bool] = False

    def __post_init__(self) -> None:
        fields = {"path": type(self).__name__, **vars(self)}
        object.__setattr__(self, "code", json.dumps(fields, default=vars))  # vars: a field may be a dataclass itself

    @classmethod
    def of(cls, values: dict[str, Any]) -> "Options":
        """Return the options with these `values` of their fields, as read from JSON."""
        return cls(**values)

    @classmethod
    @abstractmethod
    def candidates(cls, problem: Problem, machine: Machine, each: int) -> Iterator["Options"]:
        """Yield the options to try; if parts can be chosen one by one, combine the `each` best of each part."""

    @abstractmethod
    def run(self, x: Tensor, routing: RoutingSource, experts: Experts) -> Tensor:
        """Return the outputs (N, C) in the dtype of `x`; N and M must not be 0, and no argument is checked."""

    @abstractmethod
    def launch_works(self, problem: Problem, experts: Histogram) -> tuple[LaunchWork, ...]:
        """Return the work of each launch, in order, if the experts have these numbers of rows."""

    def most_rows(self, problem: Problem) -> float:
        """Return the largest N that these options allow; programs that share a sum need a ticket for it."""
        return math.inf

    def possible(self, problem: Problem) -> bool:
        """Return whether the rows and strides of a call allow these options."""
        return self.most_rows(problem) >= problem.N

    def suitable(self, problem: Problem) -> bool:
        """Return whether these options, chosen for more rows, are still worth trying."""
        return True

    def works(self, problem: Problem, rows_per_expert: Iterable[int] | None = None) -> tuple[LaunchWork, ...]:
        """Return the work of each launch of a call, in order; without rows or assignments there is none.

        Args:
            problem: Sizes of the call.
            rows_per_expert: Assignments of each expert, M together; by default as even as can be. The fused paths
                assume that the rows of a tile use as many experts as they can.
        """
        experts = balanced(problem) if rows_per_expert is None else histogram(rows_per_expert)
        if sum(rows * number for rows, number in experts) != problem.M:
            raise ValueError(f"rows_per_expert must sum to the M = {problem.M} assignments")
        return self.launch_works(problem, experts) if problem.N and problem.M else ()

    def seconds(self, problem: Problem, machine: Machine, *, cold: bool = False) -> float:
        """Return the estimated seconds of one call in a CUDA graph; `cold` if the L2 cache is empty before.

        Rows choose their experts at random (`kernels.cost.work.spread`).
        """
        works = self.launch_works(problem, spread(problem)) if problem.N and problem.M else ()
        return total_seconds(works, machine, cold=cold)
