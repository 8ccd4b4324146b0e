"""Raw samples and how they scatter: what a reader needs to judge the medians of all other sections.

The share of the variance that lies between blocks is the intraclass correlation of a one-way analysis of variance: near
1 the machine changed from block to block, near 0 samples of one block differ as much as those of any.

Letters: n samples, B blocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reports.noise.figures import AFTER_MEDIAN, BLOCKS, MEDIAN, SAMPLES, WITHIN, samples_chart
from reports.numbers import stats, units
from reports.output import canvas
from reports.output.blocks import Choice, Column, Panel, Table, choosing, without_blanks
from reports.reading.load import Case
from reports.speed.analysis import MAP_SUITE, Analysis, Head, Setting, labels
from reports.speed.panels import INTEREST, panel
from reports.speed.tables import caption, name

SHOWN = 13_000
"""Samples of all cases together that a page draws, at most."""
LISTED = 300
"""Cases up to which each stands in a table."""
NOISIEST = 20
"""Cases of a setting that are listed where all are more than that."""
DIGITS = 4  # of a sample that is drawn


@dataclass(frozen=True)
class NoiseSection:
    """What both templates show of raw samples."""

    tables: list[Table]
    panels: list[Panel]


def section(analysis: Analysis) -> NoiseSection | None:
    """Return the samples of every case, or None without any; those of a map of break-even are too many to show."""
    cases = {setting: analysis.cases(setting) for setting in analysis.settings if setting.suite != MAP_SUITE}
    every = [case for own in cases.values() for case in own]
    if not every:
        return None
    most = share([case.samples.size for case in every], SHOWN)
    return NoiseSection(
        tables=[_table(analysis, setting, own, len(every) <= LISTED) for setting, own in cases.items() if own],
        panels=[_panel(analysis, setting, own, most) for setting, own in cases.items() if own],
    )


def share(sizes: Sequence[int], total: int) -> int:
    """Return how many of its samples each case may show, so that all of them show `total` at most.

    What cases of fewer samples leave goes to the others. Each shows two even so.
    """
    left = total
    for place, size in enumerate(sorted(sizes)):
        most = left // (len(sizes) - place)
        if size > most:
            return max(most, 2)
        left -= size
    return max(sizes)


def thinned(samples: NDArray[np.float64], most: int) -> NDArray[np.int64]:
    """Return the places of at most `most` of the samples (n,), evenly spaced, the least and the greatest among them."""
    if samples.size <= most:
        return np.arange(samples.size)
    even = np.linspace(0, samples.size - 1, max(most - 2, 0)).round().astype(np.int64)
    return np.unique([*even, samples.argmin(), samples.argmax()])


def between_blocks(samples: NDArray[np.float64], blocks: NDArray[np.int64]) -> float | None:
    """Return the share of the variance of samples (n,) that lies between their `blocks` (n,).

    It is None where there is one block, one sample in each, or no variance.
    """
    _, of, sizes = np.unique(blocks, return_inverse=True, return_counts=True)
    n, B = samples.size, sizes.size
    if B < 2 or n == B:
        return None
    means = np.bincount(of, weights=samples) / sizes
    within = float(((samples - means[of]) ** 2).sum()) / (n - B)
    between = float((sizes * (means - samples.mean()) ** 2).sum()) / (B - 1)
    usual = (n - float((sizes**2).sum()) / n) / (B - 1)
    added = max((between - within) / usual, 0.0)
    return added / (added + within) if added + within > 0 else None


def quartile_variation(samples: NDArray[np.float64]) -> float:
    """Return the coefficient of quartile variation, (Q3 - Q1) / (Q3 + Q1), of samples (n,)."""
    first, third = np.quantile(samples, [0.25, 0.75])
    return float((third - first) / (third + first))


def text(samples: NDArray[np.float64], blocks: NDArray[np.int64], medians: Mapping[int, float]) -> str:
    """Return samples (n,) in seconds as one text in microseconds: of each block its median, then those of its samples.

    `medians` are those of all samples of each block; the samples may be some of them.
    """
    groups: dict[int, list[str]] = {}
    for block, value in zip(blocks.tolist(), samples.tolist(), strict=True):
        groups.setdefault(block, []).append(_microseconds(value))
    parts = (f"{_microseconds(medians[block])}{AFTER_MEDIAN}{WITHIN.join(own)}" for block, own in groups.items())
    return BLOCKS.join(parts)


def _microseconds(value: float) -> str:
    return f"{float(f'{value * 1e6:.{DIGITS}g}'):g}"


_COLUMNS = (
    Column("head", numeric=False),
    Column("form", numeric=False),
    Column("rows"),
    Column("n"),
    Column("blocks"),
    Column("least"),
    Column("5 %"),
    Column("median"),
    Column("95 %"),
    Column("most"),
    Column("quartile variation"),
    Column("between blocks"),
    Column("ended by", numeric=False),
)


def _table(analysis: Analysis, setting: Setting, cases: Sequence[Case], whole: bool) -> Table:
    """Return how the samples of a setting's cases scatter, of all cases or of the noisiest."""
    shown, some = cases, ""
    if not whole and len(cases) > NOISIEST:
        noisiest = sorted(cases, key=lambda case: -quartile_variation(case.samples))[:NOISIEST]
        shown = [case for case in cases if case in noisiest]
        some = f"; the {NOISIEST} noisiest of {units.count(len(cases))} cases"
    rows = tuple(_row(analysis, case) for case in shown)
    return without_blanks(Table(f"{caption(setting)}{some}", _COLUMNS, rows))


def _row(analysis: Analysis, case: Case) -> tuple[str, ...]:
    samples, median = case.samples, analysis.latencies[case]
    fifth, last = np.quantile(samples, [0.05, 0.95])
    between = between_blocks(samples, case.blocks)
    return (
        name(analysis, Head.of(case.record)),
        case.record.form,
        units.count(case.record.rows),
        units.count(samples.size),
        units.count(median.blocks),
        *map(units.seconds, (float(samples.min()), float(fifth), median.value, float(last), float(samples.max()))),
        units.percent(quartile_variation(samples)),
        "" if between is None else units.percent(between),
        case.record.stopped_by,
    )


def _panel(analysis: Analysis, setting: Setting, cases: Sequence[Case], most: int) -> Panel:
    names = labels(Head.of(case.record) for case in cases)
    offered = sorted(cases, key=lambda case: INTEREST.index(case.record.head))
    choices = [_choice(analysis, names[Head.of(case.record)], case, most) for case in offered]
    chart = choosing("Samples of one case", canvas.spec(samples_chart()), choices)
    return panel(setting, [chart])


def _choice(analysis: Analysis, head: str, case: Case, most: int) -> Choice:
    """Return at most so many samples of a case whose `head` is called so among those to choose from."""
    record, median = case.record, analysis.latencies[case]
    shown = thinned(case.samples, most)
    numbers, times = stats.block_medians(case.samples, case.blocks)
    medians = dict(zip(numbers.tolist(), times.tolist(), strict=True))
    ends = {"us": median.value, "low": median.low, "high": median.high}
    line = {end: float(f"{value * 1e6:.{DIGITS}g}") for end, value in ends.items() if value is not None}
    n = units.plural(case.samples.size, "sample")
    some = f"{units.count(shown.size)} of {n} shown" if shown.size < case.samples.size else n
    interval = units.seconds_interval(median)
    return Choice(
        label=f"{head}, {record.form}, {units.plural(record.rows, 'row')}",
        data={SAMPLES: [text(case.samples[shown], case.blocks[shown], medians)], MEDIAN: [line]},
        message=f"{some}, {units.plural(median.blocks, 'block')}; median {units.seconds(median.value)}"
        f"{f' ({interval})' if interval else ''}.",
    )
