"""Which charts a report shows, each with the sentence it makes visible; that sentence is also its alternative text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import log

import altair as alt

from reports.numbers import units
from reports.numbers.stats import Estimate
from reports.output import canvas
from reports.output.blocks import Chart, Choice, Datasets, Panel, choosing
from reports.output.styles import Style
from reports.reading.load import Case
from reports.records.record import CaseRecord
from reports.speed import figures, verdicts
from reports.speed.analysis import KINDS, MAP_SUITE, Analysis, Head, Setting, rivals

PAPER_BATCH = 256
MARGIN = 1.3
"""Times what is drawn that an axis of times or rates reaches beyond it."""
FEW = 4
"""Heads of a setting up to which each has a chart of its own."""
SATURATED = 0.9
"""Share of the most rows a second from which on a head counts as saturated."""


def speedup_panels(analysis: Analysis, styles: Sequence[Style]) -> list[Panel]:
    """Return promised, attainable and realised speed-up: one panel for each setting, one chart for each MoE head."""
    panels = []
    for setting in analysis.usual:
        charts = []
        for head in _heads(analysis, analysis.cases(setting)):
            speedups = analysis.of(setting, head)
            if speedups:
                label = analysis.labels[head]
                chart = figures.speedup_chart(speedups, styles)
                charts.append(Chart(label, canvas.spec(chart), verdicts.message(speedups, label)))
        panels.append(panel(setting, charts))
    return _filled(panels)


def latency_panels(analysis: Analysis, styles: Sequence[Style]) -> list[Panel]:
    """Return latency against batch: one panel for each setting, a chart for each head, on one scale of time."""
    return _by_rows(
        analysis,
        values=lambda case: _ends(analysis.latencies[case]),
        chart=lambda sizes, bounds: figures.latency_chart(styles, sizes, bounds),
        data=figures.latencies_of,
        message=_latency_message,
    )


def throughput_panels(analysis: Analysis, styles: Sequence[Style]) -> list[Panel]:
    """Return rows a second against batch: one panel for each setting, a chart for each head, on one scale."""
    return _by_rows(
        analysis,
        values=lambda case: [case.record.rows / end for end in _ends(analysis.latencies[case])],
        chart=lambda sizes, bounds: figures.throughput_chart(styles, sizes, bounds),
        data=figures.throughputs_of,
        message=_throughput_message,
    )


def accuracy_panels(analysis: Analysis, styles: Sequence[Style]) -> list[Panel]:
    """Return accuracy against latency: one panel for each setting with trained heads, near a batch of 256."""
    panels = []
    for setting in analysis.usual:
        trained = [case for case in analysis.cases(setting) if case.record.test_accuracy is not None]
        if not trained:
            continue
        batch = nearest_batch(trained)
        cases = [case for case in trained if case.record.rows == batch]
        names = {case: analysis.labels[Head.of(case.record)] for case in cases}
        chart = figures.accuracy_chart(cases, analysis.latencies, names, styles)
        heading = f"batch of {units.count(batch)}"
        panels.append(panel(setting, [Chart(heading, canvas.spec(chart), _accuracy_message(analysis, cases, batch))]))
    return panels


def routing_charts(analysis: Analysis) -> list[Chart]:
    """Return how evenly each sparse head spreads its rows: one chart a head, from real rows if any, the most.

    The many heads of a break-even map have none.
    """
    largest: dict[Head, CaseRecord] = {}
    for record in analysis.results.records:
        head = Head.of(record)
        if record.head == "sparse" and any(record.rows_per_expert) and record.suite != MAP_SUITE:
            largest[head] = max(largest.get(head, record), record, key=_telling)
    charts = [
        Chart(analysis.labels[head], canvas.spec(figures.routing_chart(record)), _routing_message(record))
        for head, record in largest.items()
    ]
    return sorted(charts, key=lambda chart: chart.heading)


def from_batch(rows: int) -> tuple[float, int]:
    """Return a key by which numbers of rows are ordered, the nearest to the paper's batch first."""
    return (abs(log(rows / PAPER_BATCH)), rows)


def nearest_batch(cases: Sequence[Case]) -> int:
    """Return the number of rows nearest to the paper's batch among those at which most heads were measured."""
    heads: dict[int, set[Head]] = {}
    for case in cases:
        heads.setdefault(case.record.rows, set()).add(Head.of(case.record))
    most = max(len(found) for found in heads.values())
    shared = [rows for rows, found in heads.items() if len(found) == most]
    return min(shared, key=from_batch)


def _ends(median: Estimate) -> list[float]:
    """Return a median and, where it has an interval, its ends."""
    return [end for end in (median.value, median.low, median.high) if end is not None]


def _heads(analysis: Analysis, cases: Sequence[Case]) -> list[Head]:
    heads = {Head.of(case.record) for case in cases}
    return sorted(heads, key=lambda head: (KINDS.index(head.kind), analysis.labels[head]))


def _by_rows(
    analysis: Analysis,
    values: Callable[[Case], Iterable[float]],
    chart: Callable[[Sequence[int], tuple[float, float]], alt.LayerChart],
    data: Callable[[Sequence[Case], Mapping[Case, Estimate], Sequence[Case]], Datasets],
    message: Callable[[Analysis, Sequence[Case]], str],
) -> list[Panel]:
    """Return one panel for each setting: a `chart` of each head by rows, or of more heads than a few one to choose.

    The heads of a setting share their scales, so what is drawn of each is `data` alone.
    """
    panels = []
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
            charts = [Chart(one.label, {**spec, "datasets": dict(one.data)}, one.message) for one in choices.values()]
        else:
            offered = sorted(choices, key=lambda head: head.kind == "dense")  # an MoE head is the one seen first
            charts = [choosing("One head", spec, [choices[head] for head in offered])]
        panels.append(panel(setting, charts))
    return panels


def _beside_dense(analysis: Analysis, cases: Sequence[Case]) -> Iterator[tuple[Head, list[Case], list[Case]]]:
    """Yield each head with its own cases and the dense ones it is held against, none for a dense head."""
    dense = [case for case in cases if case.record.head == "dense"]
    for head in _heads(analysis, cases):
        own = [case for case in cases if Head.of(case.record) == head]
        yield head, own, [] if head.kind == "dense" else rivals(head, own, dense) or dense


def panel(setting: Setting, charts: list[Chart]) -> Panel:
    """Return the charts of a setting, under its name and its machine's."""
    return Panel(verdicts.title(setting), verdicts.machine(setting), charts)


def _filled(panels: Sequence[Panel]) -> list[Panel]:
    return [panel for panel in panels if panel.charts]


def _telling(record: CaseRecord) -> tuple[bool, int]:
    return (record.routing == "features", record.rows)


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


def _accuracy_message(analysis: Analysis, cases: Sequence[Case], batch: int) -> str:
    clauses = []
    for head in _heads(analysis, cases):
        own = [case for case in cases if Head.of(case.record) == head]
        best = min(own, key=lambda case: analysis.latencies[case].value)
        accuracy, time = units.percent(best.record.test_accuracy or 0), units.seconds(analysis.latencies[best].value)
        clauses.append(f"{analysis.labels[head]} {accuracy} in {time} ({best.record.form})")
    return f"Test accuracy, and the time of the fastest form, at {units.plural(batch, 'row')}: {'; '.join(clauses)}."


def _routing_message(record: CaseRecord) -> str:
    served = record.rows_per_expert
    total = sum(served)
    most, least = max(range(len(served)), key=served.__getitem__), min(range(len(served)), key=served.__getitem__)
    times = units.factor(served[most] * len(served) / total)
    return (
        f"Of {units.plural(total, 'assignment')} from {units.plural(record.rows, 'row')} ({record.routing}), "
        f"expert {most} serves most, {units.percent(served[most] / total)}, {times} an even share; "
        f"expert {least} serves least, {units.percent(served[least] / total)}."
    )


INTEREST = ("sparse", "soft", "dense")
"""Kinds of heads in the order in which their accounts are offered."""


def is_drawn(setting: Setting) -> bool:
    """Return whether accounts of a setting are drawn: by the wall clock, of warm caches and rows made for nothing."""
    return (setting.clock, setting.cache, setting.routing) == ("wall", "warm", "")
