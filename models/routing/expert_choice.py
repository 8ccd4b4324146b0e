"""Expert choice: every expert takes its best rows, so that all have as many (Zhou et al. 2022).

A row's experts depend on the whole batch, and a row may have none.

Letters: N rows, E experts, k experts per row on average, P rows per expert, M = E P.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.config import SparseConfig
from models.routing import Assignments, every_row, shares, weigh


def route(ranking: Tensor, scores: Tensor, config: SparseConfig) -> Assignments:
    """Return for each expert the P = ceil(capacity_factor N k / E) rows, or all N, with its largest shares.

    Shares are softmax(ranking / temperature) over the experts of a row; of equal ones the lowest row counts, and
    NaN ranks above every number. `ranking` and `scores`, which weigh, are (N, E).
    """
    share = shares(ranking, config.temperature).T  # (E, N)
    best = torch.sort(share, dim=-1, descending=True, stable=True).indices  # (E, N)
    places = min(share.shape[1], config.capacity(share.shape[1]))
    taken = best[:, :places].reshape(-1)  # (M,), expert by expert
    rows, order = torch.sort(taken, stable=True)  # (M,), (M,)
    experts = every_row(config.experts, places, share.device)[order]
    return Assignments(rows, experts, weigh(scores, rows, experts, config.temperature, config.weights_over))
