"""Which experts serve which rows, in float64 and NumPy apart from the heads, and which of it float32 cannot decide.

Scores that float32 cannot tell apart leave open who serves a row. Where the rows of a batch compete for places, that
may leave open the places of others too: there the fewest and the most rows that can be ahead of a row are counted.

Letters: N rows, E experts, k experts per row, P places of an expert.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, softmax

from models.config import Policy, SparseConfig

Float64 = NDArray[np.float64]
Integers = NDArray[np.int64]
Mask = NDArray[np.bool_]

ROUNDING = 1e-12
"""Two ways of computing log-odds in float64 differ by less."""


@dataclass(frozen=True)
class Decision:
    """Which experts serve which rows (N, E), and where float32 may decide otherwise (N, E)."""

    selected: Mask
    undecided: Mask


@dataclass(frozen=True)
class Ranked:
    """What a choice rests on, best first: scores (N, E) over the temperature, their experts, and float32's error (N,).

    Of equal scores the lowest expert comes first; NaN stands as infinity. `near` (N, E - 1) are the neighbours that
    float32 cannot tell apart.
    """

    scores: Float64
    order: Integers
    error: Float64
    near: Mask

    @property
    def shares(self) -> Float64:
        """The softmax of the scores (N, E)."""
        shares: Float64 = softmax(self.scores, axis=1)
        return shares

    def log_odds(self, together: bool = False) -> Float64:
        """Return the log-odds of each share (N, E), or of each with all before it `together`; never saturated."""
        edge = np.full((len(self.scores), 1), -np.inf)
        before = np.hstack([edge, np.logaddexp.accumulate(self.scores, axis=1)])  # (N, E + 1)
        after = np.hstack([edge, np.logaddexp.accumulate(self.scores[:, ::-1], axis=1)])[:, -2::-1]  # (N, E)
        odds: Float64 = before[:, 1:] - after if together else self.scores - np.logaddexp(before[:, :-1], after)
        return odds

    def close(self, odds: Float64, share: float) -> Mask:
        """Return whether float32 may put `odds` (N, ...) on the other side of those of `share`."""
        close: Mask = np.abs(odds - logit(share)) <= 2 * self.error[:, None] + ROUNDING
        return close

    def decision(self, number: Integers, close: Mask) -> Decision:
        """Return that the best `number` (N,) of each row serve it, where `close` (N, E) are undecided.

        So are the neighbours on both sides of where the row may be cut, if they are near.
        """
        ranks = np.arange(self.scores.shape[1])
        cut = (ranks[1:] == number[:, None]) | close[:, 1:] | close[:, :-1]  # (N, E - 1): before which rank
        tied = np.pad(cut & self.near, ((0, 0), (1, 1)))  # (N, E + 1)
        undecided = close | tied[:, 1:] | tied[:, :-1]
        return Decision(self.by_expert(ranks < number[:, None]), self.by_expert(undecided))

    def by_expert(self, chosen: Mask) -> Mask:
        """Return by expert what stands by rank, (N, E)."""
        found = np.zeros_like(chosen)
        np.put_along_axis(found, self.order, chosen, axis=1)
        return found


def decide(config: SparseConfig, ranking: Float64, error: Float64) -> Decision:
    """Return who serves whom by `ranking` (N, E), of which float32 tells values apart that differ by `error` (N,)."""
    key = np.where(np.isnan(ranking), np.inf, ranking) / config.temperature
    order = np.argsort(-key, axis=1, kind="stable")
    scores = np.take_along_axis(key, order, axis=1)
    error = error / config.temperature
    with np.errstate(invalid="ignore"):  # infinity less infinity is close to nothing
        near = scores[:, :-1] - scores[:, 1:] < error[:, None]
        return POLICIES[config.policy](config, Ranked(scores, order, error, near))


def _top_k(config: SparseConfig, ranked: Ranked) -> Decision:
    return ranked.decision(np.full(len(ranked.order), config.k), np.zeros_like(ranked.order, dtype=bool))


def _top_p(config: SparseConfig, ranked: Ranked) -> Decision:
    """The next expert is wanted while those before it do not reach the mass."""
    assert config.mass is not None
    wanted = np.ones_like(ranked.order, dtype=bool)
    wanted[:, 1:] = np.cumsum(ranked.shares, axis=1)[:, :-1] < config.mass
    wanted[:, config.k :] = False
    close = np.zeros_like(wanted)
    close[:, 1 : config.k] = ranked.close(ranked.log_odds(together=True), config.mass)[:, : config.k - 1]
    return ranked.decision(wanted.sum(axis=1), close)


def _threshold(config: SparseConfig, ranked: Ranked) -> Decision:
    assert config.threshold is not None
    wanted = ranked.shares >= config.threshold
    wanted[:, 0] = True
    wanted[:, config.k :] = False
    close = ranked.close(ranked.log_odds(), config.threshold)
    close[:, 0] = close[:, config.k :] = False
    return ranked.decision(wanted.sum(axis=1), close)


def _capacity(config: SparseConfig, ranked: Ranked) -> Decision:
    selected, _ = _places(config, ranked.order, np.zeros_like(ranked.near))
    surely, maybe = _places(config, ranked.order, ranked.near)
    return Decision(selected, maybe & ~surely)


def _places(config: SparseConfig, order: Integers, near: Mask) -> tuple[Mask, Mask]:
    """Return who surely finds a place and who may (N, E), where neighbours of `order` (N, E) that are `near` may swap.

    Each count is kept at its least and at its most: places taken (E,), experts that a row still lacks (N,).
    """
    N, E = order.shape
    places = _capacity_of(config, N)
    surely, maybe = np.zeros((N, E), dtype=bool), np.zeros((N, E), dtype=bool)
    least_taken, most_taken = np.zeros(E, dtype=np.int64), np.zeros(E, dtype=np.int64)
    least_lacking, most_lacking = np.full(N, config.k), np.full(N, config.k)
    swaps = np.cumsum(np.hstack([np.zeros((N, 1), dtype=bool), ~near]), axis=1)  # (N, E): ranks alike may swap
    for turn in range(config.k if config.overflow == "drop" else E):
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


def _expert_choice(config: SparseConfig, ranked: Ranked) -> Decision:
    """An expert's places go to its largest shares, of equal ones to the lowest row."""
    unranked = np.argsort(ranked.order, axis=1)
    nan = np.isinf(ranked.scores[:, :1])
    share = np.take_along_axis(np.where(nan, np.inf, ranked.shares), unranked, axis=1)  # (N, E)
    odds, error = ranked.log_odds(), 2 * ranked.error[:, None] + ROUNDING
    low = np.take_along_axis(np.where(nan, np.inf, expit(odds - error)), unranked, axis=1)
    high = np.take_along_axis(np.where(nan, np.inf, expit(odds + error)), unranked, axis=1)
    low, high = np.minimum(low, share), np.maximum(high, share)
    places = _capacity_of(config, len(share))

    def within(values: Float64, others: Float64) -> Mask:
        ahead = np.stack([_ahead(*columns) for columns in zip(values.T, others.T, strict=True)], axis=1)  # (N, E)
        return ahead < places

    return Decision(within(share, share), within(high, low) & ~within(low, high))


def _ahead(values: Float64, others: Float64) -> Integers:
    """Return how many rows come before each (N,): those with `others` above its `values`, or equal and a lower row."""
    N = len(values)
    own_first, row = np.repeat([0, 1], N), np.tile(np.arange(N), 2)
    ranked = np.lexsort((own_first, row, -np.concatenate([values, others])))
    passed = np.cumsum(ranked >= N)
    found = np.empty(N, dtype=np.int64)
    found[ranked[ranked < N]] = passed[ranked < N]
    return found - (others > values)


def _capacity_of(config: SparseConfig, rows: int) -> int:
    """Return ceil(capacity_factor N k / E), with the factor as the decimal number it is written as."""
    return ceil(Fraction(repr(config.capacity_factor)) * rows * config.k / config.experts)


POLICIES: dict[Policy, Callable[[SparseConfig, Ranked], Decision]] = {
    "top_k": _top_k,
    "top_p": _top_p,
    "threshold": _threshold,
    "capacity": _capacity,
    "expert_choice": _expert_choice,
}
