"""The forest of a comparison: a line for each ratio with its interval, beside 1 and the least effect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt

from reports.numbers import units
from reports.numbers.stats import Estimate
from reports.output import canvas
from reports.output.canvas import INK
from reports.output.styles import Style

STEP = 30
"""Height of a line with its name above it, in pixels."""
ALONE = Style("", INK, (), "circle")
"""The look of what has no form."""


@dataclass(frozen=True)
class Line:
    """A ratio with its interval, and how it is told: its name, form, and what a tooltip shows."""

    name: str
    form: str
    ratio: Estimate
    told: dict[str, str]


def forest(lines: Sequence[Line], looks: Sequence[Style], least: float) -> alt.LayerChart:
    """Draw `lines` from the top, speed-up across on a logarithmic axis, a ratio without an interval as a mark alone."""
    rows = [
        {
            "place": place, "name": line.name, "form": line.form, "ratio": line.ratio.value,
            "low": line.ratio.low, "high": line.ratio.high, **line.told,
        }
        for place, line in enumerate(lines)
    ]  # fmt: skip
    looks = [*looks, *([ALONE] if any(not line.form for line in lines) else [])]
    drawn = canvas.rounded(rows)
    x = alt.X("low:Q", scale=alt.Scale(type="log", nice=False, padding=12), axis=_axis())
    y = alt.Y("place:O", axis=None)
    colour = canvas.colour(looks, "form")
    tooltip = ["name:N", *(alt.Tooltip(f"{name}:N") for name in lines[0].told)]
    band = canvas.data([{"low": 1 / (1 + least), "high": 1 + least}])
    chart = alt.Chart(drawn)
    return canvas.finished(
        alt.Chart(band).mark_rect(color=INK, opacity=0.1).encode(x=x, x2="high:Q"),
        alt.Chart(canvas.data([{"low": 1}])).mark_rule(color=INK, strokeWidth=1.5).encode(x=x),
        chart.mark_text(align="left", baseline="bottom", dy=-3, color=INK, limit=600).encode(
            x=alt.value(0), y=y, text="name:N"
        ),
        chart.transform_filter("isValid(datum.low)")
        .mark_rule(strokeWidth=2, yOffset=7)
        .encode(x=x, x2="high:Q", y=y, color=colour, tooltip=tooltip),
        chart.mark_point(filled=True, size=70, opacity=1, yOffset=7).encode(
            x=alt.X("ratio:Q"), y=y, color=colour, shape=canvas.symbol(looks, "form"), tooltip=tooltip
        ),
        height=STEP * len(lines),
    )


def _axis() -> alt.Axis:
    return alt.Axis(
        title=f"speed-up, base / new: right of 1{units.TIMES} NEW is faster",
        labelExpr=f"format(datum.value, '~g') + '{units.TIMES}'",
        labelOverlap="greedy",
        tickCount=6,
    )
