"""The targets of the kernels as Markdown: the table, every number behind it, and what was not measured."""

from __future__ import annotations

from collections.abc import Iterator

from reports import units
from reports.markdown import code, text
from reports.record import Status
from reports.stats import Estimate
from reports.targets import Finding, Number, Target, Verdict, evaluate
from reports.timing import Timing, TimingRun

KIND = {
    "measured": f"Measured; every number is a ratio of medians within one interleaved group, with a {units.INTERVAL}.",
    "rehearsal": "**A rehearsal on a CPU at reduced size**: it shows that the script works and says nothing of any "
    "target. Graph rows are plain calls here.",
    "predicted": "**Predicted, nothing here was measured**: times come from the cost model and from the simple models "
    "named below.",
}


def render(run: TimingRun) -> str:
    """Return the whole page."""
    return "\n".join([*_head(run), *_table(run), "", *_numbers(run), *_unmeasured(run)]) + "\n"


def summary(run: TimingRun) -> str:
    """Return the verdicts as plain lines, for a terminal."""
    lines = [KIND[run.kind].replace("*", "")]
    for finding in evaluate(run):
        target, worst = finding.target, finding.worst
        value = _value(target, worst, run) or "-"
        limits = f"{_sign(target)} {_figure(target, target.reach)}"
        counted = f"{finding.measured} of {len(finding.numbers)}"
        lines.append(
            f"{_verdict(finding.verdict, run)}: {target.name} ({_setting(finding)}): {value}, {limits}, {counted}"
        )
    return "\n".join(lines)


def _head(run: TimingRun) -> Iterator[str]:
    yield "# Targets of the kernels"
    yield ""
    yield KIND[run.kind]
    yield ""
    versions = run.environment.get("versions")
    facts = {name: value for name, value in run.environment.items() if value and name != "versions"}
    facts |= versions if isinstance(versions, dict) else {}
    yield "; ".join(f"{text(name)} {text(value)}" for name, value in facts.items())
    yield ""
    for note in run.notes:
        yield f"- {text(note)}"
    yield ""


def _table(run: TimingRun) -> Iterator[str]:
    yield "## Table"
    yield ""
    yield f"| target | dtype, caches | worst, {run.kind} | interval | reach | beyond | verdict | numbers |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for finding in evaluate(run):
        target, worst = finding.target, finding.worst
        cells = [
            text(target.name),
            _setting(finding),
            _value(target, worst, run),
            _interval(target, worst.value if worst else None),
            _limit(target, target.reach),
            _limit(target, worst.beyond if worst else target.beyond),
            _verdict(finding.verdict, run),
            f"{finding.measured} of {len(finding.numbers)}",
        ]
        yield f"| {' | '.join(cells)} |"


def _numbers(run: TimingRun) -> Iterator[str]:
    yield "## Every number"
    yield ""
    yield "| target | dtype, caches | group | number | interval | verdict |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for finding in evaluate(run):
        for number in finding.numbers:
            yield f"| {' | '.join(_row(finding, number, run))} |"
    yield ""


def _row(finding: Finding, number: Number, run: TimingRun) -> list[str]:
    target = finding.target
    value = _value(target, number, run) or text(number.missing)
    verdict = _verdict(number.verdict, run)
    return [text(target.name), _setting(finding), text(number.label), value, _interval(target, number.value), verdict]


def _unmeasured(run: TimingRun) -> Iterator[str]:
    """Yield the cases without a time, those of one group, peer and reason as one line."""
    reasons: dict[tuple[str, str, str], list[Timing]] = {}
    for case in run.timings:
        if not case.timed:
            reasons.setdefault((case.group, case.peer, f"{case.status}: {case.reason}"), []).append(case)
    counted = sum(map(len, reasons.values()))
    yield f"## Without a time: {counted} of {len(run.timings)} cases"
    yield ""
    for (group, peer, reason), cases in reasons.items():
        error = cases[0].error
        seen = f" (error {error:.1e})" if error is not None and cases[0].status is not Status.WRONG else ""
        yield f"- {code(group)} {code(peer)}: {text(reason)}{seen}"


def _setting(finding: Finding) -> str:
    return ", ".join(filter(None, (finding.dtype, finding.cache)))


def _value(target: Target, number: Number | None, run: TimingRun) -> str:
    if number is None or number.value is None:
        return ""
    marked = " predicted" if run.kind == "predicted" else ""
    return _figure(target, number.value.value) + marked


def _interval(target: Target, value: Estimate | None) -> str:
    if value is None or value.low is None or value.high is None:
        return ""
    return f"{_figure(target, value.low)} to {_figure(target, value.high)}"


def _limit(target: Target, limit: float) -> str:
    return text(f"{_sign(target)} {_figure(target, limit)}")


def _sign(target: Target) -> str:
    return "<=" if target.sense == "at most" else ">="


def _figure(target: Target, value: float) -> str:
    return f"{100 * value:.1f} %" if target.percent else f"{value:.2f}"


def _verdict(verdict: Verdict, run: TimingRun) -> str:
    if run.kind == "rehearsal":
        return "none, a rehearsal"
    if verdict is Verdict.NOT_MEASURED and run.kind == "predicted":
        return "not predicted"
    return f"predicted: {verdict}" if run.kind == "predicted" else verdict
