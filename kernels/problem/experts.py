"""The experts of a layer: the two products of each, stacked.

E experts, D input width, H hidden width of one expert, C output width.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from kernels.problem.activation import Activation, column_blocks
from kernels.problem.stored import Scheme, Stored, stored

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
        w1: (E, D, H), or (E, D, 2H) for both kinds of swiglu. All four may have any strides. Weights, not biases, may
            be `Stored` in 8 or 4 bits.
        b1: (E, H), or (E, 2H), or None.
        w2: (E, H, C).
        b2: (E, C) or None.
        activation: "relu", "gelu" (exact, with erf), "silu", "swiglu" or "interleaved_swiglu".
    """

    w1: Tensor | Stored
    b1: Tensor | None
    w2: Tensor | Stored
    b2: Tensor | None
    activation: Activation

    @property
    def is_stored(self) -> bool:
        """Whether any weights are stored in 8 or 4 bits."""
        return isinstance(self.w1, Stored) or isinstance(self.w2, Stored)

    def tensors(self) -> dict[str, Tensor | None]:
        """Return the tensors, each under the name that error messages use."""
        w1, b1, w2, b2, s1, s2 = self.parts()
        return {"w1": w1, "b1": b1, "w2": w2, "b2": b2, "w1.scales": s1, "w2.scales": s2}

    def parts(self) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None, Tensor | None, Tensor | None]:
        """Return w1, b1, w2 and b2, and the scales of w1 and of w2 if they are stored."""
        w1, w2 = self.w1, self.w2
        w1, s1 = (w1.values, w1.scales) if isinstance(w1, Stored) else (w1, None)
        w2, s2 = (w2.values, w2.scales) if isinstance(w2, Stored) else (w2, None)
        return w1, self.b1, w2, self.b2, s1, s2

    @classmethod
    def of(cls, parts: Sequence[Any], activation: Activation) -> "Experts":
        """Return the experts that have these `parts`."""
        w1, b1, w2, b2, s1, s2 = parts
        w1, w2 = w1 if s1 is None else Stored(w1, s1), w2 if s2 is None else Stored(w2, s2)
        return cls(w1, b1, w2, b2, activation)

    def dequantised(self) -> "Experts":
        """Return the experts with no stored weights: in fp32 instead."""
        w1, w2 = (w.dequantised() if isinstance(w, Stored) else w for w in (self.w1, self.w2))
        return replace(self, w1=w1, w2=w2)

    def stored(self, scheme: Scheme) -> "Experts":
        """Return the experts with the weights of both products stored in `scheme`, as far as they are not yet."""
        w1, w2 = (w if isinstance(w, Stored) else stored(w, scheme) for w in (self.w1, self.w2))
        return replace(self, w1=w1, w2=w2)

    def interleaved(self) -> "Experts":
        """Return the experts with the columns of a "swiglu" interleaved, copied once; others as they are.

        The first product is then one wide product instead of two narrow ones, which the tensor cores prefer. Blocks of
        "fp8_blocks" would mix, so their columns stay.
        """
        w1 = self.w1
        if column_blocks(self.activation) == 1 or (isinstance(w1, Stored) and w1.scheme == "fp8_blocks"):
            return self
        w1 = w1.with_columns(interleave) if isinstance(w1, Stored) else interleave(w1)
        b1 = None if self.b1 is None else interleave(self.b1)
        return replace(self, w1=w1, b1=b1, activation="interleaved_swiglu")


def interleave(stacked: Tensor) -> Tensor:
    """Return columns g0 u0 g1 u1 ... of g0 g1 ... u0 u1 ...: (..., 2H) -> (..., 2H)."""
    gates, ups = stacked.chunk(2, dim=-1)
    return torch.stack((gates, ups), dim=-1).flatten(-2)
