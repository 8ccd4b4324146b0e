"""Which experts serve which rows, in float64 and NumPy, and which of it float32 cannot decide.

Every policy says here once more, apart from its route in torch, whom it chooses; executions are checked against that.
Scores that float32 cannot tell apart leave open who serves a row. If the rows of a batch compete for places, that may
leave open the places of others too: there the fewest and the most rows that can be ahead of a row are counted.

Letters: N rows, E experts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit, softmax

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

    @classmethod
    def by(cls, scores: Float64, error: Float64) -> Self:
        """Return the ranking by `scores` (N, E), of which float32 tells values apart that differ by `error` (N,)."""
        scores = np.where(np.isnan(scores), np.inf, scores)
        order = np.argsort(-scores, axis=1, kind="stable")
        scores = np.take_along_axis(scores, order, axis=1)
        near = scores[:, :-1] - scores[:, 1:] < error[:, None]
        return cls(scores, order, error, near)

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
