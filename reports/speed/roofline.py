"""How near each form comes to what its machine can do: a roofline on ceilings measured in the same run.

Operations a second, reached and possible, by operations per byte that a call must at least move (Williams, Waterman and
Patterson, doi 10.1145/1498765.1498785). Memory's roof is the rate of the largest copy, the cache's that of the fastest.
The roof of a case itself is that of its floor, whose rate is of working sets that hold its bytes
(`reports.speed.floors`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reports.numbers import units
from reports.output import canvas
from reports.output.blocks import Choice, Column, Panel, Table, choosing
from reports.output.styles import Style
from reports.reading.load import Case
from reports.records.record import Ceilings
from reports.speed.analysis import KINDS, MAP_SUITE, Analysis, Head, Setting, labels
from reports.speed.floors import Floor
from reports.speed.panels import is_drawn, panel
from reports.speed.roofline_figures import LAUNCHED, POINTS, ROOFS, roofline_chart
from reports.speed.tables import caption, name, resident


@dataclass(frozen=True, eq=False)
class Point:
    """Where a case stands: `intensity` in operations per byte, the others in operations per second.

    `reached` are those of its median, `roof` what arithmetic and movement allow, `launched` that and one launch.
    """

    case: Case
    floor: Floor
    intensity: float
    reached: float
    roof: float
    launched: float

    @property
    def share(self) -> float:
        """The share of its roof that a case reaches."""
        return self.reached / self.roof


@dataclass(frozen=True)
class RooflineSection:
    """What both templates show of rooflines."""

    panels: list[Panel]
    tables: list[Table]


def section(analysis: Analysis, styles: Sequence[Style]) -> RooflineSection | None:
    """Return the rooflines of heads alone, or None where no case has a floor."""
    found = {setting: points(analysis, setting) for setting in analysis.settings if _is_drawn(setting)}
    told = {setting: own for setting, own in found.items() if own}
    if not told:
        return None
    return RooflineSection(
        panels=[_panel(analysis, setting, own, styles) for setting, own in told.items()],
        tables=[_table(analysis, setting, own) for setting, own in told.items()],
    )


def points(analysis: Analysis, setting: Setting) -> list[Point]:
    """Return where the cases of a setting stand that have a floor, by head, form and rows."""
    found = []
    for case in analysis.cases(setting):
        floor = analysis.floors.get(case)
        if floor is not None and case.record.least_bytes:
            flops = case.record.flops
            found.append(
                Point(
                    case=case,
                    floor=floor,
                    intensity=flops / case.record.least_bytes,
                    reached=flops / analysis.latencies[case].value,
                    roof=flops / max(floor.arithmetic, floor.bandwidth),
                    launched=flops / floor.seconds,
                )
            )
    return found


def roofs(ceilings: Ceilings, low: float, high: float) -> list[dict[str, float | str]]:
    """Return the roofs of memory and of the fastest cache as lines from `low` to `high` operations per byte.

    Each bends where its slope meets the peak; both are one where the largest copy is the fastest.
    """
    rates = {"memory": ceilings.copies[-1].bytes_per_s}
    fastest = max(copy.bytes_per_s for copy in ceilings.copies)
    if fastest > rates["memory"]:
        rates["cache"] = fastest
    peak = ceilings.flops_per_s
    return [
        {"roof": roof, "intensity": place, "rate": min(peak, place * rate)}
        for roof, rate in rates.items()
        for place in sorted({low, min(max(peak / rate, low), high), high})
    ]


def _is_drawn(setting: Setting) -> bool:
    return setting.part == "head" and setting.suite != MAP_SUITE and is_drawn(setting)


def _panel(analysis: Analysis, setting: Setting, found: Sequence[Point], styles: Sequence[Style]) -> Panel:
    heads = sorted({Head.of(point.case.record) for point in found}, key=lambda head: _rank(analysis, head))
    names = labels(heads)
    choices = [_choice(names[head], [point for point in found if Head.of(point.case.record) == head]) for head in heads]
    forms = {point.case.record.form for point in found}
    spec = canvas.spec(roofline_chart([style for style in styles if style.name in forms]))
    return panel(setting, [choosing("Roofline of one head", spec, choices)])


def _rank(analysis: Analysis, head: Head) -> tuple[int, str]:
    return (("sparse", *KINDS).index(head.kind), analysis.labels[head])


def _choice(head: str, own: Sequence[Point]) -> Choice:
    """Return the points of one `head`, so called, with the roofs that its latest case is held against."""
    ceilings = max(own, key=lambda point: point.case.record.measured_at).floor.ceilings
    bend = ceilings.flops_per_s / ceilings.copies[-1].bytes_per_s
    intensities = [point.intensity for point in own]
    low, high = min(*intensities, bend) / 2, max(*intensities, bend) * 2
    launched = {point.intensity: point.launched for point in own}
    data = {
        POINTS: [_drawn(point) for point in own],
        ROOFS: roofs(ceilings, low, high),
        LAUNCHED: [{"intensity": place, "rate": rate} for place, rate in sorted(launched.items())],
    }
    seen = {name: canvas.seen(rows) for name, rows in data.items()}
    return Choice(head, seen, _message(head, own))


def _drawn(point: Point) -> dict[str, Any]:
    return {
        "form": point.case.record.form,
        "rows": point.case.record.rows,
        "intensity": point.intensity,
        "rate": point.reached,
        "share": point.share,
        "bound": _bound(point),
    }


def _bound(point: Point) -> str:
    """Return which roof lies above a point."""
    floor = point.floor
    return "arithmetic" if floor.arithmetic >= floor.bandwidth else f"bandwidth, {resident(floor)}"


def _message(label: str, own: Sequence[Point]) -> str:
    """Say what share of its roof the fastest form reaches at the fewest and at the most rows, and which roof it is."""
    sizes = sorted({point.case.record.rows for point in own})
    clauses = []
    for rows in dict.fromkeys((sizes[0], sizes[-1])):
        best = max((point for point in own if point.case.record.rows == rows), key=lambda point: point.reached)
        clauses.append(
            f"at {units.plural(rows, 'row')} {_rate(best.reached)} ({best.case.record.form}), "
            f"{units.percent(best.share)} of a roof of {_rate(best.roof)} by {_bound(best)}"
        )
    return f"The fastest forms of the {label} reach {units.listing(clauses)}."


def _rate(value: float) -> str:
    return f"{units.billions(value)} GFLOP/s"


def _table(analysis: Analysis, setting: Setting, found: Sequence[Point]) -> Table:
    """Return what the points stand for: a row for each head and number of rows, a column for each form."""
    forms = list(dict.fromkeys(point.case.record.form for point in found))
    columns = (
        Column("head", numeric=False),
        Column("rows"),
        Column("MFLOP"),
        Column("least bytes"),
        Column("FLOP per byte"),
        Column("roof, GFLOP/s"),
        Column("roof by", numeric=False),
        Column("with one launch"),
        *(Column(f"{form}, GFLOP/s") for form in forms),
    )
    groups: dict[tuple[Head, int, int, int | None], dict[str, Point]] = {}
    for point in sorted(
        found, key=lambda point: (*_rank(analysis, Head.of(point.case.record)), point.case.record.rows)
    ):
        record = point.case.record
        key = (Head.of(record), record.rows, record.flops, record.least_bytes)
        groups.setdefault(key, {}).setdefault(record.form, point)
    rows = tuple(_row(analysis, own, forms) for own in groups.values())
    return Table(caption(setting), columns, rows)


def _row(analysis: Analysis, own: Mapping[str, Point], forms: Sequence[str]) -> tuple[str, ...]:
    point = next(iter(own.values()))
    record = point.case.record
    reached = {form: f"{units.billions(found.reached)} ({units.percent(found.share)})" for form, found in own.items()}
    return (
        name(analysis, Head.of(record)),
        units.count(record.rows),
        units.millions(record.flops),
        units.megabytes(record.least_bytes or 0),
        units.quantity(point.intensity),
        units.billions(point.roof),
        _bound(point),
        units.billions(point.launched),
        *(reached.get(form, "") for form in forms),
    )
