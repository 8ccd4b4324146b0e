"""The section on work executed: operations, launches and bytes, of the forms that count them."""

from __future__ import annotations

from reports.numbers import units
from reports.output.blocks import PageOnly, Section, Table, numeric
from reports.reading.load import Case
from reports.speed.analysis import Analysis
from reports.speed.settings import CASE, identity, tables


def work_section(analysis: Analysis) -> Section | None:
    """Return a table for each setting with a form that counts its work, or None without any."""
    shown = work(analysis)
    if not shown:
        return None
    return Section(
        "work",
        "Work executed",
        [PageOnly(shown)],
        reading="what the forms that count their work execute, beside what the head needs. Padding of tiles counts "
        "as executed; requested are the bytes that all programs of a launch read and write, whichever memory serves "
        "them, and least is each value once.",
    )


def work(analysis: Analysis) -> list[Table]:
    """Return, for each setting, the work that forms count themselves, beside the work that the head needs."""
    columns = (*CASE, *numeric("launches", "MFLOP executed", "MFLOP needed", "executed / needed", "requested", "least"))
    rows = {
        setting: [_row(analysis, case) for case in analysis.cases(setting) if case.record.launches is not None]
        for setting in analysis.settings
    }
    return tables(columns, rows)


def _row(analysis: Analysis, case: Case) -> tuple[str, ...]:
    record = case.record
    executed, requested, least = record.executed_flops, record.requested_bytes, record.least_bytes
    return (
        *identity(analysis, case),
        units.count(record.launches or 0),
        "" if executed is None else units.millions(executed),
        units.millions(record.flops),
        units.factor(executed / record.flops) if executed is not None and record.flops else "",
        "" if requested is None else units.megabytes(requested),
        "" if least is None else units.megabytes(least),
    )
