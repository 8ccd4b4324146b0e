"""The section on cases without a time: each reason once, with its cases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reports.numbers import units
from reports.numbers.groups import grouped
from reports.output.blocks import Block, Reason, Section, Text
from reports.records.record import CaseRecord, Status
from reports.speed.analysis import Analysis, Head
from reports.speed.settings import name

_GRAVEST_FIRST = (Status.WRONG, Status.FAILED, Status.UNAVAILABLE, Status.SKIPPED)


def not_measured_section(analysis: Analysis) -> Section:
    """Return why cases have no time, or that all have one."""
    groups = grouped(analysis.results.not_measured, lambda record: (record.status, record.reason))
    order = sorted(groups.items(), key=lambda item: _GRAVEST_FIRST.index(item[0][0]))
    blocks: list[Block] = [
        Reason(status, reason or "No reason was recorded.", tuple(_scopes(analysis, records)))
        for (status, reason), records in order
    ]
    blocks = blocks or [Text("Every case was measured.")]
    return Section(
        "not-measured",
        "Not measured",
        blocks,
        heading="What has no time, and why",
        about="cases without a time, each with its reason",
    )


def _scopes(analysis: Analysis, records: Sequence[CaseRecord]) -> Iterator[str]:
    """Name the cases of one reason; cases that differ only in rows share a line."""

    def scope(record: CaseRecord) -> str:
        passes = ", training" if record.passes == "training" else ""
        details = f"{record.part}, {record.dtype}, {record.device}{passes}, {record.clock} clock, suite {record.suite}"
        return f"{name(analysis, Head.of(record))}, {record.form} ({details})"

    for cases, same in grouped(records, scope).items():
        yield f"{cases}: {units.row_counts(sorted({record.rows for record in same}))}"
