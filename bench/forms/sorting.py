"""Assignments sorted by expert, in plain PyTorch, for the forms that compute on expert-contiguous rows.

Letters: N rows, E experts, k experts per row, M = N k assignments, C output width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from models.routing import Routing


class Sorted(NamedTuple):
    """The M assignments in the order by expert, rows ascending within one; nothing here waits for the device."""

    rows: Tensor  # (M,) int64, the row of each place
    experts: Tensor  # (M,) int64, the expert of each place
    ends: Tensor  # (E,) int64, one past the last place of each expert
    places: Tensor  # (M,) int64, the place of each assignment


def sort_by_expert(routing: Routing) -> Sorted:
    """Return the assignments of `routing`, ids (N, k), sorted by expert."""
    k, experts = routing.ids.shape[-1], routing.scores.shape[-1]
    assigned, order = torch.sort(routing.ids.reshape(-1), stable=True)  # (M,), (M,)
    places = torch.empty_like(order)
    places[order] = torch.arange(order.shape[0], device=order.device)
    every = torch.arange(experts, dtype=assigned.dtype, device=assigned.device)
    ends = torch.searchsorted(assigned, every, right=True)
    return Sorted(order // k, assigned.long(), ends, places)


def combine(y: Tensor, places: Tensor, weights: Tensor) -> Tensor:
    """Return sum_j weights[n, j] y[place of assignment (n, j)], (N, C), from y (M, C) and weights (N, k)."""
    N, k = weights.shape
    picked = y[places].view(N, k, y.shape[-1]).to(weights.dtype)  # (N, k, C)
    return torch.einsum("nk,nkc->nc", weights, picked).to(y.dtype)
