"""Threshold routing: every expert whose share of the gate reaches a fixed number serves the row.

    S_n = the best expert, and of the m.k best all with q_n >= m.threshold

After DynaMoE (arXiv 2603.01697), where the number of experts of a row follows from its scores, from one up to a
maximum per layer. There the threshold is a percentile of the gate's scores; here it is a fixed share of the softmax,
which needs no statistic of other scores: how many experts pass depends on how peaked the row's own gate is, and a row
is routed the same way in every batch. The maximum is `k`, of the one layer there is.

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
        """Return them best first, chosen by softmax(ranking / temperature) and weighed by `scores`, both (N, E).

        A row with a NaN has one expert.
        """
        order = select(ranking, self.k)  # (N, k)
        share = shares(ranking, self.temperature).gather(-1, order)  # (N, k), never rising
        best = torch.ones_like(order[:, :1], dtype=torch.bool)
        rows, ranks = torch.where(torch.cat([best, share[:, 1:] >= self.threshold], dim=1))  # (M,), (M,)
        experts = order[rows, ranks]
        return Assignments(rows, experts, weigh(scores, rows, experts, self.temperature, self.weights_over))

    def decide(self, ranked: Ranked) -> Decision:
        """Return the first expert of every row, and of the first k all whose share reaches the threshold."""
        wanted = ranked.shares >= self.threshold
        wanted[:, 0] = True
        wanted[:, self.k :] = False
        close = ranked.close(ranked.log_odds(), self.threshold)
        close[:, 0] = close[:, self.k :] = False
        return ranked.decision(wanted.sum(axis=1), close)


POLICY = ThresholdConfig
