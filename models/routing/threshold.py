"""Threshold routing: every expert whose share of the gate reaches a fixed number serves the row.

After DynaMoE (arXiv 2603.01697), where the number of experts of a row follows from its scores, from one up to a
maximum per layer. There the threshold is a percentile of the gate's scores; here it is a fixed share of the softmax,
which needs no statistic of other scores: how many experts pass depends on how peaked the row's own gate is, and a row
is routed alike in every batch. The maximum is `k`, of the one layer there is.

Letters: N rows, E experts, k experts per row at most.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.config import SparseConfig
from models.routing import Assignments, select, shares, weigh


def route(ranking: Tensor, scores: Tensor, config: SparseConfig) -> Assignments:
    """Return every expert whose share softmax(ranking / temperature) is at least `threshold`.

    At least the best one, at most k, best first, chosen by `ranking` (N, E) and weighed by `scores` (N, E). A row
    with a NaN has one expert.
    """
    assert config.threshold is not None
    order = select(ranking, config.k)  # (N, k)
    share = shares(ranking, config.temperature).gather(-1, order)  # (N, k), never rising
    best = torch.ones_like(order[:, :1], dtype=torch.bool)
    rows, ranks = torch.where(torch.cat([best, share[:, 1:] >= config.threshold], dim=1))  # (M,), (M,)
    experts = order[rows, ranks]
    return Assignments(rows, experts, weigh(scores, rows, experts, config.temperature, config.weights_over))
