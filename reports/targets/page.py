"""The targets of the kernels, as a section of a report and as Markdown alone: verdicts, numbers, what has no time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reports.numbers import units
from reports.numbers.stats import Estimate
from reports.output import markdown
from reports.output.blocks import Block, Details, Items, PageOnly, Reason, Section, Table, Text, numeric, worded
from reports.reading.load import Case, record_of
from reports.records.record import CaseRecord, Status
from reports.targets.run import TargetRun
from reports.targets.targets import Ratio, Reach, Target, TargetResult, evaluate

KIND = {
    "measured": f"Measured; every number is a ratio of medians within one interleaved group, with a {units.INTERVAL}.",
    "rehearsal": "A rehearsal on a CPU at reduced size: it shows that the script works and says nothing of any target. "
    "Rows that name a graph are plain calls here.",
    "predicted": "Predicted, nothing here was measured: times come from the cost model and from the simple models "
    "named below.",
}


_VERDICTS = (
    *worded("target", "dtype, caches"),
    *numeric("worst", "interval", "reach", "beyond"),
    *worded("verdict"),
    *numeric("numbers"),
)
_NUMBERS = (*worded("target", "dtype, caches", "group"), *numeric("number", "interval"), *worded("verdict"))


def targets_section(runs: Sequence[TargetRun]) -> Section | None:
    """Return each run's verdict on each target, every number behind it, and what has no time; None without runs."""
    if not runs:
        return None
    return Section(
        "targets",
        "Targets",
        [block for run in runs for block in _blocks(run)],
        heading="Targets of the kernels",
        reading="our kernels beside their peers on layers of the paper and of large models. A target holds if all of "
        "its numbers do, each by the worse end of its interval, so the worst one is shown.",
        findings=[_sentence(run) for run in runs],
    )


def render(run: TargetRun) -> str:
    """Return a run as a Markdown page."""
    section = targets_section([run])
    return markdown.rendered(section, whole=True) if section else ""


def _blocks(run: TargetRun) -> list[Block]:
    results = evaluate(run)
    versions = run.environment.get("versions")
    facts = {name: value for name, value in run.environment.items() if value and name != "versions"}
    facts |= versions if isinstance(versions, dict) else {}
    verdicts = Table(
        f"Each target, by the worst of its numbers, {run.kind}",
        _VERDICTS,
        tuple(_verdict_row(result, run) for result in results),
    )
    numbers = Table(
        "Every number",
        _NUMBERS,
        tuple(_number_row(result, number, run) for result in results for number in result.numbers),
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


def summary(run: TargetRun) -> str:
    """Return the verdicts as plain lines, for a terminal."""
    lines = [KIND[run.kind]]
    for result in evaluate(run):
        target, worst = result.target, result.worst
        value = _value(target, worst, run) or "-"
        counted = f"{result.measured} of {len(result.numbers)}"
        numbers = f"{value}, {_limit(target, target.reach)}, {counted}"
        lines.append(f"{_verdict(result.verdict, run)}: {target.name} ({_setting(result)}): {numbers}")
    return "\n".join(lines)


def _sentence(run: TargetRun) -> str:
    verdicts = [result.verdict for result in evaluate(run)]
    tally = [f"{count} {verdict}" for verdict in Reach if (count := verdicts.count(verdict))]
    start = {"measured": "Of", "rehearsal": "In a rehearsal, on a CPU, of", "predicted": "Predicted of"}
    return f"{start[run.kind]} {units.plural(len(verdicts), 'target')}: {units.listing(tally)}."


def _verdict_row(result: TargetResult, run: TargetRun) -> tuple[str, ...]:
    target, worst = result.target, result.worst
    return (
        target.name,
        _setting(result),
        _value(target, worst, run),
        _interval(target, worst.value if worst else None),
        _limit(target, target.reach),
        _limit(target, worst.beyond if worst else target.beyond),
        _verdict(result.verdict, run),
        f"{result.measured} of {len(result.numbers)}",
    )


def _number_row(result: TargetResult, number: Ratio, run: TargetRun) -> tuple[str, ...]:
    target = result.target
    value = _value(target, number, run) or number.missing
    verdict = _verdict(number.verdict, run)
    return (target.name, _setting(result), number.label, value, _interval(target, number.value), verdict)


def _reasons(run: TargetRun) -> list[Reason]:
    """Return why cases have no time: each reason once, with its groups and forms."""
    cases: dict[tuple[Status, str], dict[str, None]] = {}
    for name, entries in run.groups.items():
        for record in map(record_of, entries):
            if record.status is not Status.MEASURED:
                head = "dense " if record.head == "dense" else ""
                case = f"{name} {head}{record.form}{_error(record)}"
                cases.setdefault((record.status, record.reason), {})[case] = None
    return [Reason(status, reason, tuple(names)) for (status, reason), names in cases.items()]


def _error(record: CaseRecord) -> str:
    """Return the deviation of a case that was right but has no time."""
    right = record.error is not None and record.status is not Status.WRONG
    return f" (error {record.error:.1e})" if right else ""


def _setting(result: TargetResult) -> str:
    return ", ".join(filter(None, (result.dtype, result.cache)))


def _value(target: Target, number: Ratio | None, run: TargetRun) -> str:
    if number is None or number.value is None:
        return ""
    marked = " predicted" if run.kind == "predicted" else ""
    return _figure(target, number.value.value) + marked


def _interval(target: Target, value: Estimate | None) -> str:
    if value is None or value.low is None or value.high is None:
        return ""
    return f"{_figure(target, value.low)} to {_figure(target, value.high)}"


def _limit(target: Target, limit: float) -> str:
    return f"{'<=' if target.sense == 'at most' else '>='} {_figure(target, limit)}"


def _figure(target: Target, value: float) -> str:
    return f"{100 * value:.1f} %" if target.percent else f"{value:.2f}"


def _verdict(verdict: Reach, run: TargetRun) -> str:
    if run.kind == "rehearsal":
        return "none, a rehearsal"
    if verdict is Reach.NOT_MEASURED and run.kind == "predicted":
        return "not predicted"
    return f"predicted: {verdict}" if run.kind == "predicted" else verdict
