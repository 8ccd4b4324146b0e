"""The section that compares two runs: what changed, what else differs, and a forest of speed-ups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import altair as alt

from reports.changes import text as changes_text
from reports.changes.changes import Change, Changes, Mean
from reports.changes.gate import GateResult
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


@dataclass(frozen=True)
class ForestRow:
    """A ratio with its interval, its name and form, and what its tooltip shows."""

    name: str
    form: str
    ratio: Estimate
    shown: dict[str, str]


def changes_section(changes: Changes, gate: GateResult | None = None) -> Section:
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
            *(Text(note, "note") for note in changes_text.notes(changes)),
            changes_text.runs(changes),
            PageOnly([*forms, *(Grid([chart]) for chart in _charts(changes, form_styles))]),
            changes_text.summary(changes),
            *_cases(changes),
        ],
        reading="a speed-up is the time in BASE over the time in NEW, so right of 1× NEW is faster. Within the shaded "
        f"band a change is too small to count. FASTER and SLOWER need a {units.INTERVAL} that excludes 1 and a change "
        "of at least that size, SAME an interval within the band; everything else is UNCLEAR. Intervals cover noise "
        "within a run, not a change in machine load between the two runs.",
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
    families, worst = changes.families, changes.changes[:MOST_LINES]
    charts = []
    if len(families) > 1:
        lines = [_mean_line(family) for family in families[:MOST_LINES]]
        heading = f"Each {changes.kind}{_cut(len(families))}: geometric mean"
        charts.append(Chart(heading, canvas.spec(forest(lines, form_styles, changes.least)), _extremes(lines)))
    if worst:
        lines = [_case_line(change) for change in worst]
        heading = f"Each case{_cut(len(changes.changes))}"
        charts.append(Chart(heading, canvas.spec(forest(lines, form_styles, changes.least)), _extremes(lines)))
    return charts


def _cut(number: int) -> str:
    return f", the worst {MOST_LINES} of {units.count(number)}" if number > MOST_LINES else ""


def _extremes(lines: Sequence[ForestRow]) -> str:
    """Return the least and the greatest speed-up of `lines` in words."""
    ends = sorted(lines, key=lambda line: line.ratio.value)
    slowest, fastest = (f"{units.factor(line.ratio.value)} ({line.name})" for line in (ends[0], ends[-1]))
    return f"Speed-ups from {slowest} to {fastest}." if len(lines) > 1 else f"A speed-up of {slowest}."


def _mean_line(family: Mean) -> ForestRow:
    tally = ", ".join(f"{number} {word}" for word, number in family.verdicts.items())
    return ForestRow(
        family.name, family.form, family.ratio, {"interval": changes_text.interval(family.ratio), "cases": tally}
    )


def _case_line(change: Change) -> ForestRow:
    shown = {
        "case": change.case,
        "base": units.seconds(change.base),
        "new": units.seconds(change.new),
        "interval": changes_text.interval(change.ratio, change.by_quartiles),
        "verdict": change.verdict,
    }
    return ForestRow(change.label, change.form, change.ratio, shown)


def forest(lines: Sequence[ForestRow], form_styles: Sequence[Style], least: float) -> alt.LayerChart:
    """Draw a line per ratio from the top on a logarithmic axis of speed-up; without an interval it is a mark alone."""
    rows = [
        {
            "place": place, "name": line.name, "form": line.form, "ratio": line.ratio.value,
            "low": line.ratio.low, "high": line.ratio.high, **line.shown,
        }
        for place, line in enumerate(lines)
    ]  # fmt: skip
    form_styles = [*form_styles, *([ALONE] if any(not line.form for line in lines) else [])]
    drawn = canvas.rounded(rows)
    x = alt.X("low:Q", scale=alt.Scale(type="log", nice=False, padding=12), axis=_axis())
    y = alt.Y("place:O", axis=None)
    colour = canvas.colour(form_styles, "form")
    tooltip = ["name:N", *(alt.Tooltip(f"{name}:N") for name in lines[0].shown)]
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
            x=alt.X("ratio:Q"), y=y, color=colour, shape=canvas.symbol(form_styles, "form"), tooltip=tooltip
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
