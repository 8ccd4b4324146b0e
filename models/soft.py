"""The soft mixture of experts of arXiv 2601.15021: every expert runs, a softmax gate weighs them.

Letters: N rows, D input width, H hidden width of one expert, E experts, C output width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.config import SoftConfig
from models.experts import Experts
from models.routing import Routing, router_scores


class SoftMoEHead(Experts):
    """sum_e p_e (activation(x w1_e + b1_e) w2_e + b2_e) with p = softmax(gate(x) / temperature), (N, D) -> (N, C)."""

    def __init__(self, config: SoftConfig) -> None:
        super().__init__(
            (config.experts,), config.features, config.hidden, config.classes, config.activation, config.dropout
        )
        self.config = config
        self.gate = nn.Linear(config.features, config.experts)

    def routing(self, x: Tensor) -> Routing:
        """Return every expert's id (N, E), its weight (N, E) and the gate's scores (N, E), in float32 or wider."""
        scores = F.dropout(router_scores(x, self.gate), self.config.gate_dropout, self.training)  # (N, E)
        weights = torch.softmax(scores / self.config.temperature, dim=-1)  # (N, E)
        ids = torch.arange(self.config.experts, dtype=torch.int32, device=x.device).expand(x.shape[0], -1)
        return Routing(ids=ids, weights=weights, scores=scores)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (N, C) of x (N, D)."""
        return self.mix(x, self.routing(x))

    def mix(self, x: Tensor, routing: Routing) -> Tensor:
        """Return the experts' outputs for x (N, D) weighted by `routing`, as logits (N, C)."""
        h = self.hidden(x, self.w1, self.b1[:, None, :])  # (E, N, H)
        y = h @ self.w2 + self.b2[:, None, :]  # (E, N, C)
        logits = (routing.weights.T[:, :, None] * y).sum(dim=0)  # (N, C), as wide as the weights
        return logits.to(torch.promote_types(x.dtype, self.w1.dtype))
