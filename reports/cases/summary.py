"""Every case in one table: a CSV file in SI units, for a spreadsheet.

Text from result files never becomes a formula: a cell that a spreadsheet would take for one is led by an apostrophe.
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
"""First characters by which a spreadsheet takes text for a formula."""


@dataclass(frozen=True)
class Row:
    """A case with what was derived from it; one without a time has neither `latency` nor `source`.

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
    """Return every case, by setting, head, form and rows, those without a time last."""
    against_best = {item.case: item for speedup in analysis.speedups for item in speedup.against_best}
    same_form = {item.case: item for speedup in analysis.speedups for item in speedup.same_form}
    measured = [
        _row(
            analysis,
            case.record,
            latency=analysis.latencies[case],
            comparison=against_best.get(case),
            same_form=same_form.get(case),
            floor=analysis.floors.get(case),
            source=case.source.name,
        )
        for case in analysis.results.cases
    ]
    others = [_row(analysis, record) for record in analysis.results.not_measured]
    return [*sorted(measured, key=_order), *sorted(others, key=_order)]


def as_csv(found: Sequence[Row]) -> str:
    """Return the rows as CSV (RFC 4180): times in seconds, sizes in bytes, blank where something is not known."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_FIELDS)
    writer.writerows([_cell(value(row)) for value in _FIELDS.values()] for row in found)
    return text.getvalue()


def _row(analysis: Analysis, record: CaseRecord, **derived: Any) -> Row:
    return Row(record, name(analysis, Head.of(record)), **derived)


def _order(row: Row) -> tuple[object, ...]:
    record = row.record
    return (Setting.of(record).rank(), KINDS.index(record.head), row.label, record.form, record.rows)


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def _recorded(*fields: str) -> dict[str, Callable[[Row], Any]]:
    return {field: attrgetter(f"record.{field}") for field in fields}


_FIELDS: dict[str, Callable[[Row], Any]] = {
    **_recorded("suite", "status", "checkpoint", "head", "policy", "form", "part", "rows", "features", "hidden"),
    **_recorded("experts", "k", "classes", "activation", "dtype", "device", "device_name", "cpu", "threads", "clock"),
    **_recorded("cache", "routing", "load_cv", "distinct_experts", "test_accuracy", "parameters"),
    "median_s": lambda row: row.latency.value if row.latency else None,
    "median_low_s": lambda row: row.latency.low if row.latency else None,
    "median_high_s": lambda row: row.latency.high if row.latency else None,
    "samples": lambda row: row.latency.samples if row.latency else None,
    "blocks": lambda row: row.latency.blocks if row.latency else None,
    "rows_per_s": lambda row: row.record.rows / row.latency.value if row.latency else None,
    **_recorded("flops", "least_bytes"),
    "floor_s": lambda row: row.floor.seconds if row.floor else None,
    "limit": lambda row: row.floor.limit if row.floor else None,
    "theoretical_speedup": lambda row: row.comparison.theoretical if row.comparison else None,
    "attainable_speedup": lambda row: row.comparison.attainable if row.comparison else None,
    "realised_speedup": lambda row: row.comparison.realised.value if row.comparison else None,
    "realised_low": lambda row: row.comparison.realised.low if row.comparison else None,
    "realised_high": lambda row: row.comparison.realised.high if row.comparison else None,
    "verdict": lambda row: row.comparison.verdict if row.comparison else None,
    "dense_form": lambda row: row.comparison.base.record.form if row.comparison else None,
    "paired": lambda row: row.comparison.realised.paired if row.comparison else None,
    "matched": lambda row: row.comparison.matched if row.comparison else None,
    "same_form_speedup": lambda row: row.same_form.realised.value if row.same_form else None,
    **_recorded("error", "tolerance", "ambiguous_rows", "joules_per_thousand_rows", "cold_start", "peak_memory"),
    **_recorded("measured_at", "commit"),
    "source": lambda row: row.source,
    **_recorded("case_id", "reason"),
}
