"""A ratio of two medians of which only quartiles are known, not the samples."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, hypot, log
from statistics import NormalDist

from reports.numbers.stats import CONFIDENCE, LEAST_BLOCKS, Estimate

MEDIAN_ERROR = 0.93
"""Standard error of a median of n samples, in interquartile ranges / sqrt(n) (McGill, Tukey and Larsen 1978)."""

WIDEST = log(10)
"""Half width of an interval, in logarithms, beyond which it says nothing."""


@dataclass(frozen=True)
class Quartiles:
    """The median and the interquartile range of `rounds` samples, in seconds."""

    median: float
    iqr: float
    rounds: int

    @property
    def relative_error(self) -> float:
        """The standard error of the median as a share of it; samples count as independent of each other."""
        return float(MEDIAN_ERROR * self.iqr / self.rounds**0.5 / self.median)


def ratio_of_medians(base: Quartiles, new: Quartiles) -> Estimate:
    """Return base / new, normal in its logarithm.

    It has no interval where a side has few rounds, nor one that reaches over more than a factor of ten either way.
    """
    value, rounds = base.median / new.median, min(base.rounds, new.rounds)
    half = NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * hypot(base.relative_error, new.relative_error)
    if rounds < LEAST_BLOCKS or half > WIDEST:
        return Estimate(value, None, None, rounds, rounds)
    return Estimate(value, exp(log(value) - half), exp(log(value) + half), rounds, rounds)
