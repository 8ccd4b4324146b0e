"""The section on weights stored in 8 or 4 bits: the time and bytes that they save, beside the error that they cost."""

from __future__ import annotations

from collections.abc import Iterator

from reports.numbers import units
from reports.output.blocks import Section, without_blanks
from reports.output.tables import Field, number, word
from reports.reading.load import MeasuredCase
from reports.speed.analysis import Analysis, Head, Setting, ratio
from reports.speed.settings import identity, tables

_Pair = tuple[MeasuredCase, MeasuredCase]
"""The fastest case of a head with full weights, and one with stored weights."""


def stored_section(analysis: Analysis) -> Section | None:
    """Return each case with stored weights beside the head's fastest with full ones, or None without such pairs."""

    def floors(pair: _Pair) -> str:
        full, stored = (analysis.floors.get(case) for case in pair)
        return units.factor(stored.seconds / full.seconds) if full and stored else ""

    def moved(pair: _Pair) -> str:
        full, stored = (case.record.least_bytes for case in pair)
        return units.factor(stored / full) if full and stored else ""

    fields: list[Field[_Pair]] = [
        *identity(analysis, lambda pair: pair[1]),
        word("weights", lambda pair: pair[1].record.scheme),
        number("median", lambda pair: units.seconds(analysis.latencies[pair[1]].value)),
        word("full weights", lambda pair: pair[0].record.form),
        number("their median", lambda pair: units.seconds(analysis.latencies[pair[0]].value)),
        number("time, stored / full", lambda pair: units.factor(ratio(*reversed(pair)).value)),
        number(units.INTERVAL, lambda pair: units.factor_interval(ratio(*reversed(pair)))),
        number("floor, stored / full", floors),
        number("bytes, stored / full", moved),
        number("storage error", lambda pair: units.deviation(pair[1].record.storage_error)),
        number("deviation", lambda pair: units.deviation(pair[1].record.error)),
    ]
    shown = tables(fields, {setting: list(_pairs(analysis, setting)) for setting in analysis.settings})
    if not shown:
        return None
    return Section(
        "stored",
        "Stored weights",
        [without_blanks(table) for table in shown],
        heading="Weights in 8 and 4 bits",
        reading="weights stored in fewer bits, at lower precision, beside the fastest form with full weights. The "
        "storage error is what they cost: the norm of the outputs’ error over that of the outputs, both in float64. "
        "The deviation is that of the form from exact outputs with the stored weights. Everywhere else in this report "
        "full weights stand for a head.",
        about="what weights in fewer bits gain in time and cost in accuracy",
    )


def _pairs(analysis: Analysis, setting: Setting) -> Iterator[_Pair]:
    cases = analysis.cases(setting)
    for case in cases:
        same = [each for each in cases if _key(each) == _key(case) and not each.record.scheme]
        if case.record.scheme and same:
            yield analysis.fastest(same), case


def _key(case: MeasuredCase) -> tuple[Head, int]:
    return (Head.of(case.record), case.record.rows)
