"""The section on all measured cases: one table on the page that a reader can sort, filter and copy.

A column has one unit, so that its numbers can be sorted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from reports.cases.summary import Row, derived
from reports.numbers import units
from reports.output.blocks import Column, Filter, FilteredTable, PageOnly, Section, Table, Text, without_blanks
from reports.records.record import CaseRecord
from reports.speed.verdicts import weaknesses

MOST_CHOICES = 60
"""A column with more distinct values than this has no filter."""
FILTERED = ("kind", "head", "form", "rows", "verdict", "limited by")
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
        "unmatched has heads of different size. A copy holds what is shown, to three digits; summary.csv holds every "
        f"case in full.{f' The same for all: {same}.' if same else ''}",
    )


_HEADING = "All measured cases"


def _fixed(rows: Sequence[Row]) -> dict[str, str]:
    """Return the conditions that are the same in all rows, which have no column."""
    texts = {title: {text(row) for row in rows} for title, text in _CONDITIONS.items()}
    return {title: values.pop() for title, values in texts.items() if len(values) == 1}


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


def _shown(part: str, name: str, text: Callable[[Any], str] = str) -> Callable[[Row], str]:
    """Return how to show a value of a part of a row, blank if it is not known."""
    value = derived(part, name)
    return lambda row: "" if (known := value(row)) is None else text(known)


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
    "median, µs": _shown("latency", "value", units.microseconds),
    "realised": _shown("comparison", "realised.value", units.ratio),
    "verdict": _shown("comparison", "verdict"),
    "theoretical": _shown("comparison", "theoretical", units.ratio),
    "attainable": _shown("comparison", "attainable", units.ratio),
    "limited by": _shown("floor", "limit"),
    "median, low": _shown("latency", "low", units.microseconds),
    "median, high": _shown("latency", "high", units.microseconds),
    "n": _shown("latency", "samples", units.count),
    "realised, low": _shown("comparison", "realised.low", units.ratio),
    "realised, high": _shown("comparison", "realised.high", units.ratio),
    "note": lambda row: ", ".join(weaknesses(row.comparison)) if row.comparison else "",
    "over dense, same form": _shown("same_form", "realised.value", units.ratio),
    "error": lambda row: units.deviation(row.record.error),
    "tolerance": lambda row: units.deviation(row.record.tolerance),
    "ambiguous rows": lambda row: units.count(row.record.ambiguous_rows),
    "J per 1,000 rows": lambda row: units.quantity(row.record.joules_per_thousand_rows),
}
_WORDS = {"head", "kind", "form", *_CONDITIONS, "limited by", "verdict", "note"}
