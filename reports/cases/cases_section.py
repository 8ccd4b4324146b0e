"""The section on all measured cases: one table on the page that a reader can sort, filter and copy.

A column has one unit, so that its numbers can be sorted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from reports.cases.summary import Row, derived
from reports.numbers import units
from reports.output.blocks import Filter, FilteredTable, PageOnly, Section, Table, Text, without_blanks
from reports.output.tables import Field, number, tabulated, word
from reports.records.record import CaseRecord
from reports.speed.verdicts import weaknesses

_HEADING = "All measured cases"
MOST_CHOICES = 60
"""A column with more distinct values than this has no filter."""
FILTERED = ("kind", "head", "form", "weights", "rows", "verdict", "limited by")
"""Columns that can be filtered, beside the conditions."""


def cases_section(rows: Sequence[Row]) -> Section | None:
    """Return the measured rows in one table; None without rows."""
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
        "unmatched has heads of different size, one marked lower precision has weights stored in fewer bits. A copy "
        "holds what is shown, to three digits; summary.csv holds every case in full."
        f"{f' The same for all: {same}.' if same else ''}",
        about="one table to sort, filter and copy",
    )


def _fixed(rows: Sequence[Row]) -> dict[str, str]:
    """Return the conditions that are the same in all rows, which have no column."""
    texts = {field.title: {field.text(row) for row in rows} for field in _CONDITIONS}
    return {title: values.pop() for title, values in texts.items() if len(values) == 1}


def _table(rows: Sequence[Row], fixed: Collection[str]) -> Table:
    """Return all rows, with a column for each condition that is not `fixed`, and for the kind unless it is the head."""
    kind = [] if all(row.label == row.record.head for row in rows) else [_KIND]
    varying = [field for field in _CONDITIONS if field.title not in fixed]
    return without_blanks(tabulated(_HEADING, [_HEAD, *kind, *_MEASURED, *varying], rows))


def _filters(table: Table) -> Iterator[Filter]:
    filtered = {*FILTERED, *(field.title for field in _CONDITIONS)}
    for place, column in enumerate(table.columns):
        values = {row[place] for row in table.rows} - {""}
        if column.title in filtered and 1 < len(values) <= MOST_CHOICES:
            yield Filter(place, column.title, tuple(sorted(values, key=lambda value: (len(value), value))))


def _machine(record: CaseRecord) -> str:
    threads = f", {units.plural(record.threads, 'thread')}" if record.device == "cpu" else ""
    return f"{record.device_name}{threads}"


def _shown(part: str, name: str, text: Callable[[Any], str] = str) -> Callable[[Row], str]:
    """Return how to show a value of a part of a row, blank if it is not known."""
    value = derived(part, name)
    return lambda row: units.known(value(row), text)


_HEAD: Field[Row] = word("head", lambda row: row.label)
_KIND: Field[Row] = word("kind", lambda row: row.record.head)
_CONDITIONS: list[Field[Row]] = [
    word("part", lambda row: row.record.part),
    word("dtype", lambda row: row.record.dtype),
    word("passes", lambda row: row.record.passes),
    word("caches", lambda row: row.record.cache),
    word("routing", lambda row: row.record.routing),
    word("clock", lambda row: row.record.clock),
    word("suite", lambda row: row.record.suite),
    word("machine", lambda row: _machine(row.record)),
]
_MEASURED: list[Field[Row]] = [
    word("form", lambda row: row.record.form),
    word("weights", lambda row: row.record.scheme),
    number("rows", lambda row: units.count(row.record.rows)),
    number("median, µs", _shown("latency", "value", units.microseconds)),
    number("realised", _shown("comparison", "realised.value", units.ratio)),
    word("verdict", _shown("comparison", "verdict")),
    number("theoretical", _shown("comparison", "theoretical", units.ratio)),
    number("attainable", _shown("comparison", "attainable", units.ratio)),
    word("limited by", _shown("floor", "limit")),
    number("median, low", _shown("latency", "low", units.microseconds)),
    number("median, high", _shown("latency", "high", units.microseconds)),
    number("n", _shown("latency", "samples", units.count)),
    number("realised, low", _shown("comparison", "realised.low", units.ratio)),
    number("realised, high", _shown("comparison", "realised.high", units.ratio)),
    word("note", lambda row: ", ".join(weaknesses(row.comparison)) if row.comparison else ""),
    number("over dense, same form", _shown("same_form", "realised.value", units.ratio)),
    number("error", lambda row: units.deviation(row.record.error)),
    number("tolerance", lambda row: units.deviation(row.record.tolerance)),
    number("storage error", lambda row: units.deviation(row.record.storage_error)),
    number("gradient error", lambda row: units.deviation(row.record.gradient_error)),
    number("ambiguous rows", lambda row: units.count(row.record.ambiguous_rows)),
    number("J per 1,000 rows", lambda row: units.quantity(row.record.joules_per_thousand_rows)),
]
