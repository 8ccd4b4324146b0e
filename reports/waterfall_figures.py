"""The chart of a waterfall: each part a bar that begins where the one before it ended, between promise and sum."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import altair as alt

from reports import canvas, units
from reports.canvas import INK
from reports.parts import FLOORS, UNATTRIBUTED
from reports.styles import COLOURS, GREY
from reports.waterfall import Waterfall

PROMISE, CALL, DENSE = "if the promise held", "this call", "best dense form"
KINDS = {"whole": GREY, "floor": COLOURS[0], "part": COLOURS[1], "unattributed": COLOURS[3]}
BAR = 22  # pixels for each


def waterfall_chart(waterfall: Waterfall, dense: float | None) -> alt.LayerChart:
    """Draw a waterfall; `dense` is the median in seconds of the best dense form, for an MoE head.

    A part below zero runs back, its bar is pale and outlined.
    """
    bars = list(_bars(waterfall, dense))
    reach = max(bar["end"] for bar in bars), min(0.0, *(bar["end"] for bar in bars))
    order = [bar["part"] for bar in bars]
    axis = alt.Axis(title=None, labelLimit=180, ticks=False, domain=False)
    y = alt.Y("part:N", sort=order, axis=axis, scale=alt.Scale(paddingInner=0.3))
    scale = alt.Scale(domain=[reach[1], reach[0] * 1.35], nice=False)
    x = alt.X("start:Q", scale=scale, axis=alt.Axis(title="time", labelExpr=canvas.DURATION, tickCount=4))
    colour = alt.Color("kind:N", scale=alt.Scale(domain=list(KINDS), range=list(KINDS.values())), legend=None)
    tooltip = [alt.Tooltip(f"{name}:N") for name in ("part", "time", "share", "interval")]
    below = "datum.end < datum.start"
    base = alt.Chart(canvas.rounded(bars))
    return canvas.finished(
        base.mark_bar().encode(
            x=x,
            x2="end:Q",
            y=y,
            color=colour,
            fillOpacity=alt.condition(below, alt.value(0.25), alt.value(1)),
            stroke=colour,
            tooltip=tooltip,
        ),
        base.mark_text(color=INK, align="left", dx=4).encode(x=alt.X("right:Q", scale=scale), y=y, text="shown:N"),
        height=BAR * len(bars),
    )


def _bars(waterfall: Waterfall, dense: float | None) -> Iterator[dict[str, Any]]:
    """Return the bars from the top down, from `start` to `end` in seconds."""
    parts, total = waterfall.parts, waterfall.total
    whole, shown, unit = units.seconds_adding_up(total, [part.picoseconds for part in parts])
    if waterfall.promised is not None:
        yield _bar(PROMISE, "whole", 0, waterfall.promised, total)
    start = 0
    for part, text in zip(parts, shown, strict=True):
        kind = {UNATTRIBUTED: "unattributed"}.get(part.name, "floor" if part.name in FLOORS else "part")
        interval = "" if part.low is None or part.high is None else f"{_time(part.low)} to {_time(part.high)}"
        yield _bar(part.name, kind, start, part.picoseconds, total) | {"shown": text, "interval": interval}
        start += part.picoseconds
    yield _bar(CALL, "whole", 0, total, total) | {"shown": f"{whole} {unit}"}
    if dense is not None:
        yield _bar(DENSE, "whole", 0, round(dense * 1e12), total)


def _bar(name: str, kind: str, start: int, size: int, total: int) -> dict[str, Any]:
    ends = start * 1e-12, (start + size) * 1e-12
    return {
        "part": name,
        "kind": kind,
        "start": ends[0],
        "end": ends[1],
        "right": max(ends),
        "time": _time(size),
        "share": units.signed_percent(size / max(total, 1)),
        "shown": _time(size),
        "interval": "",
    }


def _time(picoseconds: int) -> str:
    return units.signed_seconds(picoseconds * 1e-12)
