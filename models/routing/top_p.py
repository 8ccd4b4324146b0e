"""Top-p routing: as many of the best experts as reach a share of the gate's mass (Huang et al. 2024).

    S_n = the fewest best experts whose q_n sum to at least m.mass, but at most m.k

Letters: N rows, E experts, k experts per row at most.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from models.routing import Assignments, select, shares, weigh
from models.routing.decision import Decision, Ranked
from models.routing.policy import SparseConfig


class TopPConfig(SparseConfig):
    """The fewest best experts of each row whose shares of the gate sum to at least `mass`, but at most k."""

    policy: Literal["top_p"] = "top_p"
    mass: Annotated[float, Field(gt=0, le=1)] = 0.5

    rank = 2
    k_is = "limit"
    usual_balance: ClassVar = {"importance": 0.2, "switch": 0.01}

    def route(self, ranking: Tensor, scores: Tensor) -> Assignments:
        """Return the assignments, best first, chosen by softmax(ranking / temperature) and weighed by `scores`.

        Both are (N, E). A row with a NaN has one expert.
        """
        order = select(ranking, self.k)  # (N, k)
        reached = shares(ranking, self.temperature).gather(-1, order).cumsum(dim=-1)  # (N, k)
        wanting = reached[:, :-1] < self.mass  # (N, k - 1): the first experts alone do not reach the mass
        needed = torch.cat([torch.ones_like(order[:, :1], dtype=torch.bool), wanting], dim=1)  # (N, k)
        rows, ranks = torch.where(needed)  # (M,), (M,)
        experts = order[rows, ranks]
        return Assignments(rows, experts, weigh(scores, rows, experts, self.temperature, self.weights_over))

    def decide(self, ranked: Ranked) -> Decision:
        """Return the same choice as `route`, in float64: one more expert while those before miss the mass."""
        wanted = np.ones_like(ranked.order, dtype=bool)
        wanted[:, 1:] = np.cumsum(ranked.shares, axis=1)[:, :-1] < self.mass
        wanted[:, self.k :] = False
        close = np.zeros_like(wanted)
        close[:, 1 : self.k] = ranked.close(ranked.log_odds(together=True), self.mass)[:, : self.k - 1]
        return ranked.decision(wanted.sum(axis=1), close)


POLICY = TopPConfig
