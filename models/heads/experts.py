"""The stacked two-layer experts from which every head is made.

Letters: N rows, D input width, H hidden width of one expert, E experts, C output width, W = H columns of the first
product, or 2H for swiglu.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.routing import Routing
from models.settings import Activation, ExpertsConfig, MixtureConfig, halves


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
"""From the first product (..., W) to hidden values (..., H); `gelu` is the exact form with erf."""


def new_linear(stack: tuple[int, ...], fan_in: int, fan_out: int) -> tuple[nn.Parameter, nn.Parameter]:
    """Return weights (*stack, fan_in, fan_out) and biases (*stack, fan_out), uniform in +-1/sqrt(fan_in).

    `torch.nn.Linear` draws from the same distribution.
    """
    bound = 1 / math.sqrt(fan_in)
    weight = torch.empty(*stack, fan_in, fan_out).uniform_(-bound, bound)
    bias = torch.empty(*stack, fan_out).uniform_(-bound, bound)
    return nn.Parameter(weight), nn.Parameter(bias)


class StackedExperts(nn.Module):
    """Two-layer perceptrons D -> H -> C stacked along the leading shape `stack`: () for one, (E,) for E."""

    def __init__(self, config: ExpertsConfig, stack: tuple[int, ...]) -> None:
        super().__init__()
        wide = halves(config.activation) * config.hidden
        self.w1, self.b1 = new_linear(stack, config.features, wide)  # (*stack, D, W), (*stack, W)
        self.w2, self.b2 = new_linear(stack, config.hidden, config.classes)  # (*stack, H, C), (*stack, C)
        self.activation = ACTIVATIONS[config.activation]
        self.dropout = config.dropout

    def hidden(self, x: Tensor, w1: Tensor, b1: Tensor) -> Tensor:
        """Return activation(x w1 + b1) (..., H), with dropout in training."""
        return F.dropout(self.activation(x @ w1 + b1), self.dropout, self.training)


class Mixture(StackedExperts, ABC):
    """E experts behind a gate."""

    def __init__(self, config: MixtureConfig) -> None:
        super().__init__(config, (config.experts,))
        self.gate = nn.Linear(config.features, config.experts)

    @abstractmethod
    def routing(self, x: Tensor) -> Routing:
        """Return which experts serve the rows of x (N, D)."""

    @abstractmethod
    def mix(self, x: Tensor, routing: Routing) -> Tensor:
        """Return the logits (N, C): the outputs of the experts for x (N, D), weighted by a result of `self.routing`."""

    def routed(self, x: Tensor) -> tuple[Tensor, Routing | None]:
        """Return the logits (N, C) of x (N, D) and the routing behind them."""
        routing = self.routing(x)
        return self.mix(x, routing), routing
