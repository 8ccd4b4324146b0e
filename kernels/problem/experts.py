"""The experts of a layer: the two products of each, stacked.

E experts, D input width, H hidden width of one expert, C output width.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kernels.problem.activation import Activation, column_blocks

MOST_EXPERTS = 512
"""One program ranks all scores of a row in its registers."""


@dataclass(frozen=True)
class Experts:
    """E experts; expert e computes activation(x w1_e + b1_e) w2_e + b2_e.

    For "swiglu" the first H columns of w1 gate the other H:
    silu(x w1_e[:, :H] + b1_e[:H]) * (x w1_e[:, H:] + b1_e[H:]).
    For "interleaved_swiglu" each even column gates the next odd one:
    silu(x w1_e[:, 0::2] + b1_e[0::2]) * (x w1_e[:, 1::2] + b1_e[1::2]).

    Attributes:
        w1: (E, D, H), or (E, D, 2H) for both kinds of swiglu. All four may have any strides.
        b1: (E, H), or (E, 2H), or None.
        w2: (E, H, C).
        b2: (E, C) or None.
        activation: "relu", "gelu" (exact, with erf), "silu", "swiglu" or "interleaved_swiglu".
    """

    w1: Tensor
    b1: Tensor | None
    w2: Tensor
    b2: Tensor | None
    activation: Activation

    def tensors(self) -> dict[str, Tensor | None]:
        """Return the tensors, each under the name that error messages use."""
        return {"w1": self.w1, "b1": self.b1, "w2": self.w2, "b2": self.b2}

    def interleaved(self) -> "Experts":
        """Return the experts with the columns of a "swiglu" interleaved, copied once; others as they are.

        The first product is then one wide product instead of two narrow ones, which the tensor cores prefer.
        """
        if column_blocks(self.activation) == 1:
            return self
        w1, b1 = _interleave(self.w1), None if self.b1 is None else _interleave(self.b1)
        return replace(self, w1=w1, b1=b1, activation="interleaved_swiglu")


def _interleave(stacked: Tensor) -> Tensor:
    """Return columns g0 u0 g1 u1 ... of g0 g1 ... u0 u1 ...: (..., 2H) -> (..., 2H)."""
    gates, ups = stacked.chunk(2, dim=-1)
    return torch.stack((gates, ups), dim=-1).flatten(-2)
