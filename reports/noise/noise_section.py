"""The section on raw samples and their scatter: what a reader needs to judge the medians of all other sections.

The share of the variance between blocks is the intraclass correlation of a one-way analysis of variance: near 1 the
machine changed from block to block, near 0 the samples of one block differ as much as those of all blocks.

Letters: n samples, B blocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt
import numpy as np
from numpy.typing import NDArray

from reports.numbers import stats, units
from reports.output import canvas, legend
from reports.output.blocks import (
    Chart,
    Choice,
    Details,
    Grid,
    Key,
    Legend,
    PageOnly,
    Section,
    Table,
    choosing,
    without_blanks,
)
from reports.output.canvas import INK
from reports.output.styles import COLOURS
from reports.output.tables import Field, number, tabulated, word
from reports.reading.load import MeasuredCase
from reports.speed.analysis import MAP_SUITE, Analysis, Head, Setting, labels
from reports.speed.settings import INTEREST, caption, identity, panel

SHOWN = 13_000
"""A page draws at most so many samples of all cases together."""
LISTED = 300
"""With more cases than this, the tables list the noisiest."""
NOISIEST = 20
"""So many cases of a setting are listed then."""
DIGITS = 4  # of a sample that is drawn
SAMPLES, MEDIAN = "samples", "median"
"""Names of the data."""
BLOCKS, AFTER_MEDIAN, WITHIN = "|", ":", " "
"""Separators between blocks, after the median of a block, and between its samples."""
_KEYS = (
    Key("one call", '<circle cx="7" cy="7" r="3" fill="currentColor" opacity="0.6"/>', (14, 14)),
    Key("median of a block", f'<path d="M0,9H14V3H34" fill="none" stroke="{COLOURS[4]}" stroke-width="2"/>'),
    legend.line("median", width=1.5, dash="6 4"),
    Key(units.INTERVAL, '<rect width="34" height="12" fill="currentColor" opacity="0.12"/>'),
)


def noise_section(analysis: Analysis) -> Section | None:
    """Return the samples of every case, or None without any; a break-even map has too many to show."""
    groups = {setting: analysis.cases(setting) for setting in analysis.settings if setting.suite != MAP_SUITE}
    by_setting = {setting: cases for setting, cases in groups.items() if cases}
    every = [case for cases in by_setting.values() for case in cases]
    if not every:
        return None
    most = share([case.samples.size for case in every], SHOWN)
    panels = [panel(setting, [_chart(analysis, cases, most)]) for setting, cases in by_setting.items()]
    scatter = Details(
        "How the samples scatter",
        [_table(analysis, setting, cases, len(every) <= LISTED) for setting, cases in by_setting.items()],
        reading="n samples in blocks; 5 % of them lie below the first mark, 5 % above the second. Quartile variation "
        "is the distance of the quartiles over their sum. Between blocks is the share of the variance that a block’s "
        "samples have in common: near 100 % the machine changed from block to block, near 0 % calls differ on their "
        "own.",
    )
    mapped = any(setting.suite == MAP_SUITE for setting in analysis.settings)
    others = " The heads of the map of break-even are not among these." if mapped else ""
    return Section(
        "noise",
        "Raw samples",
        [PageOnly([Legend("Lines and dots", _KEYS), Grid(panels, wide=True), scatter])],
        heading="Raw samples and noise",
        reading="every sample counts, none is left out of a median. Each dot is a call in the order taken, on a "
        "logarithmic axis of time, the step line the median of each block, the dashed line the median over blocks and "
        f"the shade its {units.INTERVAL}. If not all samples are shown, those shown are evenly spaced, the least and "
        f"the greatest among them.{others}",
        about="every call that was timed, in the order taken",
    )


def share(sizes: Sequence[int], total: int) -> int:
    """Return how many samples each case may show, so that all cases together show `total` at most.

    What small cases leave goes to the others. Each case shows at least two.
    """
    left = total
    for place, size in enumerate(sorted(sizes)):
        most = left // (len(sizes) - place)
        if size > most:
            return max(most, 2)
        left -= size
    return max(sizes)


def thinned(samples: NDArray[np.float64], most: int) -> NDArray[np.int64]:
    """Return the places of at most `most` samples of (n,): evenly spaced ones, the least and the greatest."""
    if samples.size <= most:
        return np.arange(samples.size)
    even = np.linspace(0, samples.size - 1, max(most - 2, 0)).round().astype(np.int64)
    return np.unique([*even, samples.argmin(), samples.argmax()])


def between_blocks(samples: NDArray[np.float64], blocks: NDArray[np.int64]) -> float | None:
    """Return the share of the variance of samples (n,) that lies between their `blocks` (n,).

    It is None with one block, with one sample in each, or without variance.
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
    """Return samples (n,) in seconds as one text in microseconds: for each block its median, then its samples.

    `medians` are taken over all samples of each block; `samples` may be fewer.
    """
    groups: dict[int, list[str]] = {}
    for block, value in zip(blocks.tolist(), samples.tolist(), strict=True):
        groups.setdefault(block, []).append(f"{_microseconds(value):g}")
    return BLOCKS.join(
        f"{_microseconds(medians[block]):g}{AFTER_MEDIAN}{WITHIN.join(texts)}" for block, texts in groups.items()
    )


def _microseconds(value: float) -> float:
    return float(f"{value * 1e6:.{DIGITS}g}")


def _table(analysis: Analysis, setting: Setting, cases: Sequence[MeasuredCase], whole: bool) -> Table:
    """Return how the samples of a setting scatter, for all cases or for the noisiest."""
    shown, some = cases, ""
    if not whole and len(cases) > NOISIEST:
        noisiest = sorted(cases, key=lambda case: -quartile_variation(case.samples))[:NOISIEST]
        shown = [case for case in cases if case in noisiest]
        some = f"; the {NOISIEST} noisiest of {units.count(len(cases))} cases"
    fields: list[Field[MeasuredCase]] = [
        *identity(analysis, lambda case: case),
        number("n", lambda case: units.count(case.samples.size)),
        number("blocks", lambda case: units.count(analysis.latencies[case].blocks)),
        number("least", lambda case: units.seconds(float(case.samples.min()))),
        number("5 %", lambda case: units.seconds(float(np.quantile(case.samples, 0.05)))),
        number("median", lambda case: units.seconds(analysis.latencies[case].value)),
        number("95 %", lambda case: units.seconds(float(np.quantile(case.samples, 0.95)))),
        number("most", lambda case: units.seconds(float(case.samples.max()))),
        number("quartile variation", lambda case: units.percent(quartile_variation(case.samples))),
        number("between blocks", lambda case: units.known(between_blocks(case.samples, case.blocks), units.percent)),
        word("ended by", lambda case: case.record.stopped_by),
    ]
    return without_blanks(tabulated(f"{caption(setting)}{some}", fields, shown))


def _chart(analysis: Analysis, cases: Sequence[MeasuredCase], most: int) -> Chart:
    names = labels(Head.of(case.record) for case in cases)
    offered = sorted(cases, key=lambda case: INTEREST.index(case.record.head))
    choices = [_choice(analysis, names[Head.of(case.record)], case, most) for case in offered]
    return choosing("Samples of one case", canvas.spec(samples_chart()), choices)


def _choice(analysis: Analysis, head: str, case: MeasuredCase, most: int) -> Choice:
    """Return at most `most` samples of a case; `head` is the name of its head."""
    record, median = case.record, analysis.latencies[case]
    shown = thinned(case.samples, most)
    numbers, times = stats.block_medians(case.samples, case.blocks)
    medians = dict(zip(numbers.tolist(), times.tolist(), strict=True))
    ends = {"us": median.value, "low": median.low, "high": median.high}
    line = {end: _microseconds(value) for end, value in ends.items() if value is not None}
    n = units.plural(case.samples.size, "sample")
    some = f"{units.count(shown.size)} of {n} shown" if shown.size < case.samples.size else n
    interval = units.seconds_interval(median)
    return Choice(
        label=f"{head}, {record.form}, {units.plural(record.rows, 'row')}",
        data={SAMPLES: [text(case.samples[shown], case.blocks[shown], medians)], MEDIAN: [line]},
        message=f"{some}, {units.plural(median.blocks, 'block')}; median {units.seconds(median.value)}"
        f"{f' ({interval})' if interval else ''}.",
    )


def samples_chart() -> alt.LayerChart:
    """Draw the samples of a case in microseconds, from the data `samples` and `median`.

    The axis of time is logarithmic, so that one slow call does not press the others together. `samples` is one text
    with separators (see `text`), so that thousands of them stay small. `median` is a row with the median and, if it has
    an interval, `low` and `high`.
    """
    axis = alt.Axis(title="time", labelExpr=canvas.DURATION, labelOverlap="greedy", tickCount=5)
    y = alt.Y("seconds:Q", scale=alt.Scale(type="log", nice=False, padding=8), axis=axis)
    x = alt.X(
        "place:Q",
        scale=alt.Scale(nice=False, zero=False, padding=8),
        axis=alt.Axis(
            title="samples shown, in the order taken", format="d", tickMinStep=1, grid=False, labelBound=True
        ),
    )
    samples = (
        canvas.named(SAMPLES)
        .transform_calculate(block=f"split(datum.data, '{BLOCKS}')")
        .transform_flatten(["block"])
        .transform_window(number="row_number()")
        .transform_calculate(parts=f"split(datum.block, '{AFTER_MEDIAN}')")
        .transform_calculate(us=f"split(datum.parts[1], '{WITHIN}')", middle="toNumber(datum.parts[0]) * 1e-6")
        .transform_flatten(["us"])
        .transform_window(place="row_number()")
        .transform_calculate(seconds="toNumber(datum.us) * 1e-6")
    )
    line = canvas.named(MEDIAN).transform_calculate(
        seconds="datum.us * 1e-6",
        least="isValid(datum.low) ? datum.low * 1e-6 : datum.seconds",
        most="isValid(datum.high) ? datum.high * 1e-6 : datum.seconds",
    )
    tooltip = [alt.Tooltip("number:Q", title="block"), alt.Tooltip("us:N", title="µs")]
    return canvas.finished(
        line.mark_rect(color=INK, opacity=0.12).encode(y=alt.Y("least:Q"), y2=alt.Y2("most:Q")),
        line.mark_rule(color=INK, strokeDash=[6, 4], strokeWidth=1.5).encode(y=alt.Y("seconds:Q")),
        samples.mark_point(filled=True, size=16, opacity=0.6, color=INK).encode(
            x=x, y=y, tooltip=canvas.tooltips(tooltip)
        ),
        samples.mark_line(color=COLOURS[4], strokeWidth=1.5, interpolate="step").encode(x=x, y=alt.Y("middle:Q")),
    )
