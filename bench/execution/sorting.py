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
    rows: Tensor  # (M,) int64, the row of each place


def sort_by_expert(routing: Routing) -> Sorted:
    """Return the assignments of `routing` sorted by expert."""
    experts, order = torch.sort(routing.experts, stable=True)  # (M,), (M,)
    every = torch.arange(routing.scores.shape[-1], dtype=experts.dtype, device=experts.device)  # (E,)
    rows = routing.rows[order] if routing.per_row is None else order // routing.per_row
    return Sorted(experts, torch.searchsorted(experts, every, right=True), order, rows)


def combine(y: Tensor, places: Sorted, routing: Routing) -> Tensor:
    """Return the sum over each row's assignments of weight times output, (N, C), from the outputs y (M, C) of `places`.

    If rows have different numbers of experts, a GPU adds the outputs of a row in any order.
    """
    if routing.per_row is None:
        weighted = y * routing.weights[places.order, None]  # (M, C), as wide as the weights
        out = weighted.new_zeros(routing.scores.shape[0], y.shape[-1]).index_add(0, places.rows, weighted)
        return routing.spoil(out).to(y.dtype)
    weights = routing.row_weights  # (N, k)
    by_row = torch.empty_like(y).index_copy_(0, places.order, y)  # (M, C), in the order of the assignments
    by_row = by_row.view(*weights.shape, y.shape[-1]).to(weights.dtype)  # (N, k, C)
    return torch.bmm(weights[:, None], by_row)[:, 0].to(y.dtype)
