"""The section of all measured cases: one table of the page, which a reader sorts, filters and copies there.

A column has one unit, so that its numbers can be ordered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from reports.cases.summary import Row
from reports.numbers import units
from reports.output.blocks import Column, Filter, FilteredTable, PageOnly, Section, Table, Text, without_blanks
from reports.records.record import CaseRecord

MOST_CHOICES = 60
"""Distinct values of a column up to which it can be filtered by choosing one."""
FILTERED = ("kind", "head", "form", "rows", "verdict", "limited by")
"""Columns that can be filtered, beside those of conditions."""


def cases_section(rows: Sequence[Row]) -> Section | None:
    """Return the measured ones of these rows in one table; None without rows."""
    if not rows:
        return None
    timed = [row for row in rows if row.latency]
    if not timed:
        return Section("cases", "All cases", [PageOnly([Text("Nothing was measured.", "note")])], heading=_HEADING)
    fixed = _fixed(timed)
    table = _table(timed, fixed)
    same = units.listing([f"{title} {text}" for title, text in fixed.items()]) if fixed else ""
    return Section(
        "cases",
        "All cases",
        [PageOnly([FilteredTable(table, tuple(_filters(table)))])],
        heading=_HEADING,
        reading=f"medians in microseconds and ratios of medians with {units.INTERVAL}s by a bootstrap over blocks; "
        "ratios are dense over MoE, so above 1 the MoE head is faster. SAME means that the interval lies within 3 % of "
        "equal speed, UNCLEAR that it decides nothing. A pair marked unpaired was not measured interleaved, one marked "
        "unmatched has heads of different size. A copy holds what is shown, to three digits; summary.csv holds every "
        f"case in full.{f' The same for all: {same}.' if same else ''}",
    )


_HEADING = "All measured cases"


def _fixed(rows: Sequence[Row]) -> dict[str, str]:
    """Return the conditions that are the same in all rows, which have no column."""
    texts = {title: {text(row) for row in rows} for title, text in _CONDITIONS.items()}
    return {title: found.pop() for title, found in texts.items() if len(found) == 1}


def _table(rows: Sequence[Row], fixed: Mapping[str, str]) -> Table:
    """Return all rows, with a column for each condition that is not `fixed`."""
    varying = {title: text for title, text in _CONDITIONS.items() if title not in fixed}
    columns = {title: [text(row) for row in rows] for title, text in (_IDENTITY | _NUMBERS | varying).items()}
    if columns["head"] == columns["kind"]:
        del columns["kind"]
    headings = tuple(Column(title, numeric=title not in _WORDS) for title in columns)
    return without_blanks(Table(_HEADING, headings, tuple(zip(*columns.values(), strict=True))))


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
    "theoretical": lambda row: _ratio(row.comparison.theoretical if row.comparison else None),
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
