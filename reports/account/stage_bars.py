"""Where the time of each form goes, side by side: the accounts of one head at one number of rows as stacked bars.

The floors of an account are one stage here. A part that stands for several works that no measurement tells apart counts
as their one stage where they have one, products, routing or movement, and else as several. Parts keep their names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reports.account import parts
from reports.account.account import Account
from reports.account.order import by_interest
from reports.account.parts import CHOICE, COMBINE, DISPATCH, FLOORS, GATE, UNATTRIBUTED
from reports.account.stage_figures import BARS, RIVAL, STAGES, Stage, labelled, stage_chart
from reports.account.tables import by_setting
from reports.account.waterfall import Waterfall, picoseconds
from reports.numbers import units
from reports.output import canvas
from reports.output.blocks import Choice, Panel, choosing
from reports.speed.analysis import Analysis, Head, labels
from reports.speed.panels import is_drawn, panel

_STAGES = {
    **dict.fromkeys(FLOORS, "floors"),
    parts.IMBALANCE: "imbalance",
    parts.GEMM: "GEMM",
    parts.PRODUCTS: "GEMM",
    GATE: "gate",
    CHOICE: "top-k",
    DISPATCH: "dispatch",
    COMBINE: "combine",
    parts.FUSED: "fused",
    parts.OUTSIDE: "outside",
    parts.HOST: "host",
    UNATTRIBUTED: "unattributed",
}
_MERGED = (
    ("GEMM", {"imbalance", "GEMM", "products", GATE}),
    ("gate", {GATE, CHOICE}),
    ("dispatch", {DISPATCH, COMBINE}),
)
"""Works, as names of parts shorten them, that have one stage together; names of operators put a gate among products."""


def panels(analysis: Analysis, accounts: Sequence[Account]) -> list[Panel]:
    """Return the stages of all forms: one panel for each setting whose accounts are drawn and of which one is split."""
    found = []
    for setting, own in by_setting(accounts):
        if is_drawn(setting) and any(one.waterfall.basis != "floors" for one in own):
            groups = _groups(analysis, own)
            names = labels(one.head for one in own)
            choices = [_choice(analysis, names[group[0].head], group) for group in groups]
            chart = choosing(
                "Stages of all forms of one head", canvas.spec(stage_chart(max(map(len, groups)))), choices
            )
            found.append(panel(setting, [chart]))
    return found


def shown(panels: Sequence[Panel]) -> list[Stage]:
    """Return the stages that any of the `panels` shows, in the order of a call."""
    charts = [chart for panel in panels for chart in panel.charts]
    names = {bar["stage"] for chart in charts for choice in chart.choices for bar in choice.data[BARS]}
    return [stage for stage in STAGES if stage.name in names]


def stage_of(part: str) -> str:
    """Return the name of the stage that the part of this name counts as."""
    if part in _STAGES:
        return _STAGES[part]
    works = set(part.split(" + "))
    return next((stage for stage, merged in _MERGED if works <= merged), "several")


def bars(form: str, waterfall: Waterfall) -> list[dict[str, Any]]:
    """Return the stages of a form in whole picoseconds, which sum to its median exactly.

    One whose part has another name says so; the last one says what the `call` takes as a `whole`.
    """
    found: dict[tuple[str, str], int] = {}
    for part in waterfall.parts:
        stage = stage_of(part.name)
        key = (stage, stage if part.name in FLOORS else part.name)
        found[key] = found.get(key, 0) + part.picoseconds
    rows = [
        {"form": form, "stage": stage, "ps": size} | ({"part": part} if part != stage else {})
        for (stage, part), size in found.items()
    ]
    rows[-1] |= {"call": waterfall.total, "whole": units.signed_picoseconds(waterfall.total)}
    return rows


def _groups(analysis: Analysis, accounts: Sequence[Account]) -> list[list[Account]]:
    """Return the accounts of each head at each number of rows, each form once, the fastest first."""
    groups: dict[tuple[Head, int], dict[str, Account]] = {}
    for account in by_interest(analysis, accounts):
        record = account.case.record
        groups.setdefault((account.head, record.rows), {}).setdefault(record.form, account)
    return [list(forms.values()) for forms in groups.values()]


def _choice(analysis: Analysis, head: str, accounts: Sequence[Account]) -> Choice:
    """Return the stages of the forms of one `head`, so called, at one number of rows, the fastest form first."""
    first = accounts[0]
    label = f"{head}, {units.plural(first.case.record.rows, 'row')}"
    stages = [bar for account in accounts for bar in bars(account.case.record.form, account.waterfall)]
    rival = analysis.latencies[first.comparison.base].value if first.comparison else None
    dense = 0 if rival is None else picoseconds(rival)
    data = {BARS: labelled(stages, dense), RIVAL: [{"ps": dense}]}
    return Choice(label, data, _message(label, accounts, rival))


def _message(label: str, accounts: Sequence[Account], rival: float | None) -> str:
    clauses = []
    for account in accounts:
        found = account.waterfall
        most = max(bars("", found), key=lambda bar: bar["ps"])
        part, share = most.get("part", most["stage"]), units.percent(most["ps"] / max(found.total, 1))
        clauses.append(f"{account.case.record.form} {units.signed_picoseconds(found.total)}, of it {part} {share}")
    dense = "" if rival is None else f" The best dense form takes {units.seconds(rival)}."
    below = [
        account.case.record.form for account in accounts if any(p.picoseconds < 0 for p in account.waterfall.parts)
    ]
    left = f" Parts below zero stand left of it: {units.listing(below)}." if below else ""
    return f"{label[0].upper()}{label[1:]}: {'; '.join(clauses)}.{dense}{left}"
