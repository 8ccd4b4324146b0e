"""One case before and after: its ratio, what casts doubt on it, and the verdict.

The ratio is base / new, so above 1 NEW is faster. A case in doubt is UNCLEAR, unless the reader asks for verdicts all
the same: by the raw ratio, or by that normalised by the anchor, work that never changes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import exp, hypot, log
from statistics import NormalDist
from typing import Literal

import numpy as np

from reports.numbers import ranks, stats, units
from reports.numbers.stats import CONFIDENCE, LEAST_BLOCKS, Estimate, Floats, Integers, Reading, Verdict
from reports.records.summary import Summary, summarised

ROUNDING = 1e-9
"""Share of the least effect left to floating point: a change of exactly the least effect counts as beyond it."""
WIDEST = log(10)
"""An interval with a larger half width, in logarithms, says nothing."""
BELOW, SPREADS = 3, 10
"""Rounds that are so many times faster than the median, and so many interquartile ranges below it, did other work."""
NONE: Floats = np.zeros(0)
NO_BLOCKS: Integers = np.zeros(0, dtype=np.int64)
Doubtful = Literal["unclear", "raw", "normalised"]
"""What becomes of a case in doubt: UNCLEAR, or the verdict of its raw ratio or of that normalised by the anchor."""


@dataclass(frozen=True)
class Side:
    """One run's times of a case: samples (n,) in seconds and the block of each, both empty if only `summary` is known.

    `summary` may be None if there are samples.
    """

    samples: Floats
    blocks: Integers
    summary: Summary | None = None

    @cached_property
    def known(self) -> Summary:
        """Its summary: that of the samples, if there are any."""
        if self.samples.size or not self.summary:
            return summarised(self.samples)
        return self.summary

    @property
    def median(self) -> float:
        """The median over blocks of the median of each, in seconds; that of the summary without samples."""
        return stats.middle(self.samples, self.blocks) if self.samples.size else self.known.median

    @property
    def tick(self) -> float:
        """The seconds between two readings of its clock as a share of the median; 0 for a fine clock."""
        return (stats.tick(self.samples) if self.samples.size else self.known.tick) / self.median


@dataclass(frozen=True)
class Change:
    """A case that has a time in both runs.

    Attributes:
        case: Its name in both files.
        label: A name for charts, which says how it differs from the others.
        family: The summary that it belongs to: its head and form, or the group of a plain benchmark.
        form: The form it runs in; "" for a plain benchmark.
        together: Cases that share it were measured interleaved.
        base: Its median before, in seconds; `new` is that after.
        ratio: base / new.
        verdict: Whether NEW is faster.
        by_quartiles: The interval comes from summary statistics, since raw samples are missing.
        doubt: Why the ratio may mislead, in words; "" for no reason known.
        anchor: How many times as long the anchor took in NEW; None if that is unknown.
        readings: What each side's run says, to be joined with those of further runs.
    """

    case: str
    label: str
    family: str
    form: str
    together: str
    base: float
    new: float
    ratio: Estimate
    verdict: Verdict
    by_quartiles: bool = False
    doubt: str = ""
    anchor: float | None = None
    readings: tuple[Reading, Reading] | None = None

    @property
    def normalised(self) -> Estimate | None:
        """The ratio that the case would have if the anchor had taken as long in both runs."""
        if self.anchor is None:
            return None
        low, high = (end and end * self.anchor for end in (self.ratio.low, self.ratio.high))
        return replace(self.ratio, value=self.ratio.value * self.anchor, low=low, high=high)

    def judged(self, least: float, doubtful: Doubtful) -> Change:
        """Return the change with its verdict by the `least` effect."""
        if self.doubt and doubtful == "unclear":
            return replace(self, verdict=Verdict.UNCLEAR)
        ratio = self.normalised if doubtful == "normalised" else None
        return replace(self, verdict=verdict(ratio or self.ratio, least))


@dataclass(frozen=True)
class Untimed:
    """A case without a ratio, and why."""

    case: str
    reason: str


def verdict(ratio: Estimate, least: float) -> Verdict:
    """Return the verdict on NEW; a change of exactly `least` counts as beyond it, in spite of floating point."""
    return stats.verdict(ratio, least * (1 - ROUNDING))


def change(
    base: Side,
    new: Side,
    *,
    case: str,
    label: str,
    family: str,
    form: str,
    together: str,
    interleaved: bool,
    doubt: str,
    least: float,
    doubtful: Doubtful,
    anchor: float | None = None,
) -> Change:
    """Return what became of a case; `interleaved` if both sides hold the same blocks, and `doubt` if there is any."""
    by_quartiles = not (base.samples.size and new.samples.size)
    if by_quartiles:
        base, new = (Side(NONE, NO_BLOCKS, side.known) for side in (base, new))
        ratio = ratio_by_summary(base.known, new.known)
    else:
        ratio = stats.ratio_of_medians(base.samples, base.blocks, new.samples, new.blocks, interleaved)
    if not ratio.paired:
        ratio = stats.loosened(ratio, base.tick, new.tick)
    found = Change(
        case=case,
        label=label,
        family=family,
        form=form,
        together=together,
        base=base.median,
        new=new.median,
        ratio=ratio,
        verdict=Verdict.UNCLEAR,
        by_quartiles=by_quartiles,
        doubt=doubt or ("" if ratio.paired else odd_rounds(base.known) or odd_rounds(new.known)),
        anchor=anchor,
        readings=(Reading(base.median, base.known.relative_error), Reading(new.median, new.known.relative_error)),
    )
    return found.judged(least, doubtful)


def untimed(case: str, base: Side, new: Side) -> Untimed | None:
    """Return a case as one without a ratio if its median is zero on either side, else None."""
    zero = [name for name, side in (("BASE", base), ("NEW", new)) if not (side.median and side.known.median)]
    if not zero:
        return None
    return Untimed(
        case,
        f"its median in {' and '.join(zero)} is 0 s, less than a tick of the clock that timed it; time more iterations "
        "in each round, or take a finer clock",
    )


def odd_rounds(summary: Summary) -> str:
    """Return why the rounds are no samples of one thing, in words; "" if nothing says so.

    If a call only queues its work, some rounds time the queueing and others the wait for a full queue. A round of no
    time at all did nothing, or took less than a tick of its clock.
    """
    least, median = summary.least, summary.median
    if least == 0:
        return "its fastest round took no time"
    if least is None or least * BELOW >= median or median - least <= SPREADS * summary.iqr:
        return ""
    return (
        f"its fastest round took {units.seconds(least)} and half of them {units.seconds(median)} within "
        f"{units.seconds(summary.iqr)}"
    )


def ratio_by_summary(base: Summary, new: Summary) -> Estimate:
    """Return base / new: normal in its logarithm, or by least and greatest samples for fewer than `LEAST_BLOCKS`.

    It has no interval if a side has too few rounds, or if that would reach beyond a factor of ten either way.
    """
    value, rounds = base.median / new.median, min(base.rounds, new.rounds)
    unknown = Estimate(value, None, None, rounds, rounds)
    if rounds < LEAST_BLOCKS:
        if not (base.least and base.greatest and new.least and new.greatest):
            return unknown
        ends = (base.least, base.greatest, base.rounds), (new.least, new.greatest, new.rounds)
        low, high = ranks.outermost(*ends, CONFIDENCE)
        return replace(unknown, low=low, high=high)
    half = NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * hypot(base.relative_error, new.relative_error)
    if half > WIDEST:
        return unknown
    return replace(unknown, low=exp(log(value) - half), high=exp(log(value) + half))
