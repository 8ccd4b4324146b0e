"""What one call computes, in sizes alone: all that its cost and the choice of a path depend on.

N rows, D input width, H hidden width of one expert, E experts, k experts per row, C output width, M assignments.
"""

from dataclasses import dataclass
from typing import Literal

import torch

from kernels.problem.activation import Activation, halves
from kernels.problem.options import Precision

RoutingKind = Literal["gate", "top_k", "flat"]


@dataclass(frozen=True)
class Problem:
    """Sizes of one call of `kernels.moe.moe`.

    Attributes:
        routing: Whether a gate is applied, ids (N, k) are given, or a flat list of assignments.
        k: Experts per row; for a flat list the mean, rounded up, at least 1.
        M: Assignments: N k, or the length of the flat list.
        precision: How fp32 operands are multiplied; without meaning for fp16 and bf16.
        described: Whether the strides of w1 and of w2 allow tensor descriptors.
    """

    N: int
    D: int
    H: int
    E: int
    C: int
    k: int
    M: int
    dtype: torch.dtype
    activation: Activation = "relu"
    routing: RoutingKind = "gate"
    precision: Precision = "ieee"
    described: tuple[bool, bool] = (True, True)

    @property
    def sizes(self) -> tuple[int, int, int, int, int, int]:
        """N, D, H, E, C and k."""
        return self.N, self.D, self.H, self.E, self.C, self.k

    @property
    def halves(self) -> int:
        """Column blocks of w1 that make one hidden value: 2 for swiglu, else 1."""
        return halves(self.activation)

    @property
    def element_size(self) -> int:
        """Bytes of one value."""
        return self.dtype.itemsize
