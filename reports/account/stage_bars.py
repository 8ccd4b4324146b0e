"""Where the time of each form goes, side by side: the accounts of one head at one number of rows as stacked bars.

The floors of an account are one stage here. A part for several works that no measurement separates belongs to their
common stage (products, routing or movement) if they have one, otherwise to the stage `several`. Parts keep their names.

A bar is as long as the call's measured median, and its pieces are the shares of the parts above zero; parts below zero
are said apart. Neighbouring colours differ with any colour vision; order, white seams and names in the wide bars do the
rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from reports.account import parts
from reports.account.account import Account, by_interest, by_size
from reports.account.parts import CHOICE, COMBINE, DISPATCH, FLOORS, GATE, UNATTRIBUTED, Part, picoseconds
from reports.account.waterfall import Waterfall
from reports.numbers import units
from reports.numbers.groups import grouped
from reports.output import canvas, legend
from reports.output.blocks import Chart, Choice, Legend, choosing
from reports.output.canvas import INK
from reports.output.styles import COLOURS, GREY
from reports.reading.load import MeasuredCase
from reports.speed.analysis import Analysis, labels

BARS, RIVAL = "bars", "rival"
"""Names of the data: the stages of forms, and the time of the best dense form, 0 without one."""
ROW = 38  # pixels for each form, and for the gap to the next
ROOM = 1.3  # for the label of the longest bar, as a multiple of it
LETTER = 0.028  # width of a letter, as a share of the longest bar on a narrow screen
DARK, LIGHT = "#000000", "#FFFFFF"


@dataclass(frozen=True)
class Stage:
    """A stage: its name, its meaning in a legend, the parts it stands for, its colour, and an ink to read on that."""

    name: str
    meaning: str
    parts: tuple[str, ...]
    colour: str
    ink: str = DARK


STAGES = (
    Stage("floors", "floors: what the machine needs at least", FLOORS, COLOURS[0], LIGHT),
    Stage("imbalance", "expert imbalance", (parts.IMBALANCE,), "#F7D08A"),
    Stage("GEMM", "GEMM inefficiency, or products as a whole", (parts.GEMM, parts.PRODUCTS), COLOURS[1]),
    Stage("gate", "gate, or gate and top-k", (GATE,), COLOURS[2]),
    Stage("top-k", "top-k", (CHOICE,), "#9BDDC8"),
    Stage("dispatch", "dispatch, or dispatch and combine", (DISPATCH,), COLOURS[4]),
    Stage("combine", "combine", (COMBINE,), COLOURS[5]),
    Stage("several", "several of these that no measurement separates", (), "#B9B23A"),
    Stage("fused", "fused kernel", (parts.FUSED,), "#6A3D9A", LIGHT),
    Stage("outside", "outside all stages", (parts.OUTSIDE,), "#C8C8C8"),
    Stage("host", "launch and host", (parts.HOST,), GREY),
    Stage("unattributed", "unattributed", (UNATTRIBUTED,), COLOURS[3]),
)
NAMES = [stage.name for stage in STAGES]
_STAGE_OF = {part: stage.name for stage in STAGES for part in stage.parts}
_MERGED = (
    ("GEMM", {parts.IMBALANCE, parts.GEMM, GATE}),
    ("gate", {GATE, CHOICE}),
    ("dispatch", {DISPATCH, COMBINE}),
)
"""Works that share a stage; names of operators put the gate among the products."""


def stage_chart(analysis: Analysis, accounts: Sequence[Account], headline: MeasuredCase | None = None) -> Chart:
    """Return a chart of forms; a reader chooses the head and the number of rows among a setting's `accounts`.

    Those of the `headline` case come first.
    """
    groups = _groups(analysis, accounts)
    groups.sort(key=lambda group: all(account.case != headline for account in group))
    names = labels(account.head for account in accounts)
    choices = [_choice(names[group[0].head], group) for group in groups]
    return choosing("All forms of one head", canvas.spec(draw(max(map(len, groups)))), choices)


def stage_legend(chart: Chart) -> Legend:
    """Return the legend of the stages that a chart shows, in the order of a call."""
    names = {bar["stage"] for choice in chart.choices for bar in choice.data[BARS]}
    shown = [stage for stage in STAGES if stage.name in names]
    return Legend("Stages, in the order of the bars", [legend.patch(stage.meaning, stage.colour) for stage in shown])


def stage_of(part: Part) -> str:
    """Return the name of the stage that a part belongs to."""
    if part.name in _STAGE_OF:
        return _STAGE_OF[part.name]
    return next((stage for stage, merged in _MERGED if merged.issuperset(part.works)), "several")


def bars(form: str, waterfall: Waterfall) -> list[dict[str, Any]]:
    """Return the stages of a form in whole picoseconds, which sum to its median exactly.

    A bar has the name of its part if that differs from the stage's. The last one has the time of the `call`, also as
    text: the `whole`.
    """
    sizes: dict[tuple[str, str], int] = {}
    for part in waterfall.parts:
        stage = stage_of(part)
        key = (stage, stage if part.name in FLOORS else part.name)
        sizes[key] = sizes.get(key, 0) + part.picoseconds
    rows = [
        {"form": form, "stage": stage, "ps": size} | ({"part": part} if part != stage else {})
        for (stage, part), size in sizes.items()
    ]
    rows[-1] |= {"call": waterfall.total, "whole": units.signed_picoseconds(waterfall.total)}
    return rows


def _groups(analysis: Analysis, accounts: Sequence[Account]) -> list[list[Account]]:
    """Return the accounts of each head at each number of rows, each form once, the fastest first."""
    forms = [grouped(group, lambda each: each.case.record.form) for group in by_size(by_interest(analysis, accounts))]
    return [[same_form[0] for same_form in group.values()] for group in forms]


def _choice(head: str, accounts: Sequence[Account]) -> Choice:
    """Return the stages of all forms of the head with this name at one number of rows, the fastest form first."""
    first = accounts[0]
    label = f"{head}, {units.plural(first.case.record.rows, 'row')}"
    stages = [bar for account in accounts for bar in bars(account.case.record.form, account.waterfall)]
    rival = 0 if first.dense is None else picoseconds(first.dense)
    data = {BARS: labelled(stages, rival), RIVAL: [{"ps": rival}]}
    return Choice(label, data, _message(label, accounts, first.dense))


def _message(label: str, accounts: Sequence[Account], dense: float | None) -> str:
    clauses = []
    for account in accounts:
        fall = account.waterfall
        most = max(bars("", fall), key=lambda bar: bar["ps"])
        part, share = most.get("part", most["stage"]), units.percent(fall.share(most["ps"]))
        clauses.append(f"{account.case.record.form} {units.signed_picoseconds(fall.total)}, of it {part} {share}")
    rival = "" if dense is None else f" The best dense form takes {units.seconds(dense)}."
    below = [
        f"{account.case.record.form} {part.name} {units.signed_picoseconds(part.picoseconds)}"
        for account in accounts
        for part in account.waterfall.below
    ]
    apart = f" Below zero, and in no bar: {', '.join(below)}." if below else ""
    return f"{label[0].upper()}{label[1:]}: {'; '.join(clauses)}.{rival}{apart}"


def draw(most: int) -> alt.LayerChart:
    """Draw the stages of at most `most` forms, from the data `bars` and `rival`."""
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
            above="max(datum.ps, 0)",
            name="datum.label ? datum.stage : ''",
            time="format(datum.ps * 1e-6, ',.4~r') + ' µs'",
        )
        .transform_joinaggregate(total="sum(ps)", positive="sum(above)", groupby=["form"])
        .transform_calculate(share="datum.above / datum.positive", end="datum.total * 1e-12")
        .transform_calculate(seconds="datum.share * datum.end", room=f"{ROOM} * datum.end")
    )
    stacked = segments.transform_filter("datum.ps > 0").encode(
        y=y, order=alt.Order("place:Q"), detail=alt.Detail("part:N")
    )
    whole = segments.transform_filter("isValid(datum.call)").encode(y=y)
    rival = canvas.named(RIVAL).transform_calculate(seconds="datum.ps * 1e-12")
    drawn: alt.LayerChart = canvas.finished(
        whole.mark_point(opacity=0, aria=False).encode(x=alt.X("room:Q")),
        stacked.mark_bar(height=ROW - 12, stroke=LIGHT, strokeWidth=1).encode(
            x=x, color=alt.Color("stage:N", scale=colours, legend=None), tooltip=canvas.tooltips(tooltip)
        ),
        rival.mark_rule(color=INK, strokeDash=[6, 4], strokeWidth=1.5).encode(
            x=alt.X("seconds:Q"), opacity=alt.condition("datum.ps > 0", alt.value(1), alt.value(0))
        ),
        stacked.mark_text(fontSize=10).encode(
            x=alt.X("seconds:Q", stack="zero", bandPosition=0.5),
            text=alt.Text("name:N"),
            color=alt.Color("stage:N", scale=inks, legend=None),
        ),
        whole.mark_text(color=INK, align="left", dx=5).encode(x=alt.X("end:Q"), text=alt.Text("whole:N")),
        height=ROW * most,
    ).resolve_scale(color="independent")
    return drawn


def labelled(bars: Sequence[Mapping[str, Any]], rival: int) -> list[dict[str, Any]]:
    """Return the `bars` of all forms of a chart, with a `label` on those wide enough for the name of their stage.

    `rival` is the time of the best dense form in picoseconds, which the chart has room for; 0 without one.
    """
    calls, positive = {}, {}
    for form, pieces in grouped(bars, lambda bar: bar["form"]).items():
        calls[form] = sum(bar["ps"] for bar in pieces)
        positive[form] = sum(max(bar["ps"], 0) for bar in pieces)
    longest = max(rival, *calls.values())

    def is_wide(bar: Mapping[str, Any]) -> bool:
        length = bar["ps"] * calls[bar["form"]] / max(positive[bar["form"]], 1)
        return bool(length > LETTER * (len(bar["stage"]) + 1) * longest)

    return [{**bar, "label": True} if is_wide(bar) else dict(bar) for bar in bars]
