"""Assignments sorted by expert in plain PyTorch, for forms that compute on expert-contiguous rows.

Letters: N rows, E experts, k experts per row if the same for all rows, M assignments, C output width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from models.routing import Routing


class Sorted(NamedTuple):
    """The M assignments sorted by expert, rows ascending within each; nothing here waits for the device."""

    experts: Tensor  # (M,) int64, the expert of each place
    ends: Tensor  # (E,) int64, one past the last place of each expert
    order: Tensor  # (M,) int64, the assignment of each place


def sort_by_expert(experts: Tensor, count: int) -> Sorted:
    """Return the assignments to `experts` (M,), of which there are E = `count`, sorted by expert."""
    assigned, order = torch.sort(experts, stable=True)  # (M,), (M,)
    every = torch.arange(count, dtype=assigned.dtype, device=assigned.device)
    return Sorted(assigned, torch.searchsorted(assigned, every, right=True), order)


def rows_in(order: Tensor, routing: Routing) -> Tensor:
    """Return the rows (M,) of the assignments of `routing` in another `order` (M,)."""
    return routing.rows[order] if routing.per_row is None else order // routing.per_row


def combine(y: Tensor, order: Tensor, rows: Tensor, routing: Routing) -> Tensor:
    """Return the sum over each row's assignments of weight times output, (N, C).

    `y` (M, C) are the outputs of the assignments in `order` (M,), and `rows` (M,) their rows. If rows have different
    numbers of experts, a GPU adds the outputs of a row in any order.
    """
    if routing.per_row is not None:
        return combine_even(y, order, routing.row_weights)
    weighted = y * routing.weights[order, None]  # (M, C), as wide as the weights
    return weighted.new_zeros(routing.scores.shape[0], y.shape[-1]).index_add(0, rows, weighted).to(y.dtype)


def combine_even(y: Tensor, order: Tensor, weights: Tensor) -> Tensor:
    """Return what `combine` returns if every row has k experts: weights (N, k), M = N k assignments in row order."""
    N, k = weights.shape
    places = torch.empty_like(order)  # (M,), the place of each assignment
    places[order] = torch.arange(order.shape[0], device=order.device)
    picked = y[places].view(N, k, y.shape[-1]).to(weights.dtype)  # (N, k, C)
    return torch.einsum("nk,nkc->nc", weights, picked).to(y.dtype)
