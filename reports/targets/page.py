"""The targets of the kernels, as a section of a report and as Markdown alone: verdicts, numbers, what has no time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reports.numbers import units
from reports.numbers.stats import Estimate
from reports.output import blocks, markdown
from reports.output.blocks import Column, Table
from reports.reading.files import Content
from reports.reading.load import Case
from reports.records.record import CaseRecord, Status
from reports.records.timing import TimingRun
from reports.records.validated import check_version, validated
from reports.speed.tables import Reason
from reports.targets.run import Run, record_of
from reports.targets.targets import Finding, Number, Target, Verdict, evaluate

KIND = {
    "measured": f"Measured; every number is a ratio of medians within one interleaved group, with a {units.INTERVAL}.",
    "rehearsal": "A rehearsal on a CPU at reduced size: it shows that the script works and says nothing of any target. "
    "Rows that name a graph are plain calls here.",
    "predicted": "Predicted, nothing here was measured: times come from the cost model and from the simple models "
    "named below.",
}
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class TargetsSection:
    """What templates show of a run; `kind` says what its numbers are worth."""

    kind: str
    facts: str
    notes: list[str]
    verdicts: Table
    numbers: Table
    untimed: str
    reasons: list[Reason]


def is_run(content: Content) -> bool:
    """Return whether a file's content says that it is a run of `moegap targets`."""
    return "timings" in content and str(content.get("kind")) in KIND


def parsed(source: Path, content: Content) -> TimingRun:
    """Return the run that the file `source` holds; raises `ReportError` where it is broken or newer."""
    check_version(content.get("schema_version"), SCHEMA_VERSION, source, "version")
    return validated(TimingRun, content, source, "the run of targets")


def section(run: Run) -> TargetsSection:
    """Return what a run says of each target, every number behind it, and what has no time."""
    findings = evaluate(run)
    versions = run.environment.get("versions")
    facts = {name: value for name, value in run.environment.items() if value and name != "versions"}
    facts |= versions if isinstance(versions, dict) else {}
    untimed = sum(not isinstance(entry, Case) for entry in run.entries)
    return TargetsSection(
        kind=KIND[run.kind],
        facts="; ".join(f"{name} {value}" for name, value in facts.items()),
        notes=list(run.notes),
        verdicts=Table(
            f"Each target, by the worst of its numbers, {run.kind}",
            tuple(Column(title, numeric) for title, numeric in _VERDICTS.items()),
            tuple(_verdict_row(finding, run) for finding in findings),
        ),
        numbers=Table(
            "Every number",
            tuple(Column(title, numeric) for title, numeric in _NUMBERS.items()),
            tuple(_number_row(finding, number, run) for finding in findings for number in finding.numbers),
        ),
        untimed=f"{untimed} of {len(run.entries)} cases",
        reasons=_reasons(run),
    )


def findings(runs: Sequence[Run]) -> list[blocks.Finding]:
    """Return how many targets are met in each run, for the top of a report."""
    return [blocks.Finding("targets", "Targets of the kernels", [_sentence(run) for run in runs])] if runs else []


def render(run: Run) -> str:
    """Return a run as a Markdown page of its own."""
    return markdown.render({"targets": [section(run)]}, "targets_page.md")


def summary(run: Run) -> str:
    """Return the verdicts as plain lines, for a terminal."""
    lines = [KIND[run.kind]]
    for finding in evaluate(run):
        target, worst = finding.target, finding.worst
        value = _value(target, worst, run) or "-"
        limits = f"{_sign(target)} {_figure(target, target.reach)}"
        counted = f"{finding.measured} of {len(finding.numbers)}"
        lines.append(
            f"{_verdict(finding.verdict, run)}: {target.name} ({_setting(finding)}): {value}, {limits}, {counted}"
        )
    return "\n".join(lines)


_VERDICTS = {
    "target": False,
    "dtype, caches": False,
    "worst": True,
    "interval": True,
    "reach": True,
    "beyond": True,
    "verdict": False,
    "numbers": True,
}
_NUMBERS = {"target": False, "dtype, caches": False, "group": False, "number": True, "interval": True, "verdict": False}


def _sentence(run: Run) -> str:
    verdicts = [finding.verdict for finding in evaluate(run)]
    told = [f"{count} {verdict}" for verdict in Verdict if (count := verdicts.count(verdict))]
    kind = {
        "measured": "Of",
        "rehearsal": "In a rehearsal, on a CPU, of",
        "predicted": "Predicted of",
    }
    return f"{kind[run.kind]} {units.plural(len(verdicts), 'target')}: {units.listing(told)}."


def _verdict_row(finding: Finding, run: Run) -> tuple[str, ...]:
    target, worst = finding.target, finding.worst
    return (
        target.name,
        _setting(finding),
        _value(target, worst, run),
        _interval(target, worst.value if worst else None),
        _limit(target, target.reach),
        _limit(target, worst.beyond if worst else target.beyond),
        _verdict(finding.verdict, run),
        f"{finding.measured} of {len(finding.numbers)}",
    )


def _number_row(finding: Finding, number: Number, run: Run) -> tuple[str, ...]:
    target = finding.target
    value = _value(target, number, run) or number.missing
    verdict = _verdict(number.verdict, run)
    return (target.name, _setting(finding), number.label, value, _interval(target, number.value), verdict)


def _reasons(run: Run) -> list[Reason]:
    """Return why cases have no time, each reason once with the groups and forms that it holds for."""
    cases: dict[tuple[Status, str], dict[str, None]] = {}
    for name, entries in run.groups.items():
        for record in map(record_of, entries):
            if record.status is not Status.MEASURED:
                head = "dense " if record.head == "dense" else ""
                told = f"{name} {head}{record.form}{_seen(record)}"
                cases.setdefault((record.status, record.reason), {})[told] = None
    return [Reason(status, reason, tuple(names)) for (status, reason), names in cases.items()]


def _seen(record: CaseRecord) -> str:
    """Return the deviation of a case that has no time though it was right."""
    right = record.error is not None and record.status is not Status.WRONG
    return f" (error {record.error:.1e})" if right else ""


def _setting(finding: Finding) -> str:
    return ", ".join(filter(None, (finding.dtype, finding.cache)))


def _value(target: Target, number: Number | None, run: Run) -> str:
    if number is None or number.value is None:
        return ""
    marked = " predicted" if run.kind == "predicted" else ""
    return _figure(target, number.value.value) + marked


def _interval(target: Target, value: Estimate | None) -> str:
    if value is None or value.low is None or value.high is None:
        return ""
    return f"{_figure(target, value.low)} to {_figure(target, value.high)}"


def _limit(target: Target, limit: float) -> str:
    return f"{_sign(target)} {_figure(target, limit)}"


def _sign(target: Target) -> str:
    return "<=" if target.sense == "at most" else ">="


def _figure(target: Target, value: float) -> str:
    return f"{100 * value:.1f} %" if target.percent else f"{value:.2f}"


def _verdict(verdict: Verdict, run: Run) -> str:
    if run.kind == "rehearsal":
        return "none, a rehearsal"
    if verdict is Verdict.NOT_MEASURED and run.kind == "predicted":
        return "not predicted"
    return f"predicted: {verdict}" if run.kind == "predicted" else verdict
