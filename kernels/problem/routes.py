"""What a caller may give as routing: a gate to apply, k experts per row, or a list of assignments.

N rows, D input width, E experts, k experts per row, M assignments of a row to an expert.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

WeightsOver = Literal["selected", "all"]


@dataclass(frozen=True)
class Gate:
    """Scores x weight^T + bias, of which each row takes its k best, weighted by a softmax.

    With k = E this is the soft mixture: every expert, weighted by the softmax over all.

    Attributes:
        weight: (E, D), as torch.nn.Linear keeps it; dtype of x, or fp32. Any strides.
        bias: (E,) of the same dtype, or None.
        k: Experts per row, 1 to E.
        temperature: Divides the scores in the softmax; above 0 and finite.
        standardise: Shift and scale each row's scores to mean 0 and standard deviation 1 (n - 1) first.
        weights_over: Softmax over the "selected" k, or over "all" E and not renormalised.

    Equal scores rank by lowest id and NaN above every number, so a row always has k distinct ids in range.
    """

    weight: Tensor
    bias: Tensor | None
    k: int
    temperature: float = 1.0
    standardise: bool = False
    weights_over: WeightsOver = "selected"


@dataclass(frozen=True)
class TopK:
    """k experts for every row, with their weights.

    Attributes:
        ids: (N, k) int32 or int64, 0 to E - 1; any other number means none.
        weights: (N, k), any floating dtype.
    """

    ids: Tensor
    weights: Tensor


@dataclass(frozen=True)
class Flat:
    """Any number of experts for each row, none included: one assignment after another.

    Attributes:
        rows: (M,) int32 or int64, 0 to N - 1. Not checked: that would wait.
        experts: (M,) of the dtype of rows, 0 to E - 1; any other number means none: a list of fixed length may end in
            such.
        weights: (M,), any floating dtype.
        ordered: Whether `rows` never falls; if not, they are sorted first.
    """

    rows: Tensor
    experts: Tensor
    weights: Tensor
    ordered: bool = False


Routing = Gate | TopK | Flat


def tensors_of(routing: Routing) -> dict[str, Tensor | None]:
    """Return the tensors of a routing, each under the name that error messages use."""
    if isinstance(routing, Gate):
        return {"gate.weight": routing.weight, "gate.bias": routing.bias}
    if isinstance(routing, TopK):
        return {"ids": routing.ids, "weights": routing.weights}
    return {"rows": routing.rows, "experts": routing.experts, "weights": routing.weights}
