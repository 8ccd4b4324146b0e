"""Threshold routing: every expert whose share of the gate reaches a fixed number serves the row.

    S_n = the best expert, and of the m.k best all with q_n >= m.threshold

After DynaMoE (arXiv 2603.01697): the scores of a row decide its number of experts, from one to a maximum, here `k`.
DynaMoE's threshold is a percentile of the gate's scores. This one is a fixed share of the softmax, so it needs no
statistics of other rows: the more peaked the gate of a row, the fewer experts pass, and a row is routed the same way in
every batch.

Letters: N rows, E experts, k experts per row at most.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from models.routing import Assignments, select, shares, weigh
from models.routing.decision import Decision, Ranked
from models.routing.policy import SparseConfig


class ThresholdConfig(SparseConfig):
    """Every expert whose share of the gate is at least `threshold`: at least the best one, at most the k best."""

    policy: Literal["threshold"] = "threshold"
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.15

    rank = 3
    k_is = "limit"
    usual_balance: ClassVar = {"importance": 0.2, "switch": 0.01}

    def route(self, ranking: Tensor, scores: Tensor) -> Assignments:
        """Return the assignments, best first, chosen by softmax(ranking / temperature) and weighed by `scores`.

        Both are (N, E). A row with a NaN has one expert.
        """
        order = select(ranking, self.k)  # (N, k)
        share = shares(ranking, self.temperature).gather(-1, order)  # (N, k), never rising
        best = torch.ones_like(order[:, :1], dtype=torch.bool)
        rows, ranks = torch.where(torch.cat([best, share[:, 1:] >= self.threshold], dim=1))  # (M,), (M,)
        experts = order[rows, ranks]
        return Assignments(rows, experts, weigh(scores, rows, experts, self.temperature, self.weights_over))

    def decide(self, ranked: Ranked) -> Decision:
        """Return the same choice as `route`, in float64: the best expert, and all of the best k that pass."""
        wanted = ranked.shares >= self.threshold
        wanted[:, 0] = True
        wanted[:, self.k :] = False
        close = ranked.close(ranked.log_odds(), self.threshold)
        close[:, 0] = close[:, self.k :] = False
        return ranked.decision(wanted.sum(axis=1), close)


POLICY = ThresholdConfig
