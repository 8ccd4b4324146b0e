"""The chart of a waterfall: between theory and sum, each part is a bar that begins where the one before it ended.

Its data are the bars from the top down in whole picoseconds, so that they add up as they do in the account. The chart
computes where each bar begins.
"""

from __future__ import annotations

from typing import Any

import altair as alt

from reports.account.parts import FLOORS, UNATTRIBUTED, picoseconds
from reports.account.waterfall import Waterfall, shown
from reports.numbers import units
from reports.output import canvas
from reports.output.canvas import INK
from reports.output.styles import COLOURS, GREY

THEORY, CALL, DENSE = "in theory", "this call", "best dense form"
WHOLES = (THEORY, CALL, DENSE)
KINDS = {"whole": GREY, "floor": COLOURS[0], "part": COLOURS[1], "unattributed": COLOURS[3]}
DATA = "bars"
BAR = 22  # pixels for each, and for the gap to the next
ROOM = 1.45  # for the label of the longest bar, as a multiple of it


def waterfall_chart(most: int) -> alt.LayerChart:
    """Draw a waterfall of at most `most` bars, from the data of `bars`.

    A part below zero runs back, and its bar is pale and outlined.
    """
    y = alt.Y(
        "part:N",
        sort=alt.EncodingSortField(field="place", op="min"),
        axis=alt.Axis(title=None, labelLimit=150, ticks=False, domain=False),
        scale=alt.Scale(paddingInner=0.3),
    )
    axis = alt.Axis(title="time", labelExpr=canvas.DURATION, labelOverlap="greedy", tickCount=4)
    x = alt.X("start:Q", scale=alt.Scale(nice=False), axis=axis)
    colour = alt.Color("kind:N", scale=alt.Scale(domain=list(KINDS), range=list(KINDS.values())), legend=None)
    tooltip = [
        "part:N",
        alt.Tooltip("shown:N", title="time"),
        "share:N",
        "interval:N",
    ]
    base = canvas.named(DATA)
    chart = canvas.finished(
        base.mark_point(opacity=0, aria=False).encode(x=alt.X("room:Q"), y=y),
        base.mark_bar(height=BAR - 7).encode(
            x=x,
            x2=alt.X2("end:Q"),
            y=y,
            color=colour,
            fillOpacity=alt.condition("datum.ps < 0", alt.value(0.25), alt.value(1)),
            stroke=colour,
            tooltip=canvas.tooltips(tooltip),
        ),
        base.mark_text(color=INK, align="left", dx=4).encode(x=alt.X("right:Q"), y=y, text=alt.Text("shown:N")),
        height=BAR * most,
    )
    drawn: alt.LayerChart = (
        chart.transform_calculate(kind=_kind(), part_ps="datum.kind == 'whole' ? 0 : datum.ps")
        .transform_window(sum="sum(part_ps)", place="row_number()", frame=[None, 0])
        .transform_calculate(above="max(datum.part_ps, 0)")
        .transform_joinaggregate(positive="sum(above)")
        .transform_calculate(
            start="datum.kind == 'whole' ? 0 : (datum.sum - datum.ps) * 1e-12",
            end="datum.start + datum.ps * 1e-12",
            right="max(datum.start, datum.end)",
            room=f"{ROOM} * datum.right",
            share="datum.kind == 'whole' ? '' : datum.ps < 0 ? 'below zero'"
            " : format(datum.ps / max(datum.positive, 1), '.1%')",
            interval="datum.interval || ''",
        )
    )
    return drawn


def bars(waterfall: Waterfall, dense: float | None) -> list[dict[str, Any]]:
    """Return the bars of a waterfall from the top down; `dense` is the best dense form's median in seconds."""
    texts = shown(waterfall, dense)

    def bar(part: str, time: int, text: str, **more: str) -> dict[str, Any]:
        return {"part": part, "ps": time, "shown": f"{text} {texts.unit}", **more}

    drawn = []
    if waterfall.theoretical is not None:
        drawn.append(bar(THEORY, waterfall.theoretical, texts.theoretical))
    for part in waterfall.parts:
        interval = {}
        if part.low is not None and part.high is not None:
            interval["interval"] = f"{units.signed_picoseconds(part.low)} to {units.signed_picoseconds(part.high)}"
        drawn.append(bar(part.name, part.picoseconds, texts.parts[part.name], **interval))
    drawn.append(bar(CALL, waterfall.total, texts.call))
    if dense is not None:
        drawn.append(bar(DENSE, picoseconds(dense), texts.dense))
    return drawn


def _kind() -> str:
    """Return the expression for the kind of a bar, one of `KINDS`."""
    floors, wholes = ([*map(str, names)] for names in (FLOORS, WHOLES))
    return (
        f"indexof({wholes}, datum.part) >= 0 ? 'whole' : indexof({floors}, datum.part) >= 0 ? 'floor'"
        f" : datum.part == '{UNATTRIBUTED}' ? 'unattributed' : 'part'"
    )
