"""Top-k routing: exactly k distinct experts per row, ties to the lowest id.

Letters: N rows, E experts, k experts per row.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor


def standardise(scores: Tensor) -> Tensor:
    """Return scores (N, E) shifted to mean 0 and scaled to standard deviation 1 (n - 1) per row.

    A row of equal scores, and so any row when E = 1, becomes exactly zero and has a finite gradient. Subtracting
    the largest score first makes that exact; dividing by the largest deviation keeps the squares of huge scores
    finite.
    """
    below = scores - scores.detach().amax(dim=-1, keepdim=True)  # (N, E), at most 0
    deviation = below - below.mean(dim=-1, keepdim=True)
    largest = deviation.detach().abs().amax(dim=-1, keepdim=True)  # (N, 1)
    spread = largest >= torch.finfo(scores.dtype).tiny
    deviation = deviation / torch.where(spread, largest, 1)  # within [-1, 1]
    variance = deviation.square().sum(dim=-1, keepdim=True) / max(scores.shape[-1] - 1, 1)
    return deviation / torch.where(spread, variance, 1).sqrt()


def select(scores: Tensor, k: int) -> Tensor:
    """Return the ids (N, k) int64 of the k largest of scores (N, E), largest first.

    Always k distinct ids: equal scores rank by lowest id and NaN ranks above every number.
    """
    return torch.sort(scores, dim=-1, descending=True, stable=True).indices[:, :k]


def weigh(scores: Tensor, ids: Tensor, temperature: float, over: Literal["selected", "all"]) -> Tensor:
    """Return the weights (N, k) of the experts `ids` (N, k): a softmax over their scores, or over all E."""
    scores = scores / temperature
    if over == "selected":
        return torch.softmax(scores.gather(-1, ids), dim=-1)
    return torch.softmax(scores, dim=-1).gather(-1, ids)
