"""The section on latency and throughput: the time of a call, and rows a second, by the rows in a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import altair as alt

from reports.numbers import units
from reports.numbers.stats import Estimate
from reports.output import canvas, legend
from reports.output.blocks import Chart, Choice, Datasets, PageOnly, Panel, Section, Subsection, Text, choosing
from reports.reading.load import Case
from reports.speed import figures
from reports.speed.analysis import MAP_SUITE, Analysis, Head, rivals
from reports.speed.settings import panels

MARGIN = 1.3
"""Times what is drawn that an axis of times or rates reaches beyond it."""
FEW = 4
"""Heads of a setting up to which each has a chart of its own."""
SATURATED = 0.9
"""Share of the most rows a second from which on a head counts as saturated."""


def latency_section(analysis: Analysis) -> Section | None:
    """Return the times of all heads by rows, and their rates; None without records."""
    if not analysis.results.records:
        return None
    latencies = latency_panels(analysis)
    if not latencies:
        only_mapped = any(setting.suite == MAP_SUITE for setting in analysis.settings)
        words = analysis.missing if only_mapped and analysis.missing else "Nothing was measured."
        return Section("latency", "Latency and throughput", [PageOnly([Text(words, "note")])], heading=_HEADING)
    return Section(
        "latency",
        "Latency and throughput",
        [
            PageOnly([legend.of_styles(analysis.styles, {"fastest dense form": "6 4"}), *latencies]),
            Subsection(
                "Throughput",
                throughput_panels(analysis),
                reading="the same medians as rows a second, higher is faster; where a line turns flat, more rows in a "
                "batch no longer pay.",
            ),
        ],
        heading=_HEADING,
        reading=f"both axes are logarithmic, lower is faster, bands are {units.INTERVAL}s of the median; if a coloured "
        "line lies below the dashed one, that form beats the fastest dense form.",
    )


_HEADING = "Latency and throughput against batch"


def latency_panels(analysis: Analysis) -> list[Panel]:
    """Return latency against batch: one panel for each setting, a chart for each head, on one scale of time."""
    return _by_rows(
        analysis,
        "Latency",
        values=lambda case: _ends(analysis.latencies[case]),
        chart=lambda sizes, bounds: figures.latency_chart(analysis.styles, sizes, bounds),
        data=figures.latencies_of,
        message=_latency_message,
    )


def throughput_panels(analysis: Analysis) -> list[Panel]:
    """Return rows a second against batch: one panel for each setting, a chart for each head, on one scale."""
    return _by_rows(
        analysis,
        "Throughput",
        values=lambda case: [case.record.rows / end for end in _ends(analysis.latencies[case])],
        chart=lambda sizes, bounds: figures.throughput_chart(analysis.styles, sizes, bounds),
        data=figures.throughputs_of,
        message=_throughput_message,
    )


def _by_rows(
    analysis: Analysis,
    subject: str,
    values: Callable[[Case], Iterable[float]],
    chart: Callable[[Sequence[int], tuple[float, float]], alt.LayerChart],
    data: Callable[[Sequence[Case], Mapping[Case, Estimate], Sequence[Case]], Datasets],
    message: Callable[[Analysis, Sequence[Case]], str],
) -> list[Panel]:
    """Return one panel for each setting: a `chart` of each head by rows, or of more heads than a few one to choose.

    The heads of a setting share their scales, so what is drawn of each is `data` alone.
    """
    found = {}
    for setting in analysis.usual:
        cases = analysis.cases(setting)
        if not cases:
            continue
        drawn = [value for case in cases for value in values(case)]
        sizes = sorted({case.record.rows for case in cases})
        spec = canvas.spec(chart(sizes, (min(drawn) / MARGIN, max(drawn) * MARGIN)))
        choices = {
            head: Choice(analysis.labels[head], data(own, analysis.latencies, dense), message(analysis, own))
            for head, own, dense in _beside_dense(analysis, cases)
        }
        if len(choices) <= FEW:
            found[setting] = [
                Chart(one.label, {**spec, "datasets": dict(one.data)}, one.message, subject=subject)
                for one in choices.values()
            ]
        else:
            offered = sorted(choices, key=lambda head: head.kind == "dense")  # an MoE head is the one seen first
            found[setting] = [choosing("One head", spec, [choices[head] for head in offered], subject=subject)]
    return panels(found)


def _beside_dense(analysis: Analysis, cases: Sequence[Case]) -> Iterator[tuple[Head, list[Case], list[Case]]]:
    """Yield each head with its own cases and the dense ones it is held against, none for a dense head."""
    dense = [case for case in cases if case.record.head == "dense"]
    for head in analysis.heads(cases):
        own = [case for case in cases if Head.of(case.record) == head]
        yield head, own, [] if head.kind == "dense" else rivals(head, own, dense) or dense


def _ends(median: Estimate) -> list[float]:
    """Return a median and, where it has an interval, its ends."""
    return [end for end in (median.value, median.low, median.high) if end is not None]


def _latency_message(analysis: Analysis, cases: Sequence[Case]) -> str:
    """Say which form is the fastest at the fewest and at the most rows, and how fast."""
    sizes = sorted({case.record.rows for case in cases})
    clauses = []
    for rows in dict.fromkeys((sizes[0], sizes[-1])):
        best = min(
            (case for case in cases if case.record.rows == rows), key=lambda case: analysis.latencies[case].value
        )
        time = units.seconds(analysis.latencies[best].value)
        clauses.append(f"{time} at {units.plural(rows, 'row')} ({best.record.form})")
    label = analysis.labels[Head.of(cases[0].record)]
    return f"The fastest forms of the {label} take {units.listing(clauses)}."


def _throughput_message(analysis: Analysis, cases: Sequence[Case]) -> str:
    """Say which form serves most rows a second, and from how many rows on the fastest forms are near that."""
    rates = {case: case.record.rows / analysis.latencies[case].value for case in cases}
    best = max(cases, key=rates.__getitem__)
    sizes = sorted({case.record.rows for case in cases})
    reached = {rows: max(rates[case] for case in cases if case.record.rows == rows) for rows in sizes}
    full = next(rows for rows in sizes if reached[rows] >= SATURATED * rates[best])
    told = (
        f"The {analysis.labels[Head.of(best.record)]} serves at most {units.rate(rates[best])} rows a second, at "
        f"{units.plural(best.record.rows, 'row')} ({best.record.form})"
    )
    if len(sizes) == 1:
        return f"{told}."
    if full == sizes[-1]:
        return f"{told}; it does not saturate, more rows still bring more."
    return f"{told}; it saturates at {units.plural(full, 'row')}, from where on more rows bring less than a tenth more."
