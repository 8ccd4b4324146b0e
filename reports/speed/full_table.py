"""All measured cases in one table of the page, which a reader sorts, filters and copies there.

A column has one unit, so that its numbers can be ordered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from reports.numbers import units
from reports.output.blocks import Column, Table, without_blanks
from reports.records.record import CaseRecord
from reports.speed.summary import Row

MOST_CHOICES = 60
"""Distinct values of a column up to which it can be filtered by choosing one."""
FILTERED = ("kind", "head", "form", "rows", "verdict", "limited by")
"""Columns that can be filtered, beside those of conditions."""


@dataclass(frozen=True)
class Filter:
    """A column that can be filtered by choosing one of its few values; `place` counts from 0."""

    place: int
    title: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class FullTable:
    """The table, what can be chosen in it, and in words what is the same in all of its rows."""

    table: Table
    filters: tuple[Filter, ...]
    fixed: str


def full_table(found: Sequence[Row]) -> FullTable | None:
    """Return the measured rows; None without any.

    A condition that is the same in all rows is said once, beside the table, and has no column.
    """
    timed = [row for row in found if row.latency]
    if not timed:
        return None
    conditions = {title: [told(row) for row in timed] for title, told in _CONDITIONS.items()}
    fixed = {title: texts[0] for title, texts in conditions.items() if len(set(texts)) == 1}
    columns = {title: [told(row) for row in timed] for title, told in _IDENTITY.items()}
    if columns["head"] == columns["kind"]:
        del columns["kind"]
    columns |= {title: [told(row) for row in timed] for title, told in _NUMBERS.items()}
    columns |= {title: texts for title, texts in conditions.items() if title not in fixed}
    headings = tuple(Column(title, numeric=title not in _WORDS) for title in columns)
    table = without_blanks(Table("All measured cases", headings, tuple(zip(*columns.values(), strict=True))))
    return FullTable(table, tuple(_filters(table)), units.listing([f"{title} {text}" for title, text in fixed.items()]))


def _filters(table: Table) -> list[Filter]:
    filters = []
    for place, column in enumerate(table.columns):
        values = {row[place] for row in table.rows} - {""}
        if column.title in (*FILTERED, *_CONDITIONS) and 1 < len(values) <= MOST_CHOICES:
            filters.append(Filter(place, column.title, tuple(sorted(values, key=lambda value: (len(value), value)))))
    return filters


def _machine(record: CaseRecord) -> str:
    return (
        f"{record.device_name}, {units.plural(record.threads, 'thread')}"
        if record.device == "cpu"
        else record.device_name
    )


def _microseconds(value: float | None) -> str:
    return "" if value is None else units.microseconds(value)


def _ratio(value: float | None) -> str:
    return "" if value is None else units.ratio(value)


_IDENTITY: dict[str, Callable[[Row], str]] = {
    "head": lambda row: row.label,
    "kind": lambda row: row.record.head,
    "form": lambda row: row.record.form,
    "rows": lambda row: units.count(row.record.rows),
}
_CONDITIONS: dict[str, Callable[[Row], str]] = {
    "part": lambda row: row.record.part,
    "dtype": lambda row: row.record.dtype,
    "caches": lambda row: row.record.cache,
    "routing": lambda row: row.record.routing,
    "clock": lambda row: row.record.clock,
    "suite": lambda row: row.record.suite,
    "machine": lambda row: _machine(row.record),
}
_NUMBERS: dict[str, Callable[[Row], str]] = {
    "median, µs": lambda row: _microseconds(row.latency.value if row.latency else None),
    "realised": lambda row: _ratio(row.comparison.realised.value if row.comparison else None),
    "verdict": lambda row: row.comparison.verdict if row.comparison else "",
    "promised": lambda row: _ratio(row.comparison.theoretical if row.comparison else None),
    "attainable": lambda row: _ratio(row.comparison.attainable if row.comparison else None),
    "limited by": lambda row: row.floor.limit if row.floor else "",
    "median, low": lambda row: _microseconds(row.latency.low if row.latency else None),
    "median, high": lambda row: _microseconds(row.latency.high if row.latency else None),
    "n": lambda row: units.count(row.latency.samples) if row.latency else "",
    "realised, low": lambda row: _ratio(row.comparison.realised.low if row.comparison else None),
    "realised, high": lambda row: _ratio(row.comparison.realised.high if row.comparison else None),
    "note": lambda row: _note(row),
    "over dense, same form": lambda row: _ratio(row.same_form.realised.value if row.same_form else None),
    "error": lambda row: units.deviation(row.record.error),
    "tolerance": lambda row: units.deviation(row.record.tolerance),
    "ambiguous rows": lambda row: units.count(row.record.ambiguous_rows),
    "J per 1,000 rows": lambda row: units.quantity(row.record.joules_per_thousand_rows),
}
_WORDS = {"head", "kind", "form", *_CONDITIONS, "limited by", "verdict", "note"}


def _note(row: Row) -> str:
    """Return what weakens the comparison of a row with its dense rival."""
    if row.comparison is None:
        return ""
    notes = [] if row.comparison.realised.paired else ["unpaired"]
    return ", ".join(notes if row.comparison.matched else [*notes, "unmatched"])
