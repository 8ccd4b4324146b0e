"""The routings that a caller may pass: a gate to apply, k experts per row, or a list of assignments.

N rows, D input width, E experts, k experts per row, M assignments of a row to an expert.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from kernels.launch.checks import FLOATS, bind_shapes, remembered, require_dtype
from kernels.launch.integers import cdiv
from kernels.launch.launch import require_device
from kernels.problem.experts import MOST_EXPERTS
from kernels.problem.problem import Problem, RoutingKind

WeightsOver = Literal["selected", "all"]

INTEGERS = (torch.int32, torch.int64)
"""Dtypes of ids and rows."""

NewTensor = Callable[..., Tensor]
"""Makes a tensor from its shape, in the dtype of the features or in another one that it is asked for."""


class RoutingSource(ABC):
    """Where the routing of a call comes from: a dataclass of tensors and of the settings that `settings` names."""

    kind: ClassVar[RoutingKind]
    settings: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def tensors(self) -> dict[str, Tensor | None]:
        """Return the tensors in the order of the fields, each under the name that error messages use."""

    @abstractmethod
    def sizes(self, x: Tensor, E: int) -> tuple[int, int]:
        """Return k and M for features x (N, D) and E experts, or raise ValueError."""

    @classmethod
    @abstractmethod
    def of(cls, problem: Problem, new: NewTensor) -> Self:
        """Return a routing of the problem's sizes whose tensors `new` makes."""


@dataclass(frozen=True)
class Gate(RoutingSource):
    """Scores x weight^T + bias; each row takes its k best experts, weighted by a softmax.

    With k = E this is the soft mixture: every expert, weighted by the softmax over all.

    Attributes:
        weight: (E, D), as torch.nn.Linear keeps it; dtype of x, or fp32. Any strides.
        bias: (E,) of the same dtype, or None.
        k: Experts per row, 1 to E.
        temperature: Divides the scores in the softmax; above 0 and finite.
        standardise: First shift and scale each row's scores to mean 0 and standard deviation 1 (n - 1).
        weights_over: Softmax over the "selected" k, or over "all" E without renormalising.

    Of equal scores the lowest id wins, and NaN ranks above every number, so a row always has k distinct ids in range.
    """

    kind = "gate"
    settings = ("k", "temperature", "standardise", "weights_over")

    weight: Tensor
    bias: Tensor | None
    k: int
    temperature: float = 1.0
    standardise: bool = False
    weights_over: WeightsOver = "selected"

    def tensors(self) -> dict[str, Tensor | None]:
        """Return the tensors by name."""
        return {"gate.weight": self.weight, "gate.bias": self.bias}

    def sizes(self, x: Tensor, E: int) -> tuple[int, int]:
        """Return k and M, or raise ValueError."""
        N, _, gates = check_gate(x, self)
        if gates != E:
            raise ValueError(f"gate.weight must have a row for each of the E = {E} experts of w1, not {gates}")
        return self.k, N * self.k

    @classmethod
    def of(cls, problem: Problem, new: NewTensor) -> Self:
        """Return one of the problem's sizes."""
        return cls(new(problem.E, problem.D), new(problem.E), problem.k)


@dataclass(frozen=True)
class TopK(RoutingSource):
    """k experts for every row, with their weights.

    Attributes:
        ids: (N, k) int32 or int64, 0 to E - 1; any other number means none.
        weights: (N, k), any floating dtype.
    """

    kind = "top_k"

    ids: Tensor
    weights: Tensor

    @property
    def k(self) -> int:
        """Experts per row."""
        return self.ids.shape[1]

    def tensors(self) -> dict[str, Tensor | None]:
        """Return the tensors by name."""
        return {"ids": self.ids, "weights": self.weights}

    def sizes(self, x: Tensor, E: int) -> tuple[int, int]:
        """Return k and M, or raise ValueError."""
        require_dtype(torch.float64, *FLOATS, weights=self.weights)
        require_dtype(*INTEGERS, ids=self.ids)
        N, _, k = bind_shapes(x=(x, "N D"), ids=(self.ids, "N k"), weights=(self.weights, "N k")).values()
        return k, N * k

    @classmethod
    def of(cls, problem: Problem, new: NewTensor) -> Self:
        """Return one of the problem's sizes."""
        return cls(new(problem.N, problem.k, dtype=torch.int32), new(problem.N, problem.k))


@dataclass(frozen=True)
class Flat(RoutingSource):
    """Any number of experts for each row, none included: one assignment after another.

    Attributes:
        rows: (M,) int32 or int64, 0 to N - 1. Not checked, since that would wait for the device.
        experts: (M,) of the dtype of rows, 0 to E - 1; any other number means none, so that a list of fixed length can
            be filled up.
        weights: (M,), any floating dtype.
        ordered: Whether `rows` never decrease; if not, they are sorted first.
    """

    kind = "flat"
    settings = ("ordered",)

    rows: Tensor
    experts: Tensor
    weights: Tensor
    ordered: bool = False

    def tensors(self) -> dict[str, Tensor | None]:
        """Return the tensors by name."""
        return {"rows": self.rows, "experts": self.experts, "weights": self.weights}

    def sizes(self, x: Tensor, E: int) -> tuple[int, int]:
        """Return k and M, or raise ValueError."""
        require_dtype(torch.float64, *FLOATS, weights=self.weights)
        require_dtype(*INTEGERS, rows=self.rows, experts=self.experts)
        flat = {"rows": (self.rows, "M"), "experts": (self.experts, "M"), "weights": (self.weights, "M")}
        M = bind_shapes(**flat)["M"]
        return max(1, cdiv(M, max(x.shape[0], 1))), M

    @classmethod
    def of(cls, problem: Problem, new: NewTensor) -> Self:
        """Return one of the problem's sizes."""
        rows, experts = (new(problem.M, dtype=torch.int32) for _ in range(2))
        return cls(rows, experts, new(problem.M), ordered=True)


SOURCES: dict[str, type[Gate | TopK | Flat]] = {source.kind: source for source in (Gate, TopK, Flat)}
"""The kinds of routing by name."""


@remembered
def check_gate(x: Tensor, gate: Gate) -> tuple[int, int, int]:
    """Return N, D and E of features and a gate that fit each other.

    Raises:
        ValueError: They have the wrong shape, dtype or device, or a setting of the gate is out of range.
    """
    tensors = gate.tensors()
    require_device(x=x, **tensors)
    require_dtype(*FLOATS, x=x)
    require_dtype(*dict.fromkeys((x.dtype, torch.float32)), **tensors)
    shapes = {"gate.weight": (gate.weight, "E D"), "gate.bias": (gate.bias, "E")}
    N, D, E = bind_shapes(x=(x, "N D"), **shapes).values()
    if E > MOST_EXPERTS:
        raise ValueError(f"E must be at most {MOST_EXPERTS}, not {E}")
    if not 1 <= gate.k <= E:
        raise ValueError(f"k must be between 1 and E = {E}, not {gate.k}")
    if not 0 < gate.temperature < math.inf:
        raise ValueError(f"temperature must be above 0 and finite, not {gate.temperature}")
    if gate.weights_over not in ("selected", "all"):
        raise ValueError(f'weights_over must be "selected" or "all", not {gate.weights_over!r}')
    return N, D, E
