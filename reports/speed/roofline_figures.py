"""The chart of a roofline: operations a second against operations per byte, both axes logarithmic."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt

from reports.output import canvas
from reports.output.canvas import INK
from reports.output.styles import Style

POINTS, ROOFS, LAUNCHED = "points", "roofs", "launched"
"""Names of the data: cases, roofs, and what a call of one launch could reach at most."""
CACHE, ONE_LAUNCH = [6, 4], [1, 3]
"""Dashes of the roof of the fastest cache, and of what one launch leaves; that of memory is solid."""


def roofline_chart(styles: Sequence[Style]) -> alt.LayerChart:
    """Draw the roofline of any head, of the data that `points`, `roofs` and `launched` give.

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
        points.mark_line(strokeWidth=1.5, opacity=0.6).encode(x=x, y=y, color=colour, order="rows:Q"),
        points.mark_point(filled=True, size=55, opacity=1).encode(
            x=x, y=y, color=colour, shape=canvas.symbol(styles, "form"), tooltip=tooltip
        ),
        height=canvas.HEIGHT + 60,
    ).resolve_scale(strokeDash="independent")
    return drawn


def _round(form: str) -> str:
    """Return the label of an axis of no known bounds, of 1, 2 and 5 of each power of ten alone."""
    first = "slice(format(datum.value, '.0e'), 0, 1)"
    return f"indexof(['1', '2', '5'], {first}) >= 0 ? format(datum.value, '{form}') : ''"
