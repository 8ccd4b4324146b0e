"""The section of a report that compares two runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reports.changes import text as changes_text
from reports.changes.changes import Change, Changes, Mean
from reports.changes.figure import Line, forest
from reports.changes.gate import Gate
from reports.numbers import units
from reports.numbers.stats import Verdict
from reports.output import canvas
from reports.output.blocks import Chart, Finding, Table
from reports.output.styles import Style, styles

MOST_LINES = 40
"""Lines of a chart, the worst first."""


@dataclass(frozen=True)
class ChangesSection:
    """A comparison ready to be shown: what it says, what to beware of, its charts, and every case in one of two tables.

    `changed` and `same` are None without cases.
    """

    message: str
    warnings: list[str]
    lost: list[str]
    notes: list[str]
    runs: Table
    styles: list[Style]
    charts: list[Chart]
    summary: Table
    changed: Table | None
    same: Table | None


def findings(found: Changes | None, gate: Gate | None = None) -> list[Finding]:
    """Return what a comparison says for the top of the report, the outcome of a `gate` on it first."""
    if found is None:
        return []
    return [Finding("changes", "Before and after", [*([gate.sentence] if gate else []), changes_text.message(found)])]


def section(found: Changes) -> ChangesSection:
    """Return what a report shows of a comparison."""
    looks = styles(change.form for change in found.changes if change.form)
    changed = found.of(Verdict.SLOWER, Verdict.UNCLEAR, Verdict.FASTER)
    same = found.of(Verdict.SAME)
    return ChangesSection(
        message=changes_text.message(found),
        warnings=list(found.warnings),
        lost=changes_text.lost(found),
        notes=list(changes_text.notes(found)),
        runs=changes_text.runs(found),
        styles=looks,
        charts=_charts(found, looks),
        summary=changes_text.summary(found),
        changed=changes_text.cases(f"{units.plural(len(changed), 'case')} not SAME, the worst first", changed)
        if changed
        else None,
        same=changes_text.cases(f"{units.plural(len(same), 'case')} SAME", same) if same else None,
    )


def _charts(found: Changes, looks: Sequence[Style]) -> list[Chart]:
    """Return a forest of the families, where there are several, and one of the cases; none without cases."""
    families, worst = found.families, found.changes[:MOST_LINES]
    charts = []
    if len(families) > 1:
        lines = [_mean_line(family) for family in families[:MOST_LINES]]
        heading = f"Each {found.kind}{_cut(len(families))}: geometric mean"
        charts.append(Chart(heading, canvas.spec(forest(lines, looks, found.least)), _extremes(lines)))
    if worst:
        lines = [_case_line(change) for change in worst]
        heading = f"Each case{_cut(len(found.changes))}"
        charts.append(Chart(heading, canvas.spec(forest(lines, looks, found.least)), _extremes(lines)))
    return charts


def _cut(number: int) -> str:
    return f", the worst {MOST_LINES} of {units.count(number)}" if number > MOST_LINES else ""


def _extremes(lines: Sequence[Line]) -> str:
    """Return the least and the greatest speed-up of `lines` in words."""
    ends = sorted(lines, key=lambda line: line.ratio.value)
    slowest, fastest = (f"{units.factor(line.ratio.value)} ({line.name})" for line in (ends[0], ends[-1]))
    return f"Speed-ups from {slowest} to {fastest}." if len(lines) > 1 else f"A speed-up of {slowest}."


def _mean_line(family: Mean) -> Line:
    tally = ", ".join(f"{number} {word}" for word, number in family.verdicts.items())
    return Line(
        family.name, family.form, family.ratio, {"interval": changes_text.interval(family.ratio), "cases": tally}
    )


def _case_line(change: Change) -> Line:
    told = {
        "case": change.case,
        "base": units.seconds(change.base),
        "new": units.seconds(change.new),
        "interval": changes_text.interval(change.ratio, change.by_quartiles),
        "verdict": change.verdict,
    }
    return Line(change.label, change.form, change.ratio, told)
