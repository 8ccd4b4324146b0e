"""The targets of the kernels, as a section of a report and as Markdown alone: verdicts, numbers, what has no time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reports.numbers import units
from reports.numbers.stats import Estimate
from reports.output import markdown
from reports.output.blocks import Block, Column, Details, Items, PageOnly, Reason, Section, Table, Text
from reports.reading.load import Case
from reports.records.record import CaseRecord, Status
from reports.targets.run import Run, record_of
from reports.targets.targets import Finding, Number, Target, Verdict, evaluate

KIND = {
    "measured": f"Measured; every number is a ratio of medians within one interleaved group, with a {units.INTERVAL}.",
    "rehearsal": "A rehearsal on a CPU at reduced size: it shows that the script works and says nothing of any target. "
    "Rows that name a graph are plain calls here.",
    "predicted": "Predicted, nothing here was measured: times come from the cost model and from the simple models "
    "named below.",
}


def targets_section(runs: Sequence[Run]) -> Section | None:
    """Return what each run says of each target, every number behind it, and what has no time; None without runs."""
    if not runs:
        return None
    return Section(
        "targets",
        "Targets",
        [block for run in runs for block in _blocks(run)],
        heading="Targets of the kernels",
        reading="our kernels beside their peers on layers of the paper and of large models. A target holds if all of "
        "its numbers do, each by the worse end of its interval, so the worst one stands for it.",
        findings=[_sentence(run) for run in runs],
    )


def render(run: Run) -> str:
    """Return a run as a Markdown page of its own."""
    section = targets_section([run])
    return markdown.rendered(section, whole=True) if section else ""


def _blocks(run: Run) -> list[Block]:
    findings = evaluate(run)
    versions = run.environment.get("versions")
    facts = {name: value for name, value in run.environment.items() if value and name != "versions"}
    facts |= versions if isinstance(versions, dict) else {}
    verdicts = Table(
        f"Each target, by the worst of its numbers, {run.kind}",
        tuple(Column(title, numeric) for title, numeric in _VERDICTS.items()),
        tuple(_verdict_row(finding, run) for finding in findings),
    )
    numbers = Table(
        "Every number",
        tuple(Column(title, numeric) for title, numeric in _NUMBERS.items()),
        tuple(_number_row(finding, number, run) for finding in findings for number in finding.numbers),
    )
    untimed = sum(not isinstance(entry, Case) for entry in run.entries)
    without = Details(f"Without a time: {untimed} of {len(run.entries)} cases", _reasons(run))
    return [
        Text(KIND[run.kind]),
        Text("; ".join(f"{name} {value}" for name, value in facts.items()), "note"),
        verdicts,
        Details("What was assumed", [Items(list(run.notes))]),
        PageOnly([Details("Every number", [replace(numbers, titled=False)]), *([without] if untimed else [])]),
    ]


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
