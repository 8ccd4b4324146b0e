"""Medians, their intervals, and the verdict on a ratio of two.

Samples come in blocks: in each block every form of a shape is measured once or a few times, in random order. What
disturbs the machine for a while disturbs whole blocks, so blocks are what is resampled (a cluster bootstrap, Davison
and Hinkley 1997, section 3.8), and two cases of the same blocks are resampled together: the disturbance cancels in
their ratio. Percentile intervals; every draw comes from a fixed seed, so the same samples give the same interval.

Letters: n samples, B blocks, R resamples.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
LEAST_EFFECT = 0.03
LEAST_BLOCKS = 6  # no fewer hold a 95 % interval of a median: all on one side has probability 2 x 0.5^B
RESAMPLES = 2000
SEED = 2601

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class Verdict(StrEnum):
    """What a ratio of times says, told from its interval and a least effect."""

    FASTER = "FASTER"
    SLOWER = "SLOWER"
    SAME = "SAME"
    UNCLEAR = "UNCLEAR"


@dataclass(frozen=True)
class Estimate:
    """A median or a ratio of medians, with its 95 % interval; `low` and `high` are None below `LEAST_BLOCKS` blocks.

    `samples` and `blocks` are those it rests on (of the smaller side, for a ratio); `paired` says that both sides of
    a ratio were measured in the same blocks.
    """

    value: float
    low: float | None
    high: float | None
    samples: int
    blocks: int
    paired: bool = False


def median(samples: Floats, blocks: Integers) -> Estimate:
    """Return the median of `samples` (n,) in seconds, resampling the blocks (n,) they were taken in."""
    count = np.unique(blocks).size
    value = float(np.median(samples))
    if count < LEAST_BLOCKS:
        return Estimate(value, None, None, samples.size, count)
    low, high = _interval(_resampled_medians(samples, blocks, _draws(count, stream=0)))
    return Estimate(value, low, high, samples.size, count)


def ratio_of_medians(
    base: Floats, base_blocks: Integers, samples: Floats, blocks: Integers, interleaved: bool
) -> Estimate:
    """Return median(base) / median(samples): how many times faster `samples` (n,) are than `base` (n',).

    With `interleaved`, only blocks that both share count, and each resample draws the same blocks for both. Otherwise,
    or where they share fewer than `LEAST_BLOCKS` blocks, the two sides are resampled apart.
    """
    shared = np.intersect1d(base_blocks, blocks)
    paired = interleaved and shared.size >= LEAST_BLOCKS
    if paired:
        kept, base_kept = np.isin(blocks, shared), np.isin(base_blocks, shared)
        base, base_blocks, samples, blocks = base[base_kept], base_blocks[base_kept], samples[kept], blocks[kept]
    value = float(np.median(base) / np.median(samples))
    base_count, count = np.unique(base_blocks).size, np.unique(blocks).size
    least_samples, least_blocks = min(base.size, samples.size), min(base_count, count)
    if least_blocks < LEAST_BLOCKS:
        return Estimate(value, None, None, least_samples, least_blocks)
    draws = _draws(count, stream=0)
    base_draws = draws if paired else _draws(base_count, stream=1)
    ratios = _resampled_medians(base, base_blocks, base_draws) / _resampled_medians(samples, blocks, draws)
    low, high = _interval(ratios)
    return Estimate(value, low, high, least_samples, least_blocks, paired)


def verdict(ratio: Estimate, least_effect: float = LEAST_EFFECT) -> Verdict:
    """Say what `ratio` (above 1: faster) means.

    SAME when its interval lies within a factor 1 + `least_effect` of 1; FASTER or SLOWER when the interval excludes 1
    and the ratio itself is beyond that factor; UNCLEAR otherwise, and where there is no interval.
    """
    if ratio.low is None or ratio.high is None:
        return Verdict.UNCLEAR
    upper = 1 + least_effect
    lower = 1 / upper
    if lower <= ratio.low and ratio.high <= upper:
        return Verdict.SAME
    if ratio.low > 1 and ratio.value > upper:
        return Verdict.FASTER
    if ratio.high < 1 and ratio.value < lower:
        return Verdict.SLOWER
    return Verdict.UNCLEAR


def _draws(blocks: int, stream: int) -> Integers:
    """Return how often each resample draws each block, (R, B); another `stream` draws independently."""
    rng = np.random.default_rng((SEED, stream))
    return rng.multinomial(blocks, np.full(blocks, 1 / blocks), size=RESAMPLES)


def _resampled_medians(samples: Floats, blocks: Integers, draws: Integers) -> Floats:
    """Return the median of each resample, (R,): of the samples, each as often as its block was drawn in `draws`."""
    order = np.argsort(samples, kind="stable")
    ranked = samples[order]
    numbers = np.unique(blocks, return_inverse=True)[1][order]
    reached = np.cumsum(numbers[:, None] == np.arange(draws.shape[1]), axis=0)  # (n, B) samples of a block up to a rank
    total = draws @ reached[-1]
    lower, upper = _ranks(draws, reached, (total - 1) // 2), _ranks(draws, reached, total // 2)
    medians: Floats = (ranked[lower] + ranked[upper]) / 2
    return medians


def _ranks(draws: Integers, reached: Integers, places: Integers) -> Integers:
    """Return which rank among the samples, (R,), stands at `places` (R,) of each resample, by bisection."""
    low, high = np.zeros_like(places), np.full_like(places, len(reached) - 1)
    while np.any(low < high):
        middle = (low + high) // 2
        beyond = np.einsum("rb,rb->r", draws, reached[middle]) > places
        low, high = np.where(beyond, low, middle + 1), np.where(beyond, middle, high)
    return low


def _interval(values: Floats) -> tuple[float, float]:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)
