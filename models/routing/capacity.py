"""Fixed capacity: every row wants k experts, every expert serves a limited number of the batch's rows.

The limit is ceil(capacity_factor N k / E), and places go first to earlier choices, then to earlier rows (Lepikhin et
al. 2020, GShard), so a row's experts depend on the whole batch.

Letters: N rows, E experts, k wanted experts per row, R rounds.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.config import SparseConfig
from models.routing import Assignments, select, weigh


def route(ranking: Tensor, scores: Tensor, config: SparseConfig) -> Assignments:
    """Return the assignments that found a place, best first within a row, chosen by `ranking` (N, E).

    In round r every row that lacks experts asks its r-th best one. There are k rounds; where `overflow` is "next"
    there are E, so that a row refused by one expert has the next best with room.
    """
    order = select(ranking, config.k if config.overflow == "drop" else config.experts)  # (N, R)
    granted = places(order, config.k, config.capacity(order.shape[0]), config.experts)  # (N, R)
    rows, rounds = torch.where(granted)  # (M,), (M,)
    experts = order[rows, rounds]
    weights = weigh(scores, rows, experts, config.temperature, config.weights_over)
    return Assignments(rows, experts, weights, dropped=order.shape[0] * config.k - granted.sum())


def places(order: Tensor, k: int, capacity: int, experts: int) -> Tensor:
    """Return which requests of order (N, R), a row's experts round by round, find a place: (N, R) bool."""
    every = torch.arange(experts, device=order.device)
    taken = torch.zeros_like(every)  # (E,)
    lacking = torch.full_like(order[:, 0], k)  # (N,)
    granted = []
    for asked in order.unbind(dim=1):
        asks = (asked[:, None] == every) & (lacking > 0)[:, None]  # (N, E)
        gets = asks & (taken + asks.long().cumsum(dim=0) <= capacity)
        taken = taken + gets.sum(dim=0)
        granted.append(gets.any(dim=1))  # (N,)
        lacking = lacking - granted[-1].long()
    return torch.stack(granted, dim=1)
