"""The chart of a profile: each form's call as one bar, divided into its stages.

A stage has one colour, one letter and one place in the bar, the same in every chart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from reports.numbers import units
from reports.output import canvas
from reports.output.canvas import INK
from reports.output.styles import COLOURS, GREY
from reports.records.profile import Profile, Stage

BAR = 30  # pixels for each
LEAST_LETTERED = 0.04
"""A stage with a smaller share of a call has no room for its letter in the bar, on a phone."""
REACH = 1.22
"""Where the axis ends, so that each bar's time fits behind it."""


@dataclass(frozen=True)
class StageStyle:
    """How a stage is drawn: `ink` is the colour of its letter on `colour`."""

    name: Stage
    letter: str
    colour: str
    ink: str
    meaning: str


STAGES = (
    StageStyle("route", "R", COLOURS[3], "#000", "the gate and the choice of experts"),
    StageStyle("dispatch", "D", COLOURS[1], "#000", "rows sorted and gathered by expert"),
    StageStyle("experts", "E", COLOURS[0], "#fff", "the experts' products"),
    StageStyle("combine", "C", COLOURS[2], "#000", "the weighted sum back per row"),
    StageStyle("fused", "F", COLOURS[5], "#000", "several stages in one kernel"),
    StageStyle("other", "O", GREY, "#000", "all else, Python and gaps among it"),
)


def share_chart(profiles: Sequence[Profile]) -> alt.LayerChart:
    """Draw the shares of stages, one bar for each form from the top down, with its profiled time behind it."""
    pieces = [piece for profile in profiles for piece in _pieces(profile)]
    order = [profile.label for profile in profiles]
    scale = alt.Scale(domain=[0, REACH], nice=False)
    axis = alt.Axis(title="share of the profiled call", format="~%", values=[0, 0.25, 0.5, 0.75, 1])
    x = alt.X("start:Q", scale=scale, axis=axis)
    y = alt.Y("form:N", sort=order, axis=alt.Axis(title=None, ticks=False, domain=False, labelLimit=160))
    tooltip = [alt.Tooltip(f"{name}:N") for name in ("form", "stage", "share", "time")]
    base = alt.Chart(canvas.rounded(pieces))
    letters = base.transform_filter(alt.datum.part >= LEAST_LETTERED)
    calls = [{"form": profile.label, "end": 1, "call": units.seconds(profile.seconds)} for profile in profiles]
    times = alt.Chart(canvas.data(calls))
    return canvas.finished(
        base.mark_bar(stroke=INK, strokeWidth=0.5).encode(
            x=x, x2=alt.X2("end:Q"), y=y, color=alt.Color("colour:N", scale=None), tooltip=canvas.tooltips(tooltip)
        ),
        letters.mark_text(fontWeight="bold").encode(
            x=alt.X("middle:Q", scale=scale), y=y, text=alt.Text("letter:N"), color=alt.Color("ink:N", scale=None)
        ),
        times.mark_text(color=INK, align="left", dx=5).encode(
            x=alt.X("end:Q", scale=scale), y=y, text=alt.Text("call:N")
        ),
        height=BAR * len(profiles) + 10,
    )


def _pieces(profile: Profile) -> list[dict[str, Any]]:
    """Return the stages that take time, from `start` to `end` as shares of the call."""
    pieces, start = [], 0.0
    for stage in STAGES:
        share = profile.share(stage.name)
        if share:
            pieces.append(
                {
                    "form": profile.label,
                    "stage": stage.name,
                    "letter": stage.letter,
                    "colour": stage.colour,
                    "ink": stage.ink,
                    "part": share,
                    "start": start,
                    "middle": start + share / 2,
                    "end": start + share,
                    "share": units.percent(share),
                    "time": units.seconds(share * profile.seconds),
                }
            )
        start += share
    return pieces
