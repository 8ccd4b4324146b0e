"""The section on cold start and memory: what preparing a form costs, and how much memory a call takes."""

from __future__ import annotations

from collections.abc import Sequence

from reports.numbers import units
from reports.output.blocks import PageOnly, Section, Table, Text, numeric, worded
from reports.records.record import CaseRecord
from reports.speed.analysis import Analysis, Head
from reports.speed.settings import name, tables


def cold_start_section(analysis: Analysis) -> Section | None:
    """Return a table for each setting, or that nothing was recorded; None without records."""
    if not analysis.results.records:
        return None
    shown = cold_start(analysis)
    reading = (
        "cold start is what preparing a form and its first call take, least and most over its batches; peak memory is "
        "that of one call above the resting level, at the batch that took most."
    )
    nothing = PageOnly([Text("Neither cold start nor memory was recorded.", "note")])
    return Section("cold-start", "Cold start and memory", shown or [nothing], reading=reading if shown else "")


def cold_start(analysis: Analysis) -> list[Table]:
    """Return, for each setting, what preparing each form costs and how much memory it takes, over all its rows."""
    columns = (
        *worded("head", "form"),
        *numeric("cold start, least", "cold start, most", "peak memory", "at rows"),
        *worded("runs on"),
    )
    rows = {}
    for setting in analysis.usual:
        groups: dict[tuple[Head, str], list[CaseRecord]] = {}
        for case in analysis.cases(setting):
            groups.setdefault((Head.of(case.record), case.record.form), []).append(case.record)
        prepared = (_row(analysis, head, form, records) for (head, form), records in groups.items())
        rows[setting] = [row for row in prepared if any(row[2:5])]
    return tables(columns, rows)


def _row(analysis: Analysis, head: Head, form: str, records: Sequence[CaseRecord]) -> tuple[str, ...]:
    starts = [record.cold_start for record in records if record.cold_start is not None]
    memory = max(
        (record for record in records if record.peak_memory is not None),
        key=lambda record: record.peak_memory or 0,
        default=None,
    )
    runs_on = {f"{key} {value}" for record in records for key, value in record.runs_on.items() if key != "device"}
    return (
        name(analysis, head),
        form,
        units.seconds(min(starts)) if starts else "",
        units.seconds(max(starts)) if starts else "",
        units.megabytes(memory.peak_memory or 0) if memory else "",
        units.count(memory.rows) if memory else "",
        ", ".join(sorted(runs_on - {""})),
    )
