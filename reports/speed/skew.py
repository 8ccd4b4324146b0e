"""Routing as an axis: what a head takes for rows that go to its experts evenly, unevenly, and all to the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reports.numbers import units
from reports.output import canvas
from reports.output.blocks import Chart, Column, Panel, Table, without_blanks
from reports.output.styles import Style
from reports.reading.load import Case
from reports.speed import figures
from reports.speed.analysis import MADE_ROUTINGS, Analysis, Head, Setting
from reports.speed.panels import panel
from reports.speed.tables import caption, name

NAMES = {
    "features": "as real rows do",
    "noise": "as drawn rows do",
    "balanced": "balanced",
    "uniform": "evenly",
    "zipf1": "Zipf 1",
    "zipf2": "Zipf 2",
    "hot": "one hot",
    "one": "the same",
}


def panels(analysis: Analysis, styles: Sequence[Style]) -> list[Panel]:
    """Return latency by routing: a panel for each setting with made routings, a chart for each head and rows."""
    found = []
    for setting, cases in _axes(analysis).items():
        charts = [
            _chart(analysis, cases, head, rows, styles)
            for head, rows in sorted(
                {(Head.of(case.record), case.record.rows) for case in cases if case.record.head == "sparse"},
                key=lambda key: (analysis.labels[key[0]], key[1]),
            )
        ]
        if charts:
            found.append(panel(setting, charts))
    return found


def tables(analysis: Analysis) -> list[Table]:
    """Return, for each setting with made routings, the spread of rows over experts and each form's time."""
    columns = (
        Column("head", numeric=False),
        Column("form", numeric=False),
        Column("rows"),
        Column("rows go to experts", numeric=False),
        Column("CV of rows per expert"),
        Column("experts used"),
        Column("fewest rows"),
        Column("most rows"),
        Column("median"),
        Column(units.INTERVAL),
    )
    found = []
    for setting, cases in _axes(analysis).items():
        sparse = sorted((case for case in cases if case.record.head == "sparse"), key=_order)
        if sparse:
            rows = tuple(_row(analysis, case) for case in sparse)
            found.append(without_blanks(Table(caption(setting), columns, rows)))
    return found


def _axes(analysis: Analysis) -> dict[Setting, list[Case]]:
    """Return the cases of settings that differ in nothing but the routing, where one was made."""
    groups: dict[Setting, list[Case]] = {}
    for setting in analysis.settings:
        groups.setdefault(replace(setting, routing=""), []).extend(analysis.cases(setting))
    made = {setting: {case.record.rows for case in cases if _is_made(case)} for setting, cases in groups.items()}
    return {
        setting: [case for case in cases if case.record.rows in made[setting]]
        for setting, cases in groups.items()
        if made[setting]
    }


def _is_made(case: Case) -> bool:
    return case.record.routing in MADE_ROUTINGS


def _order(case: Case) -> tuple[str, str, int, int]:
    record = case.record
    return (record.checkpoint, record.form, record.rows, list(NAMES).index(record.routing))


def _chart(analysis: Analysis, cases: Sequence[Case], head: Head, rows: int, styles: Sequence[Style]) -> Chart:
    at = [case for case in cases if case.record.rows == rows]
    own = sorted((case for case in at if Head.of(case.record) == head), key=_order)
    shown = {routing: NAMES[routing] for routing in NAMES if any(case.record.routing == routing for case in own)}
    dense = [analysis.latencies[case].value for case in at if case.record.head == "dense"]
    chart = figures.skew_chart(own, analysis.latencies, shown, styles, min(dense, default=None))
    heading = f"{analysis.labels[head]}, {units.plural(rows, 'row')}"
    return Chart(heading, canvas.spec(chart), _message(analysis, own, shown))


def _message(analysis: Analysis, cases: Sequence[Case], shown: dict[str, str]) -> str:
    clauses = []
    for routing, words in shown.items():
        best = min(
            (case for case in cases if case.record.routing == routing), key=lambda case: analysis.latencies[case].value
        )
        time = units.seconds(analysis.latencies[best].value)
        clauses.append(f"{time} where rows go {words} ({best.record.form})")
    return f"The fastest form takes {units.listing(clauses)}."


def _row(analysis: Analysis, case: Case) -> tuple[str, ...]:
    record, median = case.record, analysis.latencies[case]
    loads = record.rows_per_expert
    return (
        name(analysis, Head.of(record)),
        record.form,
        units.count(record.rows),
        NAMES[record.routing],
        "" if record.load_cv is None else f"{record.load_cv:.2f}",
        "" if record.distinct_experts is None else units.count(record.distinct_experts),
        units.count(min(loads)) if loads else "",
        units.count(max(loads)) if loads else "",
        units.seconds(median.value),
        units.seconds_interval(median),
    )
