"""Which experts serve which rows, in float64 with NumPy, and where float32 may decide otherwise.

Before a form is timed, `bench.correctness` compares its outputs with a float64 reference. The reference must know which
experts each policy chooses, from code that shares nothing with the routes in torch that it checks. So each policy has a
`decide` beside its `route`. The tests check both against a third version, `tests/models/policy_oracle.py`.

Scores that float32 cannot tell apart leave open which experts serve a row. If rows compete for places, this can leave
the places of other rows open too. The policies with places therefore count the fewest and the most rows that can come
before a row.

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
    """Which experts serve which rows (N, E), and which of these float32 may decide otherwise (N, E)."""

    selected: Mask
    undecided: Mask


@dataclass(frozen=True)
class Ranked:
    """Scores / temperature (N, E), best first, with the experts `order` (N, E) and the error of float32 (N,).

    Equal scores are ordered by expert, and NaN counts as infinity. `near` (N, E - 1) says which neighbours float32
    cannot tell apart.
    """

    scores: Float64
    order: Integers
    error: Float64
    near: Mask

    @classmethod
    def by(cls, scores: Float64, error: Float64) -> Self:
        """Return the ranking by `scores` (N, E); float32 cannot tell values apart that differ by less than `error`."""
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
        """Return the log-odds of each share (N, E), or of the sum of each with all before it; they never saturate."""
        edge = np.full((len(self.scores), 1), -np.inf)
        before = np.hstack([edge, np.logaddexp.accumulate(self.scores, axis=1)])  # (N, E + 1)
        after = np.hstack([edge, np.logaddexp.accumulate(self.scores[:, ::-1], axis=1)])[:, -2::-1]  # (N, E)
        odds: Float64 = before[:, 1:] - after if together else self.scores - np.logaddexp(before[:, :-1], after)
        return odds

    def close(self, odds: Float64, share: float) -> Mask:
        """Return whether float32 may put log-odds (N, ...) on the other side of those of `share`."""
        close: Mask = np.abs(odds - logit(share)) <= 2 * self.error[:, None] + ROUNDING
        return close

    def decision(self, number: Integers, close: Mask) -> Decision:
        """Return that the best `number` (N,) experts of each row serve it, and that `close` (N, E) are undecided.

        If the neighbours at a possible cut are near, both are undecided too.
        """
        ranks = np.arange(self.scores.shape[1])
        cut = (ranks[1:] == number[:, None]) | close[:, 1:] | close[:, :-1]  # (N, E - 1): before which rank
        tied = np.pad(cut & self.near, ((0, 0), (1, 1)))  # (N, E + 1)
        undecided = close | tied[:, 1:] | tied[:, :-1]
        return Decision(self.by_expert(ranks < number[:, None]), self.by_expert(undecided))

    def by_expert(self, chosen: Mask) -> Mask:
        """Return what is `chosen` by rank (N, E) as a mask by expert (N, E)."""
        mask = np.zeros_like(chosen)
        np.put_along_axis(mask, self.order, chosen, axis=1)
        return mask
