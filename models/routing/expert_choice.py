"""Expert choice: every expert takes its best rows, the same number for each expert (Zhou et al. 2022).

    expert e is in S_n for the min(N, P) rows n with the largest q_n[e]; the lowest n first if equal

The experts of a row depend on the whole batch, and a row may have none. A row with NaN, as padding may
have, is the last choice of every expert.

Letters: N rows, E experts, k experts per row on average, P places of an expert, M = E P.
"""

from __future__ import annotations

from fractions import Fraction
from math import ceil
from typing import ClassVar, Literal

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor

from models.routing import Assignments, every_row, shares, weigh
from models.routing.decision import ROUNDING, Decision, Float64, Integers, Mask, Ranked
from models.routing.places import Factor, PlacesConfig


class ExpertChoiceConfig(PlacesConfig):
    """For each expert the P rows (or all N) that give it the largest shares of their gate."""

    policy: Literal["expert_choice"] = "expert_choice"
    capacity_factor: Factor = 1.0

    rank = 4
    k_is = "mean"
    even_load = True
    usual_balance: ClassVar = {}

    def route(self, ranking: Tensor, scores: Tensor) -> Assignments:
        """Return the assignments, row by row, chosen by softmax(ranking / temperature) and weighed by `scores`.

        Both are (N, E). The lowest of the rows with equal shares comes first, and rows with NaN come last, so that they
        take no place that another row wants.
        """
        share = shares(ranking, self.temperature).T  # (E, N)
        share = torch.where(share.isnan(), -1, share)
        best = torch.sort(share, dim=-1, descending=True, stable=True).indices  # (E, N)
        places = min(share.shape[1], self.capacity(share.shape[1]))
        taken = best[:, :places].reshape(-1)  # (M,), expert by expert
        rows, order = torch.sort(taken, stable=True)  # (M,), (M,)
        experts = every_row(self.experts, places, share.device)[order]
        return Assignments(rows, experts, weigh(scores, rows, experts, self.temperature, self.weights_over))

    def decide(self, ranked: Ranked) -> Decision:
        """Return the same choice as `route`, in float64, and what may change if shares move by the error."""
        unranked = np.argsort(ranked.order, axis=1)
        nan = np.isinf(ranked.scores[:, :1])
        share = np.take_along_axis(np.where(nan, -1, ranked.shares), unranked, axis=1)  # (N, E)
        odds, error = ranked.log_odds(), 2 * ranked.error[:, None] + ROUNDING
        low = np.take_along_axis(np.where(nan, -1, expit(odds - error)), unranked, axis=1)
        high = np.take_along_axis(np.where(nan, -1, expit(odds + error)), unranked, axis=1)
        low, high = np.minimum(low, share), np.maximum(high, share)
        places = ceil(Fraction(repr(self.capacity_factor)) * len(share) * self.k / self.experts)

        def within(values: Float64, others: Float64) -> Mask:
            ahead = np.stack([_ahead(*columns) for columns in zip(values.T, others.T, strict=True)], axis=1)  # (N, E)
            return ahead < places

        return Decision(within(share, share), within(high, low) & ~within(low, high))

    def most_assignments(self, rows: int) -> int:
        """Return the assignments that N = `rows` have, whatever the scores."""
        return self.all_places(rows)


def _ahead(values: Float64, others: Float64) -> Integers:
    """Return how many other rows come before each row (N,) if it has its `values` (N,) and they have `others` (N,).

    A row comes before another if its value is larger, or equal and its number lower.
    """
    N = len(values)
    is_other, row = np.repeat([0, 1], N), np.tile(np.arange(N), 2)
    ranked = np.lexsort((is_other, row, -np.concatenate([values, others])))
    passed = np.cumsum(ranked >= N)
    ahead = np.empty(N, dtype=np.int64)
    ahead[ranked[ranked < N]] = passed[ranked < N]
    return ahead - (others > values)  # a row does not come before itself


POLICY = ExpertChoiceConfig
