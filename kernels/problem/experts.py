"""The experts of a layer: the two products of each, stacked.

E experts, D input width, H hidden width of one expert, C output width.
"""

from dataclasses import dataclass

from torch import Tensor

from kernels.problem.activation import Activation

MOST_EXPERTS = 512
"""One program ranks all scores of a row in its registers."""


@dataclass(frozen=True)
class Experts:
    """E experts; expert e computes activation(x w1_e + b1_e) w2_e + b2_e.

    For "swiglu" the first H columns of w1 gate the other H:
    silu(x w1_e[:, :H] + b1_e[:H]) * (x w1_e[:, H:] + b1_e[H:]).

    Attributes:
        w1: (E, D, H), or (E, D, 2H) for "swiglu". All four may have any strides.
        b1: (E, H), or (E, 2H) for "swiglu", or None.
        w2: (E, H, C).
        b2: (E, C) or None.
        activation: "relu", "gelu" (exact, with erf), "silu" or "swiglu".
    """

    w1: Tensor
    b1: Tensor | None
    w2: Tensor
    b2: Tensor | None
    activation: Activation

    def tensors(self) -> dict[str, Tensor | None]:
        """Return the tensors, each under the name that error messages use."""
        return {"w1": self.w1, "b1": self.b1, "w2": self.w2, "b2": self.b2}
