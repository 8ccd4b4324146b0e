"""The soft mixture of experts of arXiv 2601.15021: every expert runs, a softmax gate weighs them.

Letters: N rows, D input width, H hidden width of one expert, E experts, C output width.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from models.heads.experts import Mixture
from models.routing import Routing, every_row, router_scores
from models.settings import MixtureConfig


class SoftConfig(MixtureConfig):
    """E experts D -> H -> C that all serve every row, weighted by a softmax gate."""

    kind: Literal["soft"] = "soft"

    even_load = True
    policy: ClassVar[None] = None
    default_balance: ClassVar[dict[str, float]] = {"kl": 0.2}

    @property
    def most_experts(self) -> int:
        """How many experts a row has at most: all."""
        return self.experts


class SoftMoEHead(Mixture):
    """sum_e p_e (activation(x w1_e + b1_e) w2_e + b2_e) with p = softmax(gate(x) / temperature), (N, D) -> (N, C)."""

    def __init__(self, config: SoftConfig) -> None:
        super().__init__(config)
        self.config = config

    def shares(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the experts' weights (N, E) for x (N, D) and the gate's scores (N, E), in float32 or wider."""
        scores = F.dropout(router_scores(x, self.gate), self.config.gate_dropout, self.training)  # (N, E)
        return torch.softmax(scores / self.config.temperature, dim=-1), scores

    def routing(self, x: Tensor) -> Routing:
        """Return the routing that sends every row of x (N, D) to every expert, in order of ids."""
        weights, scores = self.shares(x)
        N, E = weights.shape
        experts = torch.arange(E, device=x.device).expand(N, E).reshape(-1)  # (N E,)
        return Routing(every_row(N, E, x.device), experts, weights.reshape(-1), scores, per_row=E)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (N, C) of x (N, D)."""
        return self._mix(x, self.shares(x)[0])

    def mix(self, x: Tensor, routing: Routing) -> Tensor:
        """Return the logits (N, C): the outputs of the experts for x (N, D), weighted by a result of `self.routing`."""
        return self._mix(x, routing.row_weights)

    def _mix(self, x: Tensor, weights: Tensor) -> Tensor:
        h = self.hidden(x, self.w1, self.b1[:, None, :])  # (E, N, H)
        y = h @ self.w2 + self.b2[:, None, :]  # (E, N, C)
        logits = (weights.T[:, :, None] * y).sum(dim=0)  # (N, C), in the dtype of the weights
        return logits.to(torch.promote_types(x.dtype, self.w1.dtype))
