"""Means over seeds and differences between them, with Student's t: seeds are few and their spread is unknown.

An interval covers what another seed would change on the same data and recipe, and nothing else.

Source: Welch, "The generalization of Student's problem", Biometrika 34, 1947, for unequal spreads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from reports.numbers.stats import Floats

CONFIDENCE = 0.95
INTERVAL = f"{100 * CONFIDENCE:g} % interval"
"""Of a mean over seeds, as texts call it."""


@dataclass(frozen=True)
class Spread:
    """A mean over `n` seeds and their sample standard deviation, None for one seed."""

    mean: float
    sd: float | None
    n: int


@dataclass(frozen=True)
class Difference:
    """A difference of means with its interval of `CONFIDENCE`; no interval if a side has one seed alone.

    If `paired`, both sides have the same `n` seeds; else `n` is that of the smaller side.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    paired: bool

    @property
    def clear(self) -> bool:
        """Whether there is an interval and it leaves out zero."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


def spread(values: Iterable[float | None]) -> Spread | None:
    """Return mean and sample standard deviation of the values, one a seed, that are not None; None without any."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    sd = float(np.std(known, ddof=1)) if len(known) > 1 else None
    return Spread(float(np.mean(known)), sd, len(known))


def difference(first: Mapping[int, float], second: Mapping[int, float]) -> Difference | None:
    """Return mean `first` minus mean `second`, both by seed; None if either has no seed.

    If both share two seeds or more, it is paired over these, so that what a seed does to both sides (its split, its
    order of images) cancels. Otherwise the sides count as independent, with Welch's degrees of freedom.
    """
    shared = sorted(first.keys() & second.keys())
    if len(shared) > 1:
        return _paired(np.array([first[seed] - second[seed] for seed in shared]))
    if not first or not second:
        return None
    return _welch(np.array(list(first.values())), np.array(list(second.values())))


def _paired(differences: Floats) -> Difference:
    """Return the mean of differences (n,), one a seed."""
    n = differences.size
    value = float(differences.mean())
    half = _quantile(n - 1) * float(differences.std(ddof=1)) / n**0.5
    return Difference(value, value - half, value + half, n, paired=True)


def _welch(first: Floats, second: Floats) -> Difference:
    """Return the difference of the means of two independent samples."""
    value = float(first.mean() - second.mean())
    n = min(first.size, second.size)
    if n < 2:
        return Difference(value, None, None, n, paired=False)
    variances = np.array([side.var(ddof=1) / side.size for side in (first, second)])
    total = float(variances.sum())
    freedom = np.array([first.size - 1, second.size - 1])
    half = 0.0
    if total:
        half = _quantile(total**2 / float((variances**2 / freedom).sum())) * total**0.5
    return Difference(value, value - half, value + half, n, paired=False)


def _quantile(freedom: float) -> float:
    """Return how many standard errors lie between the mean and an end of the interval."""
    return float(stdtrit(freedom, 1 - (1 - CONFIDENCE) / 2))
