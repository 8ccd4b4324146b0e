"""Top-k routing: exactly k distinct experts per row, ties to the lowest id (Shazeer et al. 2017).

Letters: N rows, E experts, k experts per row.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from models.config import SparseConfig
from models.routing import Assignments, every_row, select


def route(ranking: Tensor, scores: Tensor, config: SparseConfig) -> Assignments:
    """Return the k experts of every row with the largest `ranking` (N, E), best first, weighed by `scores` (N, E)."""
    ids = select(ranking, config.k)  # (N, k)
    weights = weigh(scores, ids, config.temperature, config.weights_over)  # (N, k)
    rows = every_row(ids.shape[0], config.k, ids.device)
    return Assignments(rows, ids.reshape(-1), weights.reshape(-1), per_row=config.k)


def weigh(scores: Tensor, ids: Tensor, temperature: float, over: Literal["selected", "all"]) -> Tensor:
    """Return the weights (N, k) of the experts `ids` (N, k): a softmax over their scores, or over all E."""
    scores = scores / temperature
    if over == "selected":
        return torch.softmax(scores.gather(-1, ids), dim=-1)
    return torch.softmax(scores, dim=-1).gather(-1, ids)
