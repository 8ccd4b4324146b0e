"""Every case in one table: a CSV file in SI units, for a spreadsheet.

Text from result files never becomes a formula: an apostrophe leads every cell that a spreadsheet would take for one.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from reports.numbers.stats import Estimate
from reports.records.record import CaseRecord
from reports.speed.analysis import KINDS, Analysis, Comparison, Head, Setting
from reports.speed.floors import Floor
from reports.speed.settings import name

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet takes text that begins with one of these for a formula."""


@dataclass(frozen=True)
class Row:
    """A case with what was derived from it; a case without a time has neither `latency` nor `source`.

    `comparison` is with the best dense form, `same_form` with the dense head in the same form.
    """

    record: CaseRecord
    label: str
    latency: Estimate | None = None
    comparison: Comparison | None = None
    same_form: Comparison | None = None
    floor: Floor | None = None
    source: str = ""


def rows(analysis: Analysis) -> list[Row]:
    """Return every case, by setting, head, form and rows, and at the end the cases without a time."""
    against_best = {item.case: item for speedup in analysis.speedups for item in speedup.against_best}
    same_form = {item.case: item for speedup in analysis.speedups for item in speedup.same_form}
    measured = [
        Row(
            case.record,
            name(analysis, Head.of(case.record)),
            latency=analysis.latencies[case],
            comparison=against_best.get(case),
            same_form=same_form.get(case),
            floor=analysis.floors.get(case),
            source=case.source.name,
        )
        for case in analysis.results.cases
    ]
    others = [Row(record, name(analysis, Head.of(record))) for record in analysis.results.not_measured]
    return [*sorted(measured, key=_order), *sorted(others, key=_order)]


def as_csv(rows: Sequence[Row]) -> str:
    """Return the rows as CSV (RFC 4180): times in seconds, sizes in bytes, and a blank for what is not known."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_FIELDS)
    writer.writerows([_cell(value(row)) for value in _FIELDS.values()] for row in rows)
    return text.getvalue()


def _order(row: Row) -> tuple[object, ...]:
    record = row.record
    return (Setting.of(record).rank(), KINDS.index(record.head), row.label, record.form, record.rows)


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def derived(part: str, name: str) -> Callable[[Row], Any]:
    """Return how to read a value of a part of a row, such as its floor; None if the row has no such part."""
    value = attrgetter(name)
    return lambda row: None if getattr(row, part) is None else value(getattr(row, part))


def _recorded(*fields: str) -> dict[str, Callable[[Row], Any]]:
    return {field: attrgetter(f"record.{field}") for field in fields}


_FIELDS: dict[str, Callable[[Row], Any]] = {
    **_recorded("suite", "status", "checkpoint", "head", "policy", "form", "scheme", "part", "rows", "features"),
    **_recorded("hidden", "experts", "k", "classes", "activation", "dtype", "device", "device_name", "cpu", "threads"),
    **_recorded("clock", "passes", "cache", "routing", "load_cv", "distinct_experts", "test_accuracy", "parameters"),
    "median_s": derived("latency", "value"),
    "median_low_s": derived("latency", "low"),
    "median_high_s": derived("latency", "high"),
    "samples": derived("latency", "samples"),
    "blocks": derived("latency", "blocks"),
    "rows_per_s": lambda row: row.record.rows / row.latency.value if row.latency else None,
    **_recorded("flops", "least_bytes"),
    "floor_s": derived("floor", "seconds"),
    "limit": derived("floor", "limit"),
    "theoretical_speedup": derived("comparison", "theoretical"),
    "attainable_speedup": derived("comparison", "attainable"),
    "realised_speedup": derived("comparison", "realised.value"),
    "realised_low": derived("comparison", "realised.low"),
    "realised_high": derived("comparison", "realised.high"),
    "verdict": derived("comparison", "verdict"),
    "dense_form": derived("comparison", "base.record.form"),
    "paired": derived("comparison", "realised.paired"),
    "matched": derived("comparison", "matched"),
    "same_form_speedup": derived("same_form", "realised.value"),
    **_recorded("error", "tolerance", "storage_error", "gradient_error", "gradient_tolerance", "ambiguous_rows"),
    **_recorded("joules_per_thousand_rows", "cold_start", "peak_memory"),
    **_recorded("measured_at", "commit"),
    "source": attrgetter("source"),
    **_recorded("case_id", "reason"),
}
