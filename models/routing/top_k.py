"""Top-k routing: exactly k distinct experts per row, ties to the lowest id (Shazeer et al. 2017).

    S_n = the m.k best experts

`models.classifier.checkpoint` explains the formulas of this folder. Letters: N rows, E experts, k experts per row.
"""

from __future__ import annotations

from typing import ClassVar, Literal, TypeGuard

import numpy as np
import torch
from torch import Tensor

from models.routing import Assignments, every_row, select
from models.routing.decision import Decision, Ranked
from models.routing.policy import SparseConfig


class TopKConfig(SparseConfig):
    """The k best experts of each row."""

    policy: Literal["top_k"] = "top_k"

    rank = 0
    k_is = "wanted"
    usual_balance: ClassVar = {"importance": 0.2, "load": 0.2}

    def route(self, ranking: Tensor, scores: Tensor) -> Assignments:
        """Return the k experts of every row with the largest `ranking` (N, E), best first, weighed by `scores`."""
        ids = select(ranking, self.k)  # (N, k)
        weights = weigh(scores, ids, self.temperature, self.weights_over)  # (N, k)
        rows = every_row(ids.shape[0], self.k, ids.device)
        return Assignments(rows, ids.reshape(-1), weights.reshape(-1), per_row=self.k)

    def decide(self, ranked: Ranked) -> Decision:
        """Return the same choice as `route`, in float64: the first k of every row."""
        return ranked.decision(np.full(len(ranked.order), self.k), np.zeros_like(ranked.order, dtype=bool))


def plain_top_k(config: object) -> TypeGuard[TopKConfig]:
    """Return whether a head with this configuration chooses the k experts with the best scores of its gate."""
    return isinstance(config, TopKConfig) and not config.bias_correction


def weigh(scores: Tensor, ids: Tensor, temperature: float, over: Literal["selected", "all"]) -> Tensor:
    """Return the weights (N, k) of the experts `ids` (N, k): a softmax over their scores, or over all E."""
    scores = scores / temperature
    if over == "selected":
        return torch.softmax(scores.gather(-1, ids), dim=-1)
    return torch.softmax(scores, dim=-1).gather(-1, ids)


POLICY = TopKConfig
