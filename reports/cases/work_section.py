"""The section on work executed: operations, launches and bytes of the forms that count their own."""

from __future__ import annotations

from reports.numbers import units
from reports.output.blocks import PageOnly, Section, Table, numeric, worded
from reports.records.record import CaseRecord
from reports.speed.analysis import Analysis, Head
from reports.speed.settings import caption, name


def work_section(analysis: Analysis) -> Section | None:
    """Return a table for each setting with a form that counts its own work, or None without any."""
    tables = work(analysis)
    if not tables:
        return None
    return Section(
        "work",
        "Work executed",
        [PageOnly(tables)],
        reading="what the forms that count their own work execute, beside what the head needs. Padding of tiles counts "
        "as executed; requested are the bytes that all programs of a launch read and write, whichever memory serves "
        "them, and least is each value once.",
    )


def work(analysis: Analysis) -> list[Table]:
    """Return, for each setting, what the forms that count their own work execute and request, beside what is needed."""
    columns = (
        *worded("head", "form"),
        *numeric("rows", "launches", "MFLOP executed", "MFLOP needed", "executed / needed", "requested", "least"),
    )
    tables = []
    for setting in analysis.settings:
        counted = [case.record for case in analysis.cases(setting) if case.record.launches is not None]
        if counted:
            tables.append(Table(caption(setting), columns, tuple(_row(analysis, record) for record in counted)))
    return tables


def _row(analysis: Analysis, record: CaseRecord) -> tuple[str, ...]:
    executed, requested, least = record.executed_flops, record.requested_bytes, record.least_bytes
    return (
        name(analysis, Head.of(record)),
        record.form,
        units.count(record.rows),
        units.count(record.launches or 0),
        "" if executed is None else units.millions(executed),
        units.millions(record.flops),
        units.factor(executed / record.flops) if executed is not None and record.flops else "",
        "" if requested is None else units.megabytes(requested),
        "" if least is None else units.megabytes(least),
    )
