"""The heat map of break-even: how much faster a sparse head is, by rows and experts, and from where on it is faster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil, log2
from typing import Any

import altair as alt

from reports.break_even.map import Line, Point
from reports.numbers import units
from reports.numbers.stats import Verdict
from reports.output import canvas, legend
from reports.output.blocks import Key
from reports.output.canvas import INK

SIGNS = {Verdict.FASTER: "+", Verdict.SLOWER: units.MINUS, Verdict.UNCLEAR: "?"}
UNKNOWN = "\N{MIDDLE DOT}"
COLOURS = ("#E69F00", "#F2F0EA", "#56B4E9")
"""For a head four times slower, as fast, and four times faster; they differ with any colour vision."""
FARTHEST = 2.0
"""Beyond so many doublings of speed the colour no longer changes."""
BAR = 0.16
"""Width of a frontier, in doublings."""
DARK = "#1D1F22"
"""The ink of signs and frontiers on those colours, on a light page and on a dark one."""
KEYS = (
    legend.patch("the sparse head is clearly faster", COLOURS[2], "+", DARK),
    legend.patch("clearly slower", COLOURS[0], units.MINUS, DARK),
    legend.patch("not clear", COLOURS[1], "?", DARK),
    legend.patch("inferred", "", "+"),
    legend.patch("not known", "", UNKNOWN),
    Key(
        "where the sign changes", f'<rect x="7" y="1" width="5" height="18" fill="{DARK}" stroke="#FFFFFF"/>', (20, 20)
    ),
)
_TOOLTIP = ("speed-up", "interval", "verdict", "sparse form", "dense form")


def heat_map(lines: Sequence[Line], bounds: tuple[float, float]) -> alt.LayerChart:
    """Draw the `lines` of one facet: rows across, within `bounds` as powers of two, and experts upward.

    A measured cell has the colour of its speed-up and the sign of its verdict; an inferred one is an outline with a
    sign. A bar separates the cells between which the sign changes.
    """
    measured = canvas.rounded([_measured(line, point) for line in lines for point in line.points])
    others = canvas.rounded([cell for line in lines for cell in _others(line)])
    bars = canvas.rounded([_bar(line, change.estimate) for line in lines for change in line.crossings])
    x, place = _rows("from", bounds), _rows("power", bounds)
    y = alt.Y(
        "experts:N",
        sort=[str(line.experts) for line in reversed(lines)],
        axis=alt.Axis(title="experts", ticks=False),
        scale=alt.Scale(paddingInner=0.06),
    )
    scale = alt.Scale(domain=[-FARTHEST, 0, FARTHEST], range=list(COLOURS), interpolate="rgb", clamp=True)
    tooltip = ["experts:N", alt.Tooltip("rows:Q", format=","), *map("{}:N".format, _TOOLTIP)]
    rectangles = alt.Chart(measured).mark_rect().encode(x=x, x2=alt.X2("to:Q"), y=y, tooltip=canvas.tooltips(tooltip))
    return canvas.finished(
        alt.Chart(others).mark_rect(filled=False, stroke=INK, strokeOpacity=0.3).encode(x=x, x2=alt.X2("to:Q"), y=y),
        alt.Chart(others).mark_text(color=INK, opacity=0.75, fontSize=13).encode(x=place, y=y, text=alt.Text("sign:N")),
        rectangles.encode(color=alt.Color("doublings:Q", scale=scale, legend=None)),
        alt.Chart(measured)
        .mark_text(color=DARK, fontWeight="bold", fontSize=13)
        .encode(x=place, y=y, text=alt.Text("sign:N")),
        alt.Chart(bars).mark_rect(color=DARK, stroke="#FFFFFF", strokeWidth=1).encode(x=x, x2=alt.X2("to:Q"), y=y),
    )


def _rows(field: str, bounds: tuple[float, float]) -> alt.X:
    low, high = bounds
    ticks = [power for power in range(0, 1 + int(high), 2) if power >= low]
    axis = alt.Axis(
        title="rows in a batch",
        values=ticks,
        labelExpr="format(pow(2, datum.value), ',d')",
        labelOverlap="greedy",
        grid=False,
    )
    return alt.X(f"{field}:Q", scale=alt.Scale(domain=[low, high], nice=False, zero=False), axis=axis)


def _cell(line: Line, rows: int) -> dict[str, Any]:
    """Return the place of a cell: at its number of rows, a doubling wide."""
    power = log2(rows)
    return {"experts": str(line.experts), "power": power, "from": power - 0.5, "to": power + 0.5}


def _measured(line: Line, point: Point) -> dict[str, Any]:
    texts = (
        units.factor(point.ratio.value),
        units.factor_interval(point.ratio),
        point.verdict,
        point.case.record.form,
        point.base.record.form,
    )
    cell = {**_cell(line, point.rows), "rows": point.rows, "doublings": log2(point.ratio.value)}
    return {**cell, "sign": SIGNS[point.verdict], **dict(zip(_TOOLTIP, texts, strict=True))}


def _others(line: Line) -> Iterator[dict[str, Any]]:
    for rows, verdict in line.inferred.items():
        yield {**_cell(line, rows), "sign": SIGNS[verdict]}
    for rows in line.unknown:
        yield {**_cell(line, rows), "sign": UNKNOWN}


def _bar(line: Line, rows: float) -> dict[str, Any]:
    """Return the bar between the cells below an estimated number of rows and the cells above."""
    edge = ceil(log2(rows)) - 0.5
    return {"experts": str(line.experts), "from": edge - BAR / 2, "to": edge + BAR / 2}
