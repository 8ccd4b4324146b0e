"""The section on cases without a time: each reason once, with its cases."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from reports.numbers import units
from reports.output.blocks import Block, Reason, Section, Text
from reports.records.record import CaseRecord, Status
from reports.speed.analysis import Analysis, Head
from reports.speed.settings import name

_GRAVEST_FIRST = (Status.WRONG, Status.FAILED, Status.UNAVAILABLE, Status.SKIPPED)


def not_measured_section(analysis: Analysis) -> Section | None:
    """Return why cases have no time, or that all have one; None without records."""
    if not analysis.results.records:
        return None
    blocks: Sequence[Block] = reasons(analysis) or [Text("Every case was measured.")]
    return Section("not-measured", "Not measured", blocks, heading="What has no time, and why")


def reasons(analysis: Analysis) -> list[Reason]:
    """Return each reason once with its cases, the gravest first."""
    groups: dict[tuple[Status, str], list[CaseRecord]] = {}
    for record in analysis.results.not_measured:
        groups.setdefault((record.status, record.reason or "No reason was recorded."), []).append(record)
    order = sorted(groups.items(), key=lambda item: _GRAVEST_FIRST.index(item[0][0]))
    return [Reason(status, reason, tuple(_scopes(analysis, records))) for (status, reason), records in order]


def _scopes(analysis: Analysis, records: Sequence[CaseRecord]) -> Iterable[str]:
    """Name the cases of one reason; cases that differ only in rows share a line."""
    scopes: dict[tuple[str, ...], set[int]] = {}
    for record in records:
        label = name(analysis, Head.of(record))
        scope = (label, record.form, record.part, record.dtype, record.device, f"{record.clock} clock", record.suite)
        scopes.setdefault(scope, set()).add(record.rows)
    for (label, form, *details, suite), rows in scopes.items():
        sizes = units.listing([units.count(size) for size in sorted(rows)])
        noun = "row" if rows == {1} else "rows"
        yield f"{label}, {form} ({', '.join(details)}, suite {suite}): {sizes} {noun}"
