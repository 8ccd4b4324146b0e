"""The sparse mixture of experts: a routing policy runs few of E experts per row (Shazeer et al. 2017).

Letters: N rows, D input width, H hidden width of one expert, E experts, C output width, m rows of one expert.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.heads.experts import Mixture
from models.routing import Routing, ranks, router_scores, standardise
from models.routing.policy import SparseConfig


class SparseMoEHead(Mixture):
    """sum over the selected e of weight_e (activation(x w1_e + b1_e) w2_e + b2_e), (N, D) -> (N, C).

    `forward` is the readable definition; `bench.forms` has the fast ways to execute it. A row without experts has
    logits of zero, or NaN if a score is NaN. If `config.batch_coupled`, the logits of a row depend on other rows of x.
    """

    correction: Tensor

    def __init__(self, config: SparseConfig) -> None:
        super().__init__(config)
        self.config = config
        self.noise = nn.Linear(config.features, config.experts)
        if config.bias_correction:
            self.register_buffer("correction", torch.zeros(config.experts))  # (E,)

    def routing(self, x: Tensor) -> Routing:
        """Return which experts serve the rows of x (N, D), with noise in training only."""
        config = self.config
        raw = F.dropout(router_scores(x, self.gate), config.gate_dropout, self.training)  # (N, E)
        scores = standardise(raw) if config.standardise else raw
        noisy = noise_std = None
        if self.training:
            noise_std = F.softplus(router_scores(x, self.noise)) + config.noise_floor  # (N, E)
            noisy = scores + torch.randn_like(scores) * noise_std
        decisive = scores if noisy is None else noisy
        ranking = decisive + self.correction.to(decisive.dtype) if config.bias_correction else decisive
        rows, experts, weights, per_row, dropped = config.route(ranking, decisive)
        spoilt = ~ranks(decisive) if config.batch_coupled else None
        return Routing(rows, experts, weights, scores, per_row, dropped, noisy, noise_std, raw, spoilt)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (N, C) of x (N, D)."""
        return self.mix(x, self.routing(x))

    def mix(self, x: Tensor, routing: Routing) -> Tensor:
        """Return the logits (N, C): the outputs of the selected experts for x (N, D), weighted by `routing`."""
        out = torch.zeros(x.shape[0], self.config.classes, dtype=routing.weights.dtype, device=x.device)
        for e in range(self.config.experts):
            (places,) = torch.where(routing.experts == e)  # (m,)
            rows = routing.rows[places]
            h = self.hidden(x[rows], self.w1[e], self.b1[e])  # (m, H)
            y = h @ self.w2[e] + self.b2[e]  # (m, C)
            out = out.index_add(0, rows, y * routing.weights[places, None])
        return routing.spoil(out).to(torch.promote_types(x.dtype, self.w1.dtype))

    @torch.no_grad()
    def correct(self, routing: Routing, rate: float) -> None:
        """Raise `correction` by `rate` for experts with too few rows in `routing`; lower it for those with too many.

        This balances without a loss or a gradient (DeepSeek-V3, arXiv 2412.19437, section 2.1.2). It does nothing
        without `bias_correction` in the configuration.
        """
        if self.config.bias_correction:
            load = routing.load().to(self.correction.dtype)  # (E,)
            self.correction += rate * torch.sign(load.mean() - load)
