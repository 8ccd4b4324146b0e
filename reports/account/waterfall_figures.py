"""The chart of a waterfall: each part a bar that begins where the one before it ended, between theory and sum.

Its data are the bars from the top down, in whole picoseconds, so that they add up here as they do in the account; where
a bar begins is worked out where it is drawn.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import altair as alt

from reports.account.parts import FLOORS, UNATTRIBUTED
from reports.account.waterfall import Waterfall
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
    """Draw any waterfall of `most` bars or fewer, of the data that `bars` gives.

    A part below zero runs back, its bar is pale and outlined.
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
        alt.Tooltip("share:Q", format=".1%"),
        alt.Tooltip("interval:N"),
    ]
    base = canvas.named(DATA)
    chart = canvas.finished(
        base.mark_point(opacity=0, aria=False).encode(x="room:Q", y=y),
        base.mark_bar(height=BAR - 7).encode(
            x=x,
            x2="end:Q",
            y=y,
            color=colour,
            fillOpacity=alt.condition("datum.ps < 0", alt.value(0.25), alt.value(1)),
            stroke=colour,
            tooltip=tooltip,
        ),
        base.mark_text(color=INK, align="left", dx=4).encode(x="right:Q", y=y, text="shown:N"),
        height=BAR * most,
    )
    drawn: alt.LayerChart = (
        chart.transform_calculate(kind=_kind(), part_ps="datum.kind == 'whole' ? 0 : datum.ps")
        .transform_window(sum="sum(part_ps)", place="row_number()", frame=[None, 0])
        .transform_joinaggregate(total="sum(part_ps)")
        .transform_calculate(
            start="datum.kind == 'whole' ? 0 : (datum.sum - datum.ps) * 1e-12",
            end="datum.start + datum.ps * 1e-12",
            right="max(datum.start, datum.end)",
            room=f"{ROOM} * datum.right",
            share="datum.ps / max(datum.total, 1)",
            interval="datum.interval || ''",
        )
    )
    return drawn


def bars(waterfall: Waterfall, dense: float | None) -> list[dict[str, Any]]:
    """Return the bars of a waterfall from the top down; `dense` is the median in seconds of the best dense form."""
    return list(_bars(waterfall, dense))


def _kind() -> str:
    """Return the expression that tells of which of `KINDS` a bar is."""
    floors, wholes = ([*map(str, names)] for names in (FLOORS, WHOLES))
    return (
        f"indexof({wholes}, datum.part) >= 0 ? 'whole' : indexof({floors}, datum.part) >= 0 ? 'floor'"
        f" : datum.part == '{UNATTRIBUTED}' ? 'unattributed' : 'part'"
    )


def _bars(waterfall: Waterfall, dense: float | None) -> Iterator[dict[str, Any]]:
    parts, total = waterfall.parts, waterfall.total
    whole, shown, unit = units.seconds_adding_up(total, [part.picoseconds for part in parts])
    decimals = len(whole.partition(".")[2])
    if waterfall.theoretical is not None:
        yield _bar(THEORY, waterfall.theoretical, units.seconds_in(waterfall.theoretical, unit, decimals), unit)
    for part, text in zip(parts, shown, strict=True):
        bar = _bar(part.name, part.picoseconds, text, unit)
        known = part.low is not None and part.high is not None
        interval = f"{units.signed_picoseconds(part.low or 0)} to {units.signed_picoseconds(part.high or 0)}"
        yield bar | ({"interval": interval} if known else {})
    yield _bar(CALL, total, whole, unit)
    if dense is not None:
        yield _bar(DENSE, round(dense * 1e12), units.seconds_in(round(dense * 1e12), unit, decimals), unit)


def _bar(part: str, picoseconds: int, shown: str, unit: str) -> dict[str, Any]:
    return {"part": part, "ps": picoseconds, "shown": f"{shown} {unit}"}
