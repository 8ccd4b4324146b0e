"""The chart of stages: a bar for each form, fastest on top, cut into stages that always come in one order and colour.

What is below zero stands left of zero, so the rest of such a bar reaches beyond the call by as much; a tick marks the
call's measured median. Colours are told apart with any colour vision next to each other; order, white seams and names
in what is wide enough tell the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from reports.output import canvas
from reports.output.canvas import INK
from reports.output.styles import COLOURS, GREY

BARS, RIVAL = "bars", "rival"
"""Names of the data: stages of forms, and what the best dense form takes, 0 without one."""
ROW = 38  # pixels for each form, and for the gap to the next
ROOM = 1.3  # for the label of the longest bar, as a multiple of it
LETTER = 0.028  # width of a letter, as a share of the longest bar on a narrow screen
DARK, LIGHT = "#000000", "#FFFFFF"


@dataclass(frozen=True)
class Stage:
    """A stage: its name, its meaning in a legend, its colour, and the ink that is read on it."""

    name: str
    meaning: str
    colour: str
    ink: str = DARK


STAGES = (
    Stage("floors", "floors: what the machine needs at least", COLOURS[0], LIGHT),
    Stage("imbalance", "expert imbalance", "#F7D08A"),
    Stage("GEMM", "GEMM inefficiency, or products as a whole", COLOURS[1]),
    Stage("gate", "gate, or gate and top-k", COLOURS[2]),
    Stage("top-k", "top-k", "#9BDDC8"),
    Stage("dispatch", "dispatch, or dispatch and combine", COLOURS[4]),
    Stage("combine", "combine", COLOURS[5]),
    Stage("several", "several of these that nothing tells apart", "#B9B23A"),
    Stage("fused", "fused kernel", "#6A3D9A", LIGHT),
    Stage("outside", "outside all stages", "#C8C8C8"),
    Stage("host", "launch and host", GREY),
    Stage("unattributed", "unattributed", COLOURS[3]),
)
NAMES = [stage.name for stage in STAGES]


def stage_chart(most: int) -> alt.LayerChart:
    """Draw the stages of `most` forms or fewer, of the data that `bars` and `rival` give."""
    y = alt.Y(
        "form:N",
        sort=alt.EncodingSortField(field="call", op="max"),
        axis=alt.Axis(title=None, ticks=False, domain=False, labelLimit=110),
        scale=alt.Scale(paddingInner=0.35),
    )
    axis = alt.Axis(title="time", labelExpr=canvas.DURATION, labelOverlap="greedy", tickCount=4)
    x = alt.X("seconds:Q", stack="zero", scale=alt.Scale(nice=False), axis=axis)
    colours = alt.Scale(domain=NAMES, range=[stage.colour for stage in STAGES])
    inks = alt.Scale(domain=NAMES, range=[stage.ink for stage in STAGES])
    tooltip = ["form:N", "part:N", "time:N", alt.Tooltip("share:Q", format=".1%")]
    segments = (
        canvas.named(BARS)
        .transform_calculate(
            part="datum.part || datum.stage",
            place=f"indexof({NAMES}, datum.stage)",
            seconds="datum.ps * 1e-12",
            above="max(datum.seconds, 0)",
            name="datum.label ? datum.stage : ''",
            time="format(datum.ps * 1e-6, ',.4~r') + ' µs'",
        )
        .transform_joinaggregate(total="sum(seconds)", reach="sum(above)", groupby=["form"])
        .transform_calculate(room=f"{ROOM} * datum.reach", share="datum.seconds / datum.total")
    )
    stacked = segments.encode(y=y, order="place:Q", detail="part:N")
    whole = segments.transform_filter("isValid(datum.call)").encode(y=y)
    rival = canvas.named(RIVAL).transform_calculate(seconds="datum.ps * 1e-12")
    drawn: alt.LayerChart = canvas.finished(
        whole.mark_point(opacity=0, aria=False).encode(x="room:Q"),
        stacked.mark_bar(height=ROW - 12, stroke=LIGHT, strokeWidth=1).encode(
            x=x, color=alt.Color("stage:N", scale=colours, legend=None), tooltip=tooltip
        ),
        rival.mark_rule(color=INK, strokeDash=[6, 4], strokeWidth=1.5).encode(
            x="seconds:Q", opacity=alt.condition("datum.ps > 0", alt.value(1), alt.value(0))
        ),
        stacked.mark_text(fontSize=10).encode(
            x=alt.X("seconds:Q", stack="zero", bandPosition=0.5),
            text="name:N",
            color=alt.Color("stage:N", scale=inks, legend=None),
        ),
        whole.mark_tick(color=INK, thickness=2.5, size=ROW - 8).encode(x="total:Q"),
        whole.mark_text(color=INK, align="left", dx=5).encode(x="reach:Q", text="whole:N"),
        height=ROW * most,
    ).resolve_scale(color="independent")
    return drawn


def labelled(bars: Sequence[Mapping[str, Any]], rival: int) -> list[dict[str, Any]]:
    """Return the `bars` of all forms of a chart marked with a `label` where wide enough to hold their stage.

    `rival` is what the best dense form takes, in picoseconds, for the chart reaches as far; 0 without one.
    """
    reach: dict[str, int] = {}
    for bar in bars:
        reach[bar["form"]] = reach.get(bar["form"], 0) + max(bar["ps"], 0)
    longest = max(rival, *reach.values())
    return [
        {**bar, **({"label": True} if bar["ps"] > LETTER * (len(bar["stage"]) + 1) * longest else {})} for bar in bars
    ]
