"""The section on break-even: sentences, tables, and a heat map for each width and number k of every map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import log2

from reports.break_even.figures import KEYS, heat_map
from reports.break_even.map import Facet, Line, Map, Point
from reports.numbers import units
from reports.numbers.groups import grouped
from reports.numbers.stats import Verdict
from reports.output import canvas
from reports.output.blocks import Block, Chart, Grid, Legend, PageOnly, Panel, Section, Table, Text, folded
from reports.output.tables import Field, number, tabulated, word
from reports.records.record import Status
from reports.speed.settings import caption, panel


def break_even_section(maps: Sequence[Map]) -> Section | None:
    """Return every map, or None without any."""
    if not maps:
        return None
    return Section(
        "break-even",
        "Break-even",
        [Legend("Cells", KEYS), *map(_panel, maps)],
        reading="each coloured cell is a sparse head at a number of rows beside the dense head of as many expert "
        "parameters, both in their fastest measured form; blue is faster, orange slower, pale as fast. A sign is clear "
        f"if the {units.INTERVAL} excludes 1. Which rows to measure was searched by bisection: an outlined sign is not "
        "measured but inferred, because its measured neighbours agree.",
        brief="From how many rows on a sparse head is faster than the dense head of as many expert parameters, both in "
        "their fastest measured form. The rows were searched by bisection; between neighbours that agree nothing was "
        "measured.",
        findings=findings(maps),
        about="from how many rows on sparse beats dense, by size of the layer",
    )


def _panel(chart: Map) -> Panel:
    blocks: list[Block] = [
        Text(message(chart)),
        *(Text(note, "note") for note in notes(chart)),
        PageOnly([Grid(charts(chart))]),
        frontiers(chart),
        PageOnly([folded(speedups(chart))]),
    ]
    return panel(chart.setting, blocks)


def findings(maps: Sequence[Map]) -> list[str]:
    """Return what the maps say, with the setting of each if there is more than one."""
    return [f"{caption(each.setting)}: {message(each)}" if len(maps) > 1 else message(each) for each in maps]


def message(chart: Map) -> str:
    """Say in one sentence what a map shows."""
    lines = [line for line in chart.lines if line.points]
    once = [line for line in lines if _is_frontier(line)]
    ends = [rows for line in once for rows in (line.crossings[0].low, line.crossings[0].high)]
    between = f" between {units.count(min(ends))} and {units.count(max(ends))} rows" if ends else ""
    kinds = [
        (once, ("overtakes", "overtake"), f"the dense head of as many expert parameters{between}"),
        (_only(lines, {Verdict.FASTER}), ("is", "are"), "faster at every number of rows that is clear"),
        (_only(lines, {Verdict.SLOWER}), ("is", "are"), "slower at every number of rows that is clear"),
        (_only(lines, set()), ("is", "are"), "clear at no number of rows"),
        ([line for line in lines if line.crossings and line not in once], ("changes", "change"), "sides otherwise"),
    ]
    clauses = [f"{len(group)} {verbs[len(group) > 1]} {rest}" for group, verbs, rest in kinds if group]
    if not clauses:
        return "No sparse head has a time beside its dense head."
    return f"Of {units.plural(len(lines), 'sparse head')} in their fastest forms, {units.listing(clauses)}."


def notes(chart: Map) -> list[str]:
    """Return what is missing from the map because it was skipped, a sentence for each reason."""
    skipped = [record for record in chart.not_measured if record.status is Status.SKIPPED]
    sentences = []
    for reason, records in grouped(skipped, lambda record: record.reason).items():
        forms = units.listing(sorted({record.form for record in records}))
        experts = units.span(record.experts for record in records)
        rows = units.span(record.rows for record in records)
        sentences.append(f"Not measured at {rows} rows: {forms} with {experts} experts; {reason}.")
    return sentences


def words(line: Line) -> str:
    """Say where a sparse head overtakes the dense one."""
    if not line.points:
        return "not measured"
    if _is_frontier(line):
        return f"between {units.count(line.crossings[0].low)} and {units.count(line.crossings[0].high)} rows"
    if line.crossings:
        sides = ["faster" if change.upward else "slower" for change in line.crossings]
        starts = [_about(change.estimate) for change in line.crossings]
        return units.listing([f"{side} from about {rows} rows on" for side, rows in zip(sides, starts, strict=True)])
    if not line.clear:
        return f"unclear, from {units.count(line.points[0].rows)} to {units.plural(line.points[-1].rows, 'row')}"
    first, last = line.clear[0], line.clear[-1]
    if first.verdict is Verdict.FASTER:
        return f"faster from {units.plural(first.rows, 'row')} on{'' if first is line.points[0] else ', unclear below'}"
    return f"never up to {units.plural(last.rows, 'row')}{'' if last is line.points[-1] else ', unclear above'}"


def charts(chart: Map) -> list[Chart]:
    """Return the heat map of each facet, all on one scale of rows."""
    drawn = [rows for line in chart.lines for rows in (*(point.rows for point in line.points), *line.unknown)]
    bounds = (log2(min(drawn)) - 0.5, log2(max(drawn)) + 0.5)
    return [
        Chart(_heading(facet), canvas.spec(heat_map(lines, bounds)), _facet_message(lines), subject="Break-even")
        for facet, lines in chart.facets.items()
    ]


def frontiers(chart: Map) -> Table:
    """Return from how many rows on each sparse head is faster."""

    def at(place: int) -> Callable[[Line], str]:
        return lambda line: _speedup(line.points[place]) if line.points else ""

    fields: list[Field[Line]] = [
        number("input width", lambda line: units.count(line.facet.features)),
        number("expert width", lambda line: units.count(line.facet.hidden)),
        number("experts per row", lambda line: units.count(line.facet.k)),
        number("experts", lambda line: units.count(line.experts)),
        number("sizes measured", lambda line: units.count(len(line.points))),
        number("at fewest rows", at(0)),
        number("at most rows", at(-1)),
        number("equal at about", lambda line: _about(line.crossings[0].estimate) if _is_frontier(line) else ""),
        word("the sparse head overtakes the dense one", words),
    ]
    return tabulated("From how many rows on", fields, chart.lines)


def speedups(chart: Map) -> Table:
    """Return every measured speed-up of a map."""
    fields: list[Field[tuple[Line, Point]]] = [
        number("input width", lambda item: units.count(item[0].facet.features)),
        number("experts per row", lambda item: units.count(item[0].facet.k)),
        number("experts", lambda item: units.count(item[0].experts)),
        number("rows", lambda item: units.count(item[1].rows)),
        number("speed-up", lambda item: units.factor(item[1].ratio.value)),
        number(units.INTERVAL, lambda item: units.factor_interval(item[1].ratio)),
        number("n", lambda item: units.count(item[1].ratio.samples)),
        word("verdict", lambda item: item[1].verdict),
        word("form", lambda item: item[1].case.record.form),
        word("dense form", lambda item: item[1].base.record.form),
    ]
    items = [(line, point) for line in chart.lines for point in line.points]
    return tabulated("Every speed-up measured", fields, items)


def _is_frontier(line: Line) -> bool:
    return len(line.crossings) == 1 and line.crossings[0].upward


def _only(lines: Sequence[Line], verdicts: set[Verdict]) -> list[Line]:
    """Return the lines whose clear points have exactly these verdicts."""
    return [line for line in lines if {point.verdict for point in line.clear} == verdicts]


def _heading(facet: Facet) -> str:
    return f"input width {facet.features}, {units.plural(facet.k, 'expert')} of width {facet.hidden} per row"


def _facet_message(lines: Sequence[Line]) -> str:
    clauses = [f"{units.plural(line.experts, 'expert')}, {words(line)}" for line in lines]
    return f"Where the sparse head overtakes the dense one: {'; '.join(clauses)}."


def _about(rows: float) -> str:
    """Return an estimated number of rows to two digits."""
    return units.count(round(float(f"{rows:.2g}")))


def _speedup(point: Point) -> str:
    return f"{units.factor(point.ratio.value)} at {units.count(point.rows)}"
