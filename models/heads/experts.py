"""The stacked two-layer experts that every head is made of.

Letters: N rows, D input width, H hidden width of one expert, E experts, C output width, W = H columns of the first
product, or 2H for swiglu.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.config import Activation, halves


def swiglu(x: Tensor) -> Tensor:
    """Return silu(gate) * value (..., H), where the first H columns of x (..., 2H) are the gate (Shazeer 2020)."""
    gate, value = x.chunk(2, dim=-1)
    return F.silu(gate) * value


ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "silu": F.silu,
    "swiglu": swiglu,
}
"""From the first product (..., W) to hidden values (..., H); `gelu` is the exact form with erf, not by tanh."""


def new_linear(stack: tuple[int, ...], fan_in: int, fan_out: int) -> tuple[nn.Parameter, nn.Parameter]:
    """Return weights (*stack, fan_in, fan_out) and biases (*stack, fan_out), uniform in +-1/sqrt(fan_in).

    This is the distribution of `torch.nn.Linear`, drawn for each expert with its own fan-in.
    """
    bound = 1 / math.sqrt(fan_in)
    weight = torch.empty(*stack, fan_in, fan_out).uniform_(-bound, bound)
    bias = torch.empty(*stack, fan_out).uniform_(-bound, bound)
    return nn.Parameter(weight), nn.Parameter(bias)


class Experts(nn.Module):
    """Two-layer perceptrons D -> H -> C stacked along the leading shape `stack`: () for one, (E,) for E."""

    def __init__(
        self, stack: tuple[int, ...], features: int, hidden: int, classes: int, activation: Activation, dropout: float
    ) -> None:
        super().__init__()
        wide = halves(activation) * hidden
        self.w1, self.b1 = new_linear(stack, features, wide)  # (*stack, D, W), (*stack, W)
        self.w2, self.b2 = new_linear(stack, hidden, classes)  # (*stack, H, C), (*stack, C)
        self.activation = ACTIVATIONS[activation]
        self.dropout = dropout

    def hidden(self, x: Tensor, w1: Tensor, b1: Tensor) -> Tensor:
        """Return activation(x w1 + b1) (..., H) after dropout, which acts in training only."""
        return F.dropout(self.activation(x @ w1 + b1), self.dropout, self.training)
