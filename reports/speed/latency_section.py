"""The section on latency and throughput: the time of a call, and rows a second, by the rows in a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import altair as alt

from reports.numbers import units
from reports.numbers.stats import Estimate
from reports.output import canvas, legend
from reports.output.blocks import Block, Chart, Choice, Datasets, PageOnly, Panel, Section, Subsection, Text, choosing
from reports.output.styles import Style
from reports.reading.load import MeasuredCase
from reports.speed import figures
from reports.speed.analysis import MAP_SUITE, Analysis, Head, rivals
from reports.speed.settings import panels

MARGIN = 1.3
"""An axis of times or rates reaches this many times beyond what is drawn."""
FEW = 4
"""With more heads in a setting, one chart lets the reader choose; with fewer, each has its chart."""
SATURATED = 0.9
"""A head is saturated from this share of its greatest rate on."""


def latency_section(analysis: Analysis) -> Section:
    """Return the times and rates of all heads by rows."""
    if latencies := latency_panels(analysis):
        throughput = Subsection(
            "Throughput",
            throughput_panels(analysis),
            reading="the same medians as rows a second, higher is faster; where a line turns flat, more rows in a "
            "batch no longer pay.",
        )
        lines = legend.of_styles(analysis.styles, {"fastest dense form": figures.DENSE})
        blocks: list[Block] = [PageOnly([lines, *latencies]), throughput]
        reading = (
            f"both axes are logarithmic, lower is faster, bands are {units.INTERVAL}s of the median; if a coloured "
            "line lies below the dashed one, that form beats the fastest dense form."
        )
    else:
        only_mapped = any(setting.suite == MAP_SUITE for setting in analysis.settings)
        words = analysis.missing if only_mapped and analysis.missing else "Nothing was measured."
        blocks, reading = [PageOnly([Text(words, "note")])], ""
    heading = "Latency and throughput against batch"
    return Section(
        "latency",
        "Latency and throughput",
        blocks,
        heading=heading,
        reading=reading,
        about="how long a call takes in each form, and rows a second",
    )


def latency_panels(analysis: Analysis) -> list[Panel]:
    """Return latency against batch: one panel for each setting, a chart for each head, on one scale of time."""
    return _by_rows(analysis, "Latency", figures.latency_chart, figures.latencies_of, _latency_message)


def throughput_panels(analysis: Analysis) -> list[Panel]:
    """Return rows a second against batch: one panel for each setting, a chart for each head, on one scale."""
    return _by_rows(analysis, "Throughput", figures.throughput_chart, figures.throughputs_of, _throughput_message)


def _by_rows(
    analysis: Analysis,
    subject: str,
    chart: Callable[[Sequence[Style], Sequence[int], tuple[float, float]], alt.LayerChart],
    data: Callable[[Sequence[MeasuredCase], Mapping[MeasuredCase, Estimate], Sequence[MeasuredCase]], Datasets],
    message: Callable[[Analysis, Sequence[MeasuredCase]], str],
) -> list[Panel]:
    """Return one panel for each setting: a `chart` of each head by rows, or one chart to choose a head in.

    The heads of a setting share their scales, so that they differ in their `data` alone.
    """
    charts = {}
    for setting in analysis.usual:
        cases = analysis.cases(setting)
        if not cases:
            continue
        choices = {
            head: Choice(analysis.labels[head], data(forms, analysis.latencies, dense), message(analysis, forms))
            for head, forms, dense in _beside_dense(analysis, cases)
        }
        points = [point for choice in choices.values() for point in choice.data[figures.POINTS]]
        drawn = [point[end] for point in points for end in ("value", "low", "high") if point[end] is not None]
        sizes = sorted({case.record.rows for case in cases})
        spec = canvas.spec(chart(analysis.styles, sizes, (min(drawn) / MARGIN, max(drawn) * MARGIN)))
        if len(choices) <= FEW:
            charts[setting] = [
                Chart(one.label, {**spec, "datasets": dict(one.data)}, one.message, subject=subject)
                for one in choices.values()
            ]
        else:
            offered = sorted(choices, key=lambda head: head.kind == "dense")  # an MoE head is the one seen first
            charts[setting] = [choosing("One head", spec, [choices[head] for head in offered], subject=subject)]
    return panels(charts)


def _beside_dense(
    analysis: Analysis, cases: Sequence[MeasuredCase]
) -> Iterator[tuple[Head, list[MeasuredCase], list[MeasuredCase]]]:
    """Yield each head with its cases and the dense cases it is compared with; a dense head has none."""
    dense = [case for case in cases if case.record.head == "dense"]
    for head in analysis.heads(cases):
        forms = [case for case in cases if Head.of(case.record) == head]
        yield head, forms, [] if head.kind == "dense" else rivals(head, forms, dense) or dense


def _latency_message(analysis: Analysis, cases: Sequence[MeasuredCase]) -> str:
    """Say which form is fastest at the fewest rows and at the most, and how fast it is."""
    sizes = sorted({case.record.rows for case in cases})
    clauses = []
    for rows in dict.fromkeys((sizes[0], sizes[-1])):
        best = analysis.fastest(case for case in cases if case.record.rows == rows)
        time = units.seconds(analysis.latencies[best].value)
        clauses.append(f"{time} at {units.plural(rows, 'row')} ({best.record.form})")
    label = analysis.labels[Head.of(cases[0].record)]
    return f"The fastest forms of the {label} take {units.listing(clauses)}."


def _throughput_message(analysis: Analysis, cases: Sequence[MeasuredCase]) -> str:
    """Say which form serves most rows a second, and at how many rows the fastest forms come near that."""
    rates = {case: case.record.rows / analysis.latencies[case].value for case in cases}
    best = max(cases, key=rates.__getitem__)
    sizes = sorted({case.record.rows for case in cases})
    reached = {rows: max(rates[case] for case in cases if case.record.rows == rows) for rows in sizes}
    full = next(rows for rows in sizes if reached[rows] >= SATURATED * rates[best])
    most = (
        f"The {analysis.labels[Head.of(best.record)]} serves at most {units.rate(rates[best])} rows a second, at "
        f"{units.plural(best.record.rows, 'row')} ({best.record.form})"
    )
    if len(sizes) == 1:
        return f"{most}."
    if full == sizes[-1]:
        return f"{most}; it does not saturate, more rows still bring more."
    return f"{most}; it saturates at {units.plural(full, 'row')}: more rows bring less than a tenth more."
