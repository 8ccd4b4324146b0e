"""The sizes of one call: its cost and the choice of a path depend on nothing else.

N rows, D input width, H hidden width of one expert, E experts, k experts per row, C output width, M assignments.
"""

from dataclasses import dataclass
from typing import Literal

import torch

from kernels.problem.activation import Activation, halves
from kernels.problem.options import Precision
from kernels.problem.stored import Scheme

RoutingKind = Literal["gate", "top_k", "flat"]


@dataclass(frozen=True)
class Problem:
    """Sizes of one call of `kernels.moe.moe`.

    Attributes:
        routing: A gate, ids (N, k), or a flat list of assignments.
        k: Experts per row; for a flat list the mean, rounded up, and at least 1.
        M: Assignments: N k, or the length of the flat list.
        precision: How fp32 operands are multiplied; it says nothing about fp16 and bf16.
        described: Whether the strides of w1 and of w2 allow tensor descriptors.
        stored: How w1 and w2 are stored in 8 or 4 bits, or None.
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
    stored: tuple[Scheme | None, Scheme | None] = (None, None)

    @property
    def sizes(self) -> tuple[int, int, int, int, int, int]:
        """N, D, H, E, C and k."""
        return self.N, self.D, self.H, self.E, self.C, self.k

    @property
    def halves(self) -> int:
        """Column blocks of w1 that make one hidden value: 2 for swiglu, else 1."""
        return halves(self.activation)

    @property
    def is_stored(self) -> bool:
        """Whether any weights are stored in 8 or 4 bits."""
        return self.stored != (None, None)

    @property
    def element_size(self) -> int:
        """Bytes of one value that is not stored in 8 or 4 bits."""
        return self.dtype.itemsize
