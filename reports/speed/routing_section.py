"""The section on routing: how evenly rows spread over experts, and how long a head takes if they spread unevenly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reports.numbers import units
from reports.output import canvas, legend
from reports.output.blocks import (
    Block,
    Chart,
    Details,
    Grid,
    PageOnly,
    Panel,
    Section,
    Subsection,
    Table,
    Text,
    without_blanks,
)
from reports.output.tables import Field, number, word
from reports.reading.load import MeasuredCase
from reports.records.record import CaseRecord
from reports.speed import figures
from reports.speed.analysis import MADE_ROUTINGS, MAP_SUITE, Analysis, Head, Setting
from reports.speed.settings import identity, panels, tables

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


def routing_section(analysis: Analysis) -> Section:
    """Return the share of each expert, and latency against skew if rows were made for that."""
    charts, skewed = routing_charts(analysis), skew_panels(analysis)
    blocks: list[Block] = [PageOnly([Text("No sparse head’s routing was recorded.", "note")])]
    if charts:
        blocks = [
            Subsection(
                "Assignments by expert",
                [Grid(charts)],
                reading="each bar is the share of all assignments that one expert serves; the dashed line is an even "
                "split, and the further a bar rises above it, the longer the others wait for that expert.",
            )
        ]
    if skewed:
        numbers = PageOnly([Details("The numbers behind these charts", skew_tables(analysis))])
        lines = legend.of_styles(analysis.styles, {"fastest dense form": figures.DENSE})
        blocks.append(
            Subsection(
                "Latency against skew",
                [lines, *skewed, numbers],
                reading="rows were made so that the gate sends them to experts drawn evenly, by 1 / rank and "
                "1 / rank², to one expert and others in turn, or all to the same; the time axis is logarithmic, and "
                "the dashed line is the fastest dense form.",
            )
        )
    return Section(
        "routing",
        "Routing",
        blocks,
        about="how evenly rows are spread over experts, and what skew costs",
    )


def routing_charts(analysis: Analysis) -> list[Chart]:
    """Return how evenly each sparse head spreads its rows: one chart a head, of its largest batch, of real rows if any.

    The many heads of a break-even map have no chart.
    """
    largest: dict[Head, CaseRecord] = {}
    for record in analysis.results.records:
        head = Head.of(record)
        if record.head == "sparse" and any(record.rows_per_expert) and record.suite != MAP_SUITE:
            largest[head] = max(
                largest.get(head, record), record, key=lambda record: (record.routing == "features", record.rows)
            )
    charts = [
        Chart(
            analysis.labels[head],
            canvas.spec(figures.routing_chart(record)),
            _routing_message(record),
            subject="Assignments by expert",
        )
        for head, record in largest.items()
    ]
    return sorted(charts, key=lambda chart: chart.heading)


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


def skew_panels(analysis: Analysis) -> list[Panel]:
    """Return latency by routing: a panel for each setting with made routings, a chart for each head and rows."""
    charts = {}
    for setting, cases in _axes(analysis).items():
        sparse = {(Head.of(case.record), case.record.rows) for case in cases if case.record.head == "sparse"}
        order = sorted(sparse, key=lambda key: (analysis.labels[key[0]], key[1]))
        charts[setting] = [_chart(analysis, cases, head, rows) for head, rows in order]
    return panels(charts)


def skew_tables(analysis: Analysis) -> list[Table]:
    """Return, for each setting with made routings, the spread of rows over experts and each form's time."""
    fields: list[Field[MeasuredCase]] = [
        *identity(analysis, lambda case: case),
        word("rows go to experts", lambda case: NAMES[case.record.routing]),
        number("CV of rows per expert", lambda case: units.known(case.record.load_cv, "{:.2f}".format)),
        number("experts used", lambda case: units.known(case.record.distinct_experts, units.count)),
        number("fewest rows", lambda case: units.known(min(case.record.rows_per_expert, default=None), units.count)),
        number("most rows", lambda case: units.known(max(case.record.rows_per_expert, default=None), units.count)),
        number("median", lambda case: units.seconds(analysis.latencies[case].value)),
        number(units.INTERVAL, lambda case: units.seconds_interval(analysis.latencies[case])),
    ]
    sparse = {
        setting: [case for case in sorted(cases, key=_order) if case.record.head == "sparse"]
        for setting, cases in _axes(analysis).items()
    }
    return [without_blanks(table) for table in tables(fields, sparse)]


def _axes(analysis: Analysis) -> dict[Setting, list[MeasuredCase]]:
    """Return the cases of settings that differ only in the routing, if rows were made for one."""
    groups: dict[Setting, list[MeasuredCase]] = {}
    for setting in analysis.settings:
        groups.setdefault(replace(setting, routing=""), []).extend(analysis.cases(setting))
    made = {
        setting: {case.record.rows for case in cases if case.record.routing in MADE_ROUTINGS}
        for setting, cases in groups.items()
    }
    return {
        setting: [case for case in cases if case.record.rows in made[setting]]
        for setting, cases in groups.items()
        if made[setting]
    }


def _order(case: MeasuredCase) -> tuple[str, str, int, int]:
    record = case.record
    return (record.checkpoint, record.form, record.rows, list(NAMES).index(record.routing))


def _chart(analysis: Analysis, cases: Sequence[MeasuredCase], head: Head, rows: int) -> Chart:
    at = [case for case in cases if case.record.rows == rows]
    forms = sorted((case for case in at if Head.of(case.record) == head), key=_order)
    shown = {routing: NAMES[routing] for routing in NAMES if any(case.record.routing == routing for case in forms)}
    dense = [analysis.latencies[case].value for case in at if case.record.head == "dense"]
    chart = figures.skew_chart(forms, analysis.latencies, shown, analysis.styles, min(dense, default=None))
    heading = f"{analysis.labels[head]}, {units.plural(rows, 'row')}"
    return Chart(heading, canvas.spec(chart), _message(analysis, forms, shown), subject="Latency against skew")


def _message(analysis: Analysis, cases: Sequence[MeasuredCase], shown: dict[str, str]) -> str:
    clauses = []
    for routing, words in shown.items():
        best = analysis.fastest(case for case in cases if case.record.routing == routing)
        time = units.seconds(analysis.latencies[best].value)
        clauses.append(f"{time} if rows go {words} ({best.record.form})")
    return f"The fastest form takes {units.listing(clauses)}."
