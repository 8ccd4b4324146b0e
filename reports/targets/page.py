"""The targets of the kernels, as a section of a report and as Markdown alone: verdicts, numbers, what has no time."""

from __future__ import annotations

from collections.abc import Sequence

from reports.numbers import units
from reports.output import markdown
from reports.output.blocks import Block, Details, Items, PageOnly, Reason, Section, Table, Text, folded, numeric, worded
from reports.reading.load import MeasuredCase, record_of
from reports.records.record import CaseRecord, Status
from reports.records.timing import Kind
from reports.targets.replays import replays
from reports.targets.run import TargetRun
from reports.targets.target import Reach, Target
from reports.targets.targets import Ratio, TargetResult, evaluate

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
    evaluated = [(run, evaluate(run)) for run in runs]
    return Section(
        "targets",
        "Targets",
        [block for run, results in evaluated for block in _blocks(run, results)],
        heading="Targets of the kernels",
        reading="our kernels beside their peers on layers of the paper and of large models. A target holds if all of "
        "its numbers do, each by the worse end of its interval, so the worst one is shown.",
        findings=[_sentence(run.kind, results) for run, results in evaluated],
        about="our kernels beside their peers",
    )


def render(run: TargetRun) -> str:
    """Return a run as a Markdown page."""
    section = targets_section([run])
    return markdown.rendered(section, whole=True) if section else ""


def summary(run: TargetRun) -> str:
    """Return the verdicts as plain lines, for a terminal."""
    lines = [KIND[run.kind]]
    for result in evaluate(run):
        name, setting, value, _, reach, _, verdict, counted = _verdict_row(result, run.kind)
        lines.append(f"{verdict}: {name} ({setting}): {value or '-'}, {reach}, {counted}")
    return "\n".join(lines)


def _blocks(run: TargetRun, results: Sequence[TargetResult]) -> list[Block]:
    versions = run.environment.get("versions")
    facts = {name: value for name, value in run.environment.items() if value and name != "versions"}
    facts |= versions if isinstance(versions, dict) else {}
    caption = f"Each target, by the worst of its numbers, {run.kind}"
    numbers = (_number_row(result, number, run.kind) for result in results for number in result.numbers)
    untimed = sum(not isinstance(entry, MeasuredCase) for entry in run.entries)
    without = Details(f"Without a time: {untimed} of {len(run.entries)} cases", _reasons(run))
    return [
        Text(KIND[run.kind]),
        Text("; ".join(f"{name} {value}" for name, value in facts.items()), "note"),
        Table(caption, _VERDICTS, tuple(_verdict_row(result, run.kind) for result in results)),
        *replays(run),
        Details("What was assumed", [Items(list(run.notes))]),
        PageOnly([folded(Table("Every number", _NUMBERS, tuple(numbers))), *([without] if untimed else [])]),
    ]


def _sentence(kind: Kind, results: Sequence[TargetResult]) -> str:
    verdicts = [result.verdict for result in results]
    tally = [f"{count} {verdict}" for verdict in Reach if (count := verdicts.count(verdict))]
    start = {"measured": "Of", "rehearsal": "In a rehearsal, on a CPU, of", "predicted": "Predicted of"}
    return f"{start[kind]} {units.plural(len(verdicts), 'target')}: {units.listing(tally)}."


def _verdict_row(result: TargetResult, kind: Kind) -> tuple[str, ...]:
    target, worst = result.target, result.worst
    return (
        target.name,
        _setting(result),
        *(_number(target, worst, kind) if worst else ("", "")),
        _limit(target, target.reach),
        _limit(target, worst.beyond if worst else target.beyond),
        _verdict(result.verdict, kind),
        f"{result.measured} of {len(result.numbers)}",
    )


def _number_row(result: TargetResult, number: Ratio, kind: Kind) -> tuple[str, ...]:
    value, interval = _number(result.target, number, kind)
    verdict = _verdict(number.verdict, kind)
    return (result.target.name, _setting(result), number.label, value or number.missing, interval, verdict)


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


def _number(target: Target, number: Ratio, kind: Kind) -> tuple[str, str]:
    """Return the value of a number and its interval, each "" if there is none."""
    value = number.value
    if value is None:
        return "", ""
    shown = _figure(target, value.value) + (" predicted" if kind == "predicted" else "")
    if value.low is None or value.high is None:
        return shown, ""
    return shown, f"{_figure(target, value.low)} to {_figure(target, value.high)}"


def _limit(target: Target, limit: float) -> str:
    return f"{'<=' if target.sense == 'at most' else '>='} {_figure(target, limit)}"


def _figure(target: Target, value: float) -> str:
    return f"{100 * value:.1f} %" if target.percent else f"{value:.2f}"


def _verdict(verdict: Reach, kind: Kind) -> str:
    if kind == "rehearsal":
        return "none, a rehearsal"
    if verdict is Reach.NOT_MEASURED and kind == "predicted":
        return "not predicted"
    return f"predicted: {verdict}" if kind == "predicted" else verdict
