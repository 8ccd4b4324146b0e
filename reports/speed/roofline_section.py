"""How near each form comes to what its machine can do: a roofline on ceilings measured in the same run.

It shows operations a second, reached and possible, by operations per byte that a call must move at least (Williams,
Waterman and Patterson, doi 10.1145/1498765.1498785). Memory's roof has the rate of the largest copy, the cache's that
of the fastest. A case's own roof comes from its floor, with the rate at as many bytes
(`reports.speed.floors`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from reports.numbers import units
from reports.numbers.groups import grouped
from reports.output import canvas, legend
from reports.output.blocks import Chart, Choice, Details, Grid, PageOnly, Section, Table, choosing
from reports.output.canvas import INK
from reports.output.styles import Style
from reports.output.tables import Field, number, tabulated, word
from reports.reading.load import MeasuredCase
from reports.records.record import Ceilings
from reports.speed.analysis import KINDS, MAP_SUITE, Analysis, Head, Setting, labels
from reports.speed.floors import Floor
from reports.speed.settings import caption, is_drawn, name, panel, resident

POINTS, ROOFS, LAUNCHED = "points", "roofs", "launched"
"""Names of the data: cases, roofs, and the most that a call with one launch could reach."""
CACHE, ONE_LAUNCH = [6, 4], [1, 3]
"""Dashes of the roofs of the fastest cache and of one launch; memory's roof is solid."""


@dataclass(frozen=True, eq=False)
class RooflinePoint:
    """Where a case stands: `intensity` in operations per byte, the others in operations per second.

    `reached` follows from its median, `roof` is what arithmetic and movement allow, `launched` what is left of it with
    one launch.
    """

    case: MeasuredCase
    floor: Floor
    intensity: float
    reached: float
    roof: float
    launched: float

    @property
    def share(self) -> float:
        """The share of its roof that the case reaches."""
        return self.reached / self.roof


def roofline_section(analysis: Analysis) -> Section | None:
    """Return the rooflines of heads alone, or None if no case has a floor."""
    drawn = {setting: points(analysis, setting) for setting in analysis.settings if _is_drawn(setting)}
    placed = {setting: cases for setting, cases in drawn.items() if cases}
    if not placed:
        return None
    panels = [panel(setting, [_chart(analysis, cases)]) for setting, cases in placed.items()]
    numbers = Details(
        "The numbers behind these charts",
        [_table(analysis, setting, cases) for setting, cases in placed.items()],
        reading="operations are counted, not what padding adds; least bytes are each value once; in brackets the share "
        "of the roof.",
    )
    lines = {"memory and arithmetic": [], "fastest cache": CACHE, "with one launch": ONE_LAUNCH}
    return Section(
        "roofline",
        "Roofline",
        [legend.of_styles(analysis.styles, lines), Grid(panels, wide=True), PageOnly([numbers])],
        heading="Roofline on measured ceilings",
        reading="both axes are logarithmic, and a line joins the rows of a form, the fewest on the left. Roofs are "
        "what this machine reached in the same run: its peak on a large product, and the rate of a copy in memory and "
        "in the fastest cache times the operations per byte. The dotted line is what one launch leaves of the roof at "
        "best. A share is of the case’s own roof, with the rate at as many bytes as it must move; a call that "
        "mostly reads may exceed it.",
        about="how near each form comes to what the machine can do",
    )


def points(analysis: Analysis, setting: Setting) -> list[RooflinePoint]:
    """Return a point for each case of a setting that has a floor, by head, form and rows."""
    placed = []
    for case in analysis.cases(setting):
        if (floor := analysis.floors.get(case)) and (least_bytes := case.record.least_bytes):
            flops = case.record.flops
            reached = flops / analysis.latencies[case].value
            roof = flops / max(floor.arithmetic, floor.bandwidth)
            placed.append(RooflinePoint(case, floor, flops / least_bytes, reached, roof, flops / floor.seconds))
    return placed


def roofs(ceilings: Ceilings, low: float, high: float) -> list[dict[str, float | str]]:
    """Return the roofs of memory and of the fastest cache as lines from `low` to `high` operations per byte.

    Each bends where its slope meets the peak. If the largest copy is the fastest there is only one.
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


def _chart(analysis: Analysis, placed: Sequence[RooflinePoint]) -> Chart:
    heads = sorted({Head.of(point.case.record) for point in placed}, key=lambda head: _rank(analysis, head))
    names = labels(heads)
    by_head = grouped(placed, lambda point: Head.of(point.case.record))
    choices = [_choice(names[head], by_head[head]) for head in heads]
    forms = {point.case.record.form for point in placed}
    spec = canvas.spec(roofline_chart([style for style in analysis.styles if style.name in forms]))
    return choosing("Roofline of one head", spec, choices, every_choice=True)


def _rank(analysis: Analysis, head: Head) -> tuple[int, str]:
    return (("sparse", *KINDS).index(head.kind), analysis.labels[head])


def _choice(head: str, placed: Sequence[RooflinePoint]) -> Choice:
    """Return the points of the head with this name, with the roofs of its latest case."""
    ceilings = max(placed, key=lambda point: point.case.record.measured_at).floor.ceilings
    bend = ceilings.flops_per_s / ceilings.copies[-1].bytes_per_s
    intensities = [point.intensity for point in placed]
    low, high = min(*intensities, bend) / 2, max(*intensities, bend) * 2
    launched = {point.intensity: point.launched for point in placed}
    data = {
        POINTS: [_drawn(point) for point in placed],
        ROOFS: roofs(ceilings, low, high),
        LAUNCHED: [{"intensity": place, "rate": rate} for place, rate in sorted(launched.items())],
    }
    seen = {name: canvas.seen(rows) for name, rows in data.items()}
    return Choice(head, seen, _message(head, placed))


def _drawn(point: RooflinePoint) -> dict[str, Any]:
    return {
        "form": point.case.record.form,
        "rows": point.case.record.rows,
        "intensity": point.intensity,
        "rate": point.reached,
        "share": point.share,
        "bound": _bound(point),
    }


def _bound(point: RooflinePoint) -> str:
    """Return which roof lies above a point."""
    floor = point.floor
    return "arithmetic" if floor.arithmetic >= floor.bandwidth else f"bandwidth, {resident(floor)}"


def _message(label: str, placed: Sequence[RooflinePoint]) -> str:
    """Say what share of which roof the fastest form reaches, at the fewest rows and at the most."""
    sizes = sorted({point.case.record.rows for point in placed})
    clauses = []
    for rows in dict.fromkeys((sizes[0], sizes[-1])):
        best = max((point for point in placed if point.case.record.rows == rows), key=lambda point: point.reached)
        clauses.append(
            f"at {units.plural(rows, 'row')} {_rate(best.reached)} ({best.case.record.form}), "
            f"{units.percent(best.share)} of a roof of {_rate(best.roof)} by {_bound(best)}"
        )
    return f"The fastest forms of the {label} reach {units.listing(clauses)}."


def _rate(value: float) -> str:
    return f"{units.billions(value)} GFLOP/s"


def _table(analysis: Analysis, setting: Setting, placed: Sequence[RooflinePoint]) -> Table:
    """Return the points in numbers: a row for each head and number of rows, a column for each form."""

    def reached(form: str) -> Field[Sequence[RooflinePoint]]:
        def text(points: Sequence[RooflinePoint]) -> str:
            reached = (each for each in points if each.case.record.form == form)
            point = next(reached, None)
            return f"{units.billions(point.reached)} ({units.percent(point.share)})" if point else ""

        return number(f"{form}, GFLOP/s", text)

    fields: list[Field[Sequence[RooflinePoint]]] = [
        word("head", lambda points: name(analysis, Head.of(points[0].case.record))),
        number("rows", lambda points: units.count(points[0].case.record.rows)),
        number("MFLOP", lambda points: units.millions(points[0].case.record.flops)),
        number("least bytes", lambda points: units.megabytes(points[0].case.record.least_bytes or 0)),
        number("FLOP per byte", lambda points: units.quantity(points[0].intensity)),
        number("roof, GFLOP/s", lambda points: units.billions(points[0].roof)),
        word("roof by", lambda points: _bound(points[0])),
        number("with one launch", lambda points: units.billions(points[0].launched)),
        *map(reached, dict.fromkeys(point.case.record.form for point in placed)),
    ]
    order = sorted(placed, key=lambda point: (*_rank(analysis, Head.of(point.case.record)), point.case.record.rows))
    return tabulated(caption(setting), fields, grouped(order, _work).values())


def _work(point: RooflinePoint) -> tuple[Head, int, int, int | None]:
    """Return what the points of one row of the table share."""
    record = point.case.record
    return (Head.of(record), record.rows, record.flops, record.least_bytes)


def roofline_chart(styles: Sequence[Style]) -> alt.LayerChart:
    """Draw the roofline of a head from the data `points`, `roofs` and `launched`.

    A line joins the points of a form, from the fewest rows to the most.
    """
    scale = alt.Scale(type="log", nice=False, padding=10)
    x = alt.X(
        "intensity:Q",
        scale=scale,
        axis=alt.Axis(title="operations per byte", labelExpr=_round("~g"), labelOverlap="greedy", grid=False),
    )
    axis = alt.Axis(title="operations a second", labelExpr=_round("~s"), labelOverlap="greedy", tickCount=4)
    y = alt.Y("rate:Q", scale=scale, axis=axis)
    tooltip = [
        "form:N",
        alt.Tooltip("rows:Q", format=","),
        alt.Tooltip("intensity:Q", format=".3~g", title="operations per byte"),
        alt.Tooltip("rate:Q", format=".3~s", title="operations a second"),
        alt.Tooltip("share:Q", format=".1%", title="of its roof"),
        alt.Tooltip("bound:N", title="roof by"),
    ]
    roofs = canvas.named(ROOFS).mark_line(color=INK, strokeWidth=1.5)
    dashes = alt.Scale(domain=["memory", "cache"], range=[[1, 0], CACHE])
    bar = alt.OverlayMarkDef(shape="stroke", color=INK, size=120, strokeWidth=1.5, filled=False, aria=False)
    launched = canvas.named(LAUNCHED).mark_line(
        color=INK, strokeDash=ONE_LAUNCH, strokeWidth=2, strokeCap="round", point=bar
    )
    points = canvas.named(POINTS)
    colour = canvas.colour(styles, "form")
    drawn: alt.LayerChart = canvas.finished(
        roofs.encode(x=x, y=y, strokeDash=alt.StrokeDash("roof:N", scale=dashes, legend=None)),
        launched.encode(x=x, y=y),
        points.mark_line(strokeWidth=1.5, opacity=0.6).encode(x=x, y=y, color=colour, order=alt.Order("rows:Q")),
        points.mark_point(filled=True, size=55, opacity=1).encode(
            x=x, y=y, color=colour, shape=canvas.symbol(styles, "form"), tooltip=canvas.tooltips(tooltip)
        ),
        height=canvas.HEIGHT + 60,
    ).resolve_scale(strokeDash="independent")
    return drawn


def _round(form: str) -> str:
    """Return the labels of an axis whose bounds are not known: only 1, 2 and 5 times a power of ten have one."""
    first = "slice(format(datum.value, '.0e'), 0, 1)"
    return f"indexof(['1', '2', '5'], {first}) >= 0 ? format(datum.value, '{form}') : ''"
