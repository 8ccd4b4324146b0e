"""The section on work executed: operations, launches and bytes, of the forms that count them."""

from __future__ import annotations

from reports.numbers import units
from reports.output.blocks import PageOnly, Section
from reports.output.tables import Field, number
from reports.reading.load import MeasuredCase
from reports.speed.analysis import Analysis
from reports.speed.settings import identity, tables


def work_section(analysis: Analysis) -> Section | None:
    """Return a table for each setting with a form that counts its work, or None without any."""
    fields: list[Field[MeasuredCase]] = [
        *identity(analysis, lambda case: case),
        number("launches", lambda case: units.count(case.record.launches or 0)),
        number("MFLOP executed", lambda case: units.known(case.record.executed_flops, units.millions)),
        number("MFLOP needed", lambda case: units.millions(case.record.flops)),
        number("executed / needed", _excess),
        number("requested", lambda case: units.known(case.record.requested_bytes, units.megabytes)),
        number("least", lambda case: units.known(case.record.least_bytes, units.megabytes)),
    ]
    counted = {
        setting: [case for case in analysis.cases(setting) if case.record.launches is not None]
        for setting in analysis.settings
    }
    shown = tables(fields, counted)
    if not shown:
        return None
    return Section(
        "work",
        "Work executed",
        [PageOnly(shown)],
        reading="what the forms that count their work execute, beside what the head needs. Padding of tiles counts "
        "as executed; requested are the bytes that all programs of a launch read and write, whichever memory serves "
        "them, and least is each value once.",
        about="operations and bytes executed beside those needed",
    )


def _excess(case: MeasuredCase) -> str:
    executed, needed = case.record.executed_flops, case.record.flops
    return units.factor(executed / needed) if executed is not None and needed else ""
