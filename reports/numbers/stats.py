"""Medians, their intervals, and the verdict on a ratio of two.

Samples come in blocks: in each block every form of a shape is measured once or a few times, in random order. A
disturbance of the machine moves all samples of a block, and often the blocks of several forms together. So:

- A block counts once, by the median of its samples, and blocks are resampled (a cluster bootstrap, Davison and Hinkley
  1997, section 3.8), since samples of one block are not independent.
- Two cases of the same blocks are compared block by block: their ratio is the median over blocks of the ratio of the
  two block medians. If a machine is slow for half of a run, the medians of two cases may fall on different levels, but
  the ratio within a block is the same on both. On two cores beside a busy neighbour this interval is about half as
  wide as that of the ratio of the two medians, and holds the truth as often.

Intervals are percentile intervals; every draw comes from a fixed seed, so the same samples give the same interval.
`CONFIDENCE` is nominal: for medians of 8 to 40 blocks the intervals hold the truth one or two percent less often than
they say; in 95 % of runs and more they must hold it.

Letters: n samples, B blocks, R resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from reports.numbers import ranks

CONFIDENCE = 0.99
LEAST_EFFECT = 0.03
LEAST_BLOCKS = 8  # with fewer there is no such interval: all blocks lie on one side with probability 2 x 0.5^B
RESAMPLES = 1000
SEED = 2601
AT_ONCE = 2**22

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class Verdict(StrEnum):
    """What a ratio of times says, by its interval and a least effect."""

    FASTER = "FASTER"
    SLOWER = "SLOWER"
    SAME = "SAME"
    UNCLEAR = "UNCLEAR"


@dataclass(frozen=True)
class Estimate:
    """A median or a ratio of medians, with its interval; `low` and `high` are None below `LEAST_BLOCKS` blocks.

    `samples` and `blocks` count what it rests on, for a ratio on the smaller side. If `paired`, both sides of a ratio
    were measured in the same blocks and compared within them.
    """

    value: float
    low: float | None
    high: float | None
    samples: int
    blocks: int
    paired: bool = False


class Reading(NamedTuple):
    """What one run says of a case: its median in seconds, above zero, and the median's standard error as a share."""

    median: float
    error: float


def median(samples: Floats, blocks: Integers) -> Estimate:
    """Return the median over blocks of the median of each: of `samples` (n,) in seconds, taken in `blocks` (n,)."""
    times = block_medians(samples, blocks)[1]
    low, high = _interval(np.copy, times)
    return Estimate(float(np.median(times)), low, high, samples.size, times.size)


def ratio_of_medians(
    base: Floats, base_blocks: Integers, samples: Floats, blocks: Integers, interleaved: bool
) -> Estimate:
    """Return median(base) / median(samples): how many times faster `samples` (n,) are than `base` (n',).

    If `interleaved`, only shared blocks count: the estimate is the median over them of the ratio of the block's two
    medians. Otherwise, or if they share fewer than `LEAST_BLOCKS` blocks, it is the ratio of the two medians over
    blocks, resampled apart. If they are not `interleaved` and a side has fewer blocks than that, the interval comes
    from the ranks of the blocks' medians; if the median of a block is zero, there is none. Swapping the sides gives the
    reciprocal.
    """
    base_numbers, base_times = block_medians(base, base_blocks)
    numbers, times = block_medians(samples, blocks)
    shared, places, base_places = np.intersect1d(numbers, base_numbers, assume_unique=True, return_indices=True)
    zero = not (base_times.all() and times.all())
    if interleaved and shared.size >= LEAST_BLOCKS and not zero:
        least_samples = min(int(np.isin(blocks, shared).sum()), int(np.isin(base_blocks, shared).sum()))
        logs = np.log(base_times[base_places] / times[places])
        low, high = _interval(np.exp, logs)
        return Estimate(float(np.exp(_median(logs))), low, high, least_samples, shared.size, paired=True)
    least_samples, least_blocks = min(base.size, samples.size), min(base_times.size, times.size)
    if zero:
        low = high = None
    elif least_blocks < LEAST_BLOCKS and not interleaved:
        low, high = ranks.interval(base_times, times, CONFIDENCE)
    else:
        low, high = _interval(np.divide, base_times, times)
    return Estimate(float(_median(base_times) / _median(times)), low, high, least_samples, least_blocks)


def ratio_of_runs(base: Sequence[Reading], runs: Sequence[Reading]) -> Estimate:
    """Return how many times faster `runs` are than those of `base`, each run by its reading of one case.

    The value is the ratio of the geometric means of both sides' medians. The interval is Student's, of the logarithms
    of the medians, with one spread for both sides: what a run differs from the next by, but at least what the errors
    within the runs would make it. Both sides have two runs or more, since one alone may be the odd one.
    """
    sides = [np.log([reading.median for reading in side]) for side in (base, runs)]
    value = float(np.exp(sides[0].mean() - sides[1].mean()))
    least, freedom = min(len(base), len(runs)), len(base) + len(runs) - 2
    between = sum(float(np.square(side - side.mean()).sum()) for side in sides) / freedom
    within = float(np.mean([error**2 for _, error in (*base, *runs)]))
    quantile = float(stdtrit(freedom, (1 + CONFIDENCE) / 2))
    width = float(np.exp(quantile * (max(between, within) * (1 / len(base) + 1 / len(runs))) ** 0.5))
    return Estimate(value, value / width, value * width, least, least)


def loosened(ratio: Estimate, base: float, samples: float) -> Estimate:
    """Return `ratio` with the doubt that two coarse clocks leave: each median is off by up to this share of it."""
    if ratio.low is None or ratio.high is None or not (base or samples):
        return ratio
    if max(base, samples) >= 1:
        return replace(ratio, low=None, high=None)
    return replace(ratio, low=ratio.low * (1 - base) / (1 + samples), high=ratio.high * (1 + base) / (1 - samples))


def tick(samples: Floats) -> float:
    """Return the seconds between two readings of the clock that took `samples` (n,); 0 for one that is fine enough.

    A coarse clock gives few values, all of them multiples of its tick. Values closer than a ten-thousandth of the
    median count as one.
    """
    values = np.sort(samples)
    jumps = np.flatnonzero(np.diff(values) > 1e-4 * np.median(values))
    if not 0 < jumps.size < values.size / 2 - 1:
        return 0.0
    readings = values[[0, *(jumps + 1)]]
    step = float(np.diff(readings).min())
    return step if np.all(np.abs(readings / step - np.round(readings / step)) < 0.02) else 0.0


def verdict(ratio: Estimate, least_effect: float = LEAST_EFFECT) -> Verdict:
    """Return what `ratio` (above 1: faster) means.

    SAME if its interval lies within a factor 1 + `least_effect` of 1; FASTER or SLOWER if the interval excludes 1 and
    the ratio itself is beyond that factor; UNCLEAR otherwise, and if there is no interval.
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


def middle(samples: Floats, blocks: Integers) -> float:
    """Return the median over blocks of the median of each, in seconds, without its interval."""
    return float(np.median(block_medians(samples, blocks)[1]))


def block_medians(samples: Floats, blocks: Integers) -> tuple[Integers, Floats]:
    """Return the blocks' numbers (B,), ascending, and the median of each block's samples (B,)."""
    order = np.lexsort((samples, blocks))
    ranked = samples[order]
    numbers, starts, sizes = np.unique(blocks[order], return_index=True, return_counts=True)
    return numbers, (ranked[starts + (sizes - 1) // 2] + ranked[starts + sizes // 2]) / 2


def _median(values: Floats) -> Floats:
    """Return the medians of the rows of `values` (..., B); for short rows sorting is faster than `np.median`."""
    ranked = np.sort(values, axis=-1)
    size = values.shape[-1]
    return (ranked[..., (size - 1) // 2] + ranked[..., size // 2]) / 2


def _interval(statistic: Callable[..., Floats], *sides: Floats) -> tuple[float, float] | tuple[None, None]:
    """Return the ends of the interval of a `statistic` of the medians over blocks of each side (B,).

    They are None for too few blocks. From logarithms of factors `np.exp` gives the median factor, which is the
    geometric mean of the middle two if B is even.
    """
    if min(side.size for side in sides) < LEAST_BLOCKS:
        return None, None
    rng = np.random.default_rng(SEED)
    ranked = np.sort(statistic(*(_resampled(side, rng) for side in sides)))
    tail = (1 - CONFIDENCE) / 2
    return _quantile(ranked, tail), _quantile(ranked, 1 - tail)


def _resampled(side: Floats, rng: np.random.Generator) -> Floats:
    """Return the median of each resample of blocks: (B,) -> (R,). Only `AT_ONCE` values are in memory together."""
    rows = max(1, AT_ONCE // side.size)
    counts = [min(rows, RESAMPLES - start) for start in range(0, RESAMPLES, rows)]
    return np.concatenate([_median(side[rng.integers(side.size, size=(count, side.size))]) for count in counts])


def _quantile(ranked: Floats, share: float) -> float:
    """Return the quantile of ascending values (R,), linear between the two nearest; `share` lies between 0 and 1."""
    place = share * ranked.size - share
    below = int(place)
    return float((1 - place % 1) * ranked[below] + place % 1 * ranked[below + 1])
