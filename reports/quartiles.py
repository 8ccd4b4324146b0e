"""A ratio of two medians of which only quartiles are known, not the samples."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, hypot, log
from statistics import NormalDist

from reports.stats import CONFIDENCE, LEAST_BLOCKS, Estimate

MEDIAN_ERROR = 0.93
"""Standard error of a median of n samples, in interquartile ranges / sqrt(n) (McGill, Tukey and Larsen 1978)."""


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
    """Return base / new, normal in its logarithm, without an interval where a side has few rounds."""
    value, rounds = base.median / new.median, min(base.rounds, new.rounds)
    if rounds < LEAST_BLOCKS:
        return Estimate(value, None, None, rounds, rounds)
    half = NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * hypot(base.relative_error, new.relative_error)
    return Estimate(value, exp(log(value) - half), exp(log(value) + half), rounds, rounds)
