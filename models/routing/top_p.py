"""Top-p routing: as many of the best experts as reach a share of the gate's mass (Huang et al. 2024).

Letters: N rows, E experts, k experts per row at most.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.config import SparseConfig
from models.routing import Assignments, select, shares, weigh


def route(ranking: Tensor, scores: Tensor, config: SparseConfig) -> Assignments:
    """Return the fewest best experts of each row whose shares softmax(ranking / temperature) sum to at least `mass`.

    At least one, at most k, best first, chosen by `ranking` (N, E) and weighed by `scores` (N, E). A row with a NaN
    has one expert.
    """
    assert config.mass is not None
    order = select(ranking, config.k)  # (N, k)
    reached = shares(ranking, config.temperature).gather(-1, order).cumsum(dim=-1)  # (N, k)
    wanting = reached[:, :-1] < config.mass  # (N, k - 1): the first experts alone do not reach the mass
    needed = torch.cat([torch.ones_like(order[:, :1], dtype=torch.bool), wanting], dim=1)  # (N, k)
    rows, ranks = torch.where(needed)  # (M,), (M,)
    experts = order[rows, ranks]
    return Assignments(rows, experts, weigh(scores, rows, experts, config.temperature, config.weights_over))
