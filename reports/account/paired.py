"""Differences within blocks: several calls timed in the same blocks, each block one observation of all of them.

A disturbance that lasts a block slows every call in it, so their differences within a block are steadier than the
differences of their medians. Letters: B blocks, P calls, J combinations of their times, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from reports.numbers import stats
from reports.numbers.stats import CONFIDENCE, LEAST_BLOCKS
from reports.reading.load import Case

RESAMPLES = 1000
SEED = 2601
Floats = NDArray[np.float64]


def block_medians(cases: Sequence[Case]) -> Floats:
    """Return the median of each of P `cases` in each block that all of them share, (B, P) in seconds."""
    numbers, medians = zip(*(stats.block_medians(case.samples, case.blocks) for case in cases), strict=True)
    shared = reduce(np.intersect1d, numbers)
    found = [own[np.isin(blocks, shared)] for blocks, own in zip(numbers, medians, strict=True)]
    return np.column_stack(found)


def resampled_medians(values: Floats) -> Floats | None:
    """Return the median of each column of `values` (B, J) over resampled blocks, (R, J), or None of too few blocks.

    Every draw comes from a fixed seed, and all columns share it.
    """
    blocks = len(values)
    if blocks < LEAST_BLOCKS:
        return None
    draws = np.random.default_rng(SEED).integers(blocks, size=(RESAMPLES, blocks))
    medians: Floats = np.median(values[draws], axis=1)
    return medians


def percentiles(values: Floats) -> tuple[Floats, Floats]:
    """Return the ends of the interval of each column of `values` (R, J), (J,) and (J,)."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(values, [tail, 1 - tail], axis=0)
    return low, high
