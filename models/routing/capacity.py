"""Fixed capacity: every row wants k experts, every expert serves a limited number of the batch's rows.

    S_n = in rounds r = 1, 2, ... every row with fewer than m.k experts asks its r-th best, which serves the first rows
          that ask, in order of n, until it serves P rows from all rounds; m.k rounds if m.overflow is "drop", E if it
          is "next"

Places go first to earlier choices, then to earlier rows (Lepikhin et al. 2020, GShard). A row with NaN, as padding may
have, asks nobody.

Letters: N rows, E experts, k wanted experts per row, P places of an expert, R rounds.
"""

from __future__ import annotations

from fractions import Fraction
from math import ceil
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from models.routing import Assignments, ranks, select, weigh
from models.routing.decision import Decision, Integers, Mask, Ranked
from models.routing.places import Factor, PlacesConfig


class CapacityConfig(PlacesConfig):
    """The k best experts of each row that have room; if `overflow` is "next", the next best ones with room."""

    policy: Literal["capacity"] = "capacity"
    capacity_factor: Factor = 1.25
    overflow: Literal["drop", "next"] = "drop"

    rank = 1
    k_is = "wanted"
    usual_balance: ClassVar = {"importance": 0.2, "load": 0.2}

    @property
    def rounds(self) -> int:
        """R, how often a row may ask."""
        return self.k if self.overflow == "drop" else self.experts

    def route(self, ranking: Tensor, scores: Tensor) -> Assignments:
        """Return the assignments that get a place, best first within a row.

        `ranking` (N, E) chooses them and `scores` (N, E) weigh them.
        """
        order = select(ranking, self.rounds)  # (N, R)
        wanted = self.k * ranks(ranking)  # (N,)
        granted = places(order, wanted, self.capacity(order.shape[0]), self.experts)  # (N, R)
        rows, rounds = torch.where(granted)  # (M,), (M,)
        experts = order[rows, rounds]
        weights = weigh(scores, rows, experts, self.temperature, self.weights_over)
        return Assignments(rows, experts, weights, dropped=order.shape[0] * self.k - granted.sum())

    def decide(self, ranked: Ranked) -> Decision:
        """Return the same choice as `route`, in float64, and what may change if close neighbours swap."""
        wanted = np.where(ranked.scores[:, 0] < np.inf, self.k, 0)
        selected, _ = self._places(ranked.order, np.zeros_like(ranked.near), wanted)
        surely, maybe = self._places(ranked.order, ranked.near, wanted)
        return Decision(selected, maybe & ~surely)

    def most_assignments(self, rows: int) -> int:
        """Return the most assignments to experts that N = `rows` can have."""
        return min(rows * self.k, self.all_places(rows))

    def _places(self, order: Integers, near: Mask, wanted: Integers) -> tuple[Mask, Mask]:
        """Return who surely gets a place and who may get one, both (N, E), if `near` neighbours of `order` may swap.

        Each row asks for as many experts as are `wanted` (N,).

        Each count has a least and a most: the places taken (E,) and the experts that a row still lacks (N,).
        """
        N, E = order.shape
        places = ceil(Fraction(repr(self.capacity_factor)) * N * self.k / self.experts)
        surely, maybe = np.zeros((N, E), dtype=bool), np.zeros((N, E), dtype=bool)
        least_taken, most_taken = np.zeros(E, dtype=np.int64), np.zeros(E, dtype=np.int64)
        least_lacking, most_lacking = wanted, wanted
        swaps = np.cumsum(np.hstack([np.zeros((N, 1), dtype=bool), ~near]), axis=1)  # (N, E): equal ranks may swap
        for turn in range(self.rounds):
            may_ask = np.zeros((N, E), dtype=bool)
            np.put_along_axis(may_ask, order, swaps == swaps[:, turn, None], axis=1)
            may_ask &= most_lacking[:, None] > 0
            must_ask = may_ask & ((may_ask.sum(axis=1) == 1) & (least_lacking > 0))[:, None]
            must_get = must_ask & (most_taken + np.cumsum(may_ask, axis=0) <= places)
            may_get = may_ask & (least_taken + np.cumsum(must_ask, axis=0) - must_ask < places)
            least_taken = np.minimum(least_taken + must_ask.sum(axis=0), places)
            most_taken = np.minimum(most_taken + may_ask.sum(axis=0), places)
            least_lacking = least_lacking - may_get.any(axis=1)
            most_lacking = most_lacking - must_get.any(axis=1)
            surely |= must_get
            maybe |= may_get
            if not most_lacking.any():
                break
        return surely, maybe


def places(order: Tensor, wanted: Tensor, capacity: int, experts: int) -> Tensor:
    """Return which requests get a place, (N, R) bool.

    `order` (N, R) has the experts that each row asks, round by round, until it has as many as are `wanted` (N,).
    """
    every = torch.arange(experts, device=order.device)
    taken = torch.zeros_like(every)  # (E,)
    lacking = wanted
    granted = []
    for asked in order.unbind(dim=1):
        asks = (asked[:, None] == every) & (lacking > 0)[:, None]  # (N, E)
        gets = asks & (taken + asks.long().cumsum(dim=0) <= capacity)
        taken = taken + gets.sum(dim=0)
        granted.append(gets.any(dim=1))  # (N,)
        lacking = lacking - granted[-1].long()
    return torch.stack(granted, dim=1)


POLICY = CapacityConfig
