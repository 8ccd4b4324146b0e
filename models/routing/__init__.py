"""Routing: which expert serves which row, with which weight; one policy per file.

Letters: N rows, E experts, M assignments of a row to an expert.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Assignments(NamedTuple):
    """What a policy decides: assignment m sends row rows[m] to expert experts[m].

    `per_row` is the number of experts per row, if it is the same for all rows. `dropped` counts the wanted assignments
    for which there was no place, if the policy can drop any.
    """

    rows: Tensor  # (M,) int64, never falling
    experts: Tensor  # (M,) int64, distinct within a row
    weights: Tensor  # (M,) float32 or wider
    per_row: int | None = None
    dropped: Tensor | None = None  # () int64


class Routing(NamedTuple):
    """A routing decision over N rows and E experts: the fields of `Assignments`, and the scores behind them.

    `scores` come before noise and before any correction of the choice. `raw` are the outputs of the gate, from which
    `scores` follow if the head standardises. `noisy` and `noise_std` exist in training only.
    """

    rows: Tensor  # (M,) int64, never falling
    experts: Tensor  # (M,) int64, distinct within a row
    weights: Tensor  # (M,) float32 or wider
    scores: Tensor  # (N, E) float32 or wider
    per_row: int | None = None
    dropped: Tensor | None = None  # () int64
    noisy: Tensor | None = None  # (N, E)
    noise_std: Tensor | None = None  # (N, E)
    raw: Tensor | None = None  # (N, E)
    spoilt: Tensor | None = None  # (N,) bool, rows with NaN, which may have no expert to say so; None if all have one

    @property
    def ids(self) -> Tensor:
        """The experts as (N, per_row). Raises `ValueError` if rows have different numbers of them."""
        return self.experts.view(-1, self._experts_per_row())

    @property
    def row_weights(self) -> Tensor:
        """The weights as (N, per_row). Raises `ValueError` if rows have different numbers of experts."""
        return self.weights.view(-1, self._experts_per_row())

    def load(self) -> Tensor:
        """Return the number of rows that each expert serves, (E,) int64, without synchronising the device."""
        none = self.experts.new_zeros(self.scores.shape[-1])
        return none.scatter_add(0, self.experts, torch.ones_like(self.experts))

    def spoil(self, out: Tensor) -> Tensor:
        """Return the outputs (N, C) with NaN in spoilt rows, also in those that no expert serves."""
        return out if self.spoilt is None else out.masked_fill(self.spoilt[:, None], torch.nan)

    def matrix(self) -> Tensor:
        """Return the weights as (N, E): zero if an expert does not serve a row."""
        if self.per_row is not None:
            return torch.zeros_like(self.scores).scatter(1, self.ids, self.row_weights)
        return torch.zeros_like(self.scores).index_put((self.rows, self.experts), self.weights)

    def _experts_per_row(self) -> int:
        if self.per_row is None:
            raise ValueError("the rows of this routing have different numbers of experts; use its flat form")
        return self.per_row


def router_scores(x: Tensor, layer: nn.Linear) -> Tensor:
    """Return layer(x) (N, E) for x (N, D), in float32 even if the head runs in a narrower dtype.

    Rounding a score by 1e-2 sends rows to other experts, so routers run in float32 (Fedus et al. 2021, section 2.4).
    The decision is then the same in every form.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    with torch.autocast(x.device.type, enabled=False):
        return F.linear(x.to(dtype), layer.weight.to(dtype), layer.bias.to(dtype))


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


def ranks(scores: Tensor) -> Tensor:
    """Return which rows of scores (N, E) can be ranked, (N,) bool: those without NaN and positive infinity."""
    return (scores < torch.inf).all(dim=-1)


def every_row(rows: int, times: int, device: torch.device) -> Tensor:
    """Return 0, 1, ... N - 1 (M,) int64 for N = `rows`, each repeated `times` times."""
    return torch.arange(rows, device=device)[:, None].expand(rows, times).reshape(-1)


def shares(scores: Tensor, temperature: float) -> Tensor:
    """Return softmax(scores / temperature) (N, E), in float64 so that comparing shares is exact."""
    return torch.softmax(scores.double() / temperature, dim=-1)


def weigh(
    scores: Tensor, rows: Tensor, experts: Tensor, temperature: float, over: Literal["selected", "all"]
) -> Tensor:
    """Return the weights (M,) of assignments `rows`, `experts`, from scores (N, E).

    They are a softmax over the scores of the row's selected experts, so that the weights of a row sum to one, or over
    those of all E.
    """
    scores = scores / temperature
    if over == "selected":
        chosen = torch.zeros_like(scores, dtype=torch.bool).index_put((rows, experts), rows >= 0)
        scores = torch.where(chosen, scores, torch.finfo(scores.dtype).min)  # finite, so no row is NaN
    return torch.softmax(scores, dim=-1)[rows, experts]
