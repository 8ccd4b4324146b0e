"""The section that compares two runs: what changed, what else differs, and a forest of speed-ups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import altair as alt

from reports.changes import text as changes_text
from reports.changes.change import Change
from reports.changes.changes import Changes, Mean
from reports.changes.merge_gate import MergeGate
from reports.numbers import units
from reports.numbers.stats import Estimate, Verdict
from reports.output import canvas, legend
from reports.output.blocks import Chart, Details, Grid, Items, PageOnly, Section, Subsection, Text, folded
from reports.output.canvas import INK
from reports.output.styles import Style, styles

MOST_LINES = 40
"""Lines of a chart, the worst first."""
STEP = 30
"""Height of a line with its name above it, in pixels."""
ALONE = Style("", INK, (), "circle")
"""How a case without a form is drawn."""
WITHIN_A_RUN = "Intervals cover noise within a run, not a change in machine load between the two runs."
DRAWN = ("name", "form", "ratio", "low", "high")
"""What a chart draws of a row; the rest stands in its tooltip."""
ForestRow = dict[str, Any]


def changes_section(changes: Changes, gate: MergeGate | None = None) -> Section:
    """Return what a report shows of a comparison; the outcome of its `gate` comes first among the findings."""
    form_styles = styles(change.form for change in changes.changes if change.form)
    forms = [legend.of_styles(form_styles)] if form_styles else []
    return Section(
        "changes",
        "Before and after",
        [
            PageOnly([Text(changes_text.message(changes))]),
            *_aside("What else differs", changes.warnings),
            *_aside("What lost its time", changes_text.lost(changes)),
            *_aside("What has no ratio", changes_text.untimed(changes)),
            *(Text(note, "note") for note in changes_text.notes(changes)),
            changes_text.runs(changes),
            PageOnly([*forms, *(Grid([chart]) for chart in _charts(changes, form_styles))]),
            *([changes_text.summary(changes)] if changes.sound else []),
            *_cases(changes),
        ],
        reading="a speed-up is the time in BASE over the time in NEW, so right of 1× NEW is faster. Within the shaded "
        f"band a change is too small to count. FASTER and SLOWER need a {units.INTERVAL} that excludes 1 and a change "
        "of at least that size, SAME an interval within the band; everything else is UNCLEAR. "
        f"{'Intervals cover what runs of one side differ by.' if changes_text.several(changes) else WITHIN_A_RUN}",
        brief=f"Speed-up is the time in BASE over the time in NEW, so above 1× NEW is faster; {units.INTERVAL}s.",
        findings=[*([gate.sentence] if gate else []), changes_text.message(changes)],
    )


def _aside(title: str, sentences: Sequence[str]) -> list[Subsection]:
    return [Subsection(title, [Items(sentences)])] if sentences else []


def _cases(changes: Changes) -> Iterator[Details]:
    """Yield every case in one of two tables; short tables are open."""
    changed = changes.of(Verdict.SLOWER, Verdict.UNCLEAR, Verdict.FASTER)
    same = changes.of(Verdict.SAME)
    for cases, words in ((changed, "not SAME, the worst first"), (same, "SAME")):
        if cases:
            table = changes_text.cases(f"{units.plural(len(cases), 'case')} {words}", cases)
            yield folded(table, opened=len(cases) <= MOST_LINES)


def _charts(changes: Changes, form_styles: Sequence[Style]) -> list[Chart]:
    """Return a forest of the families, if there are several, and one of the cases; none without cases."""
    families = [_family_row(family) for family in changes.families]
    forests = [(f"Each {changes.kind}", families, ": geometric mean")] if len(families) > 1 else []
    forests += [("Each case", [_case_row(change) for change in changes.changes], "")] if changes.changes else []
    charts = []
    for heading, rows, mean in forests:
        cut = f", the worst {MOST_LINES} of {units.count(len(rows))}" if len(rows) > MOST_LINES else ""
        worst = rows[:MOST_LINES]
        chart = canvas.spec(forest(worst, form_styles, changes.least))
        charts.append(Chart(f"{heading}{cut}{mean}", chart, _extremes(worst)))
    return charts


def _extremes(rows: Sequence[ForestRow]) -> str:
    """Return the least and the greatest speed-up of `rows` in words."""
    ends = sorted(rows, key=lambda row: row["ratio"])
    slowest, fastest = (f"{units.factor(row['ratio'])} ({row['name']})" for row in (ends[0], ends[-1]))
    return f"Speed-ups from {slowest} to {fastest}." if len(rows) > 1 else f"A speed-up of {slowest}."


def _family_row(family: Mean) -> ForestRow:
    tally = ", ".join(f"{number} {word}" for word, number in family.verdicts.items())
    shown = {"interval": changes_text.interval(family.ratio), "cases": tally}
    return _row(family.name, family.form, family.ratio, shown)


def _case_row(change: Change) -> ForestRow:
    shown = {
        "case": change.case,
        "base": units.seconds(change.base),
        "new": units.seconds(change.new),
        "interval": changes_text.interval(change.ratio, change.by_quartiles),
        "verdict": change.verdict,
    }
    return _row(change.label, change.form, change.ratio, shown)


def _row(name: str, form: str, ratio: Estimate, shown: dict[str, str]) -> ForestRow:
    """Return what is drawn of a ratio, and what its tooltip shows."""
    return {"name": name, "form": form, "ratio": ratio.value, "low": ratio.low, "high": ratio.high, **shown}


def forest(rows: Sequence[ForestRow], form_styles: Sequence[Style], least: float) -> alt.LayerChart:
    """Draw a line per ratio from the top on a logarithmic axis of speed-up; without an interval it is a mark alone."""
    form_styles = [*form_styles, *([ALONE] if any(not row["form"] for row in rows) else [])]
    drawn = canvas.rounded([{"place": place, **row} for place, row in enumerate(rows)])
    x = alt.X("low:Q", scale=alt.Scale(type="log", nice=False, padding=12), axis=_axis())
    y = alt.Y("place:O", axis=None)
    colour = canvas.colour(form_styles, "form")
    tooltip = ["name:N", *(alt.Tooltip(f"{name}:N") for name in rows[0] if name not in DRAWN)]
    band = canvas.data([{"low": 1 / (1 + least), "high": 1 + least}])
    chart = alt.Chart(drawn)
    return canvas.finished(
        alt.Chart(band).mark_rect(color=INK, opacity=0.1).encode(x=x, x2=alt.X2("high:Q")),
        alt.Chart(canvas.data([{"low": 1}])).mark_rule(color=INK, strokeWidth=1.5).encode(x=x),
        chart.mark_text(align="left", baseline="bottom", dy=-3, color=INK, limit=600).encode(
            x=alt.value(0), y=y, text=alt.Text("name:N")
        ),
        chart.transform_filter("isValid(datum.low)")
        .mark_rule(strokeWidth=2, yOffset=7)
        .encode(x=x, x2=alt.X2("high:Q"), y=y, color=colour, tooltip=canvas.tooltips(tooltip)),
        chart.mark_point(filled=True, size=70, opacity=1, yOffset=7).encode(
            x=alt.X("ratio:Q"),
            y=y,
            color=colour,
            shape=canvas.symbol(form_styles, "form"),
            tooltip=canvas.tooltips(tooltip),
        ),
        height=STEP * len(rows),
    )


def _axis() -> alt.Axis:
    return alt.Axis(
        title=f"speed-up, base / new: right of 1{units.TIMES} NEW is faster",
        labelExpr=f"format(datum.value, '~g') + '{units.TIMES}'",
        labelOverlap="greedy",
        tickCount=6,
    )
