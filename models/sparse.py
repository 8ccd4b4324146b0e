"""The sparse mixture of experts: noisy top-k routing runs k of E experts per row (Shazeer et al. 2017).

Letters: N rows, D input width, H hidden width of one expert, E experts, k experts per row, C output width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.config import SparseConfig
from models.experts import Experts
from models.routing import Routing, router_scores
from models.routing.top_k import select, standardise, weigh


class SparseMoEHead(Experts):
    """sum over the k selected e of weight_e (activation(x w1_e + b1_e) w2_e + b2_e), (N, D) -> (N, C).

    `forward` is the readable definition; `bench.forms` holds the ways of executing it fast.
    """

    def __init__(self, config: SparseConfig) -> None:
        super().__init__(
            (config.experts,), config.features, config.hidden, config.classes, config.activation, config.dropout
        )
        self.config = config
        self.gate = nn.Linear(config.features, config.experts)
        self.noise = nn.Linear(config.features, config.experts)

    def routing(self, x: Tensor) -> Routing:
        """Return ids (N, k) int32, weights (N, k) and scores (N, E) for x (N, D); noise only in training."""
        config = self.config
        scores = F.dropout(router_scores(x, self.gate), config.gate_dropout, self.training)  # (N, E)
        if config.standardise:
            scores = standardise(scores)
        noisy = noise_std = None
        if self.training:
            noise_std = F.softplus(router_scores(x, self.noise)) + config.noise_floor  # (N, E)
            noisy = scores + torch.randn_like(scores) * noise_std
        decisive = scores if noisy is None else noisy
        ids = select(decisive, config.k)
        weights = weigh(decisive, ids, config.temperature, config.weights_over)
        return Routing(ids.to(torch.int32), weights, scores, noisy, noise_std)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (N, C) of x (N, D)."""
        return self.mix(x, self.routing(x))

    def mix(self, x: Tensor, routing: Routing) -> Tensor:
        """Return the selected experts' outputs for x (N, D) weighted by `routing`, as logits (N, C)."""
        out = torch.zeros(x.shape[0], self.config.classes, dtype=routing.weights.dtype, device=x.device)
        for e in range(self.config.experts):
            rows, slots = torch.where(routing.ids == e)  # (m,), (m,)
            h = self.hidden(x[rows], self.w1[e], self.b1[e])  # (m, H)
            y = h @ self.w2[e] + self.b2[e]  # (m, C)
            out = out.index_add(0, rows, y * routing.weights[rows, slots, None])
        return out.to(torch.promote_types(x.dtype, self.w1.dtype))
