"""Samples that come in blocks: the median of each block, and the interval of the median of these."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from statistics import median

from scipy.stats import binom


def block_medians(samples: Sequence[float], blocks: Sequence[int]) -> dict[int, float]:
    """Return the median of the samples of each block, by its number."""
    members: dict[int, list[float]] = {}
    for sample, block in zip(samples, blocks, strict=True):
        members.setdefault(block, []).append(sample)
    return {block: median(values) for block, values in members.items()}


def median_interval(values: Sequence[float], confidence: float) -> tuple[float, float] | None:
    """Return the interval of the median of `values`, or None if they are too few for this `confidence`.

    It lies between two order statistics and assumes no distribution: the number of values below the true median is
    binomial (David and Nagaraja 2003, section 7.1).
    """
    place = _place(len(values), confidence)
    ranked = sorted(values)
    return (ranked[place], ranked[-1 - place]) if place >= 0 else None


@cache
def _place(number: int, confidence: float) -> int:
    """Return how far from either end the interval of so many values begins, -1 if they are too few."""
    return int(binom.ppf((1 - confidence) / 2, number, 0.5)) - 1
