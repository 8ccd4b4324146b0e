"""The section on cold start and memory: what preparing a form costs, and how much memory a call takes."""

from __future__ import annotations

from collections.abc import Sequence

from reports.numbers import units
from reports.numbers.groups import grouped
from reports.output.blocks import PageOnly, Section, Text
from reports.output.tables import Field, number, word
from reports.records.record import CaseRecord
from reports.speed.analysis import Analysis, Head
from reports.speed.settings import name, tables


def cold_start_section(analysis: Analysis) -> Section:
    """Return a table for each setting, or that nothing was recorded."""
    fields: list[Field[Sequence[CaseRecord]]] = [  # of all records of a head in a form
        word("head", lambda records: name(analysis, Head.of(records[0]))),
        word("form", lambda records: records[0].form),
        number("cold start, least", lambda records: units.known(min(_starts(records), default=None), units.seconds)),
        number("cold start, most", lambda records: units.known(max(_starts(records), default=None), units.seconds)),
        number("peak memory", lambda records: units.known(_largest(records), _peak)),
        number("at rows", lambda records: units.known(_largest(records), lambda record: units.count(record.rows))),
        word("runs on", _runs_on),
    ]
    prepared = {}
    for setting in analysis.usual:
        records = [case.record for case in analysis.cases(setting)]
        forms = grouped(records, lambda record: (Head.of(record), record.form)).values()
        prepared[setting] = [each for each in forms if _starts(each) or _largest(each)]
    shown = tables(fields, prepared)
    reading = (
        "cold start is what preparing a form and its first call take, least and most over its batches; peak memory is "
        "that of one call above the resting level, at the batch that took most."
    )
    nothing = PageOnly([Text("Neither cold start nor memory was recorded.", "note")])
    return Section(
        "cold-start",
        "Cold start and memory",
        shown or [nothing],
        reading=reading if shown else "",
        about="what preparing a form takes, and its peak of memory",
    )


def _starts(records: Sequence[CaseRecord]) -> list[float]:
    return [record.cold_start for record in records if record.cold_start is not None]


def _largest(records: Sequence[CaseRecord]) -> CaseRecord | None:
    """Return the record with the greatest peak of memory, None if no peak was measured."""
    measured = [record for record in records if record.peak_memory is not None]
    return max(measured, key=lambda record: record.peak_memory or 0, default=None)


def _peak(record: CaseRecord) -> str:
    return units.megabytes(record.peak_memory or 0)


def _runs_on(records: Sequence[CaseRecord]) -> str:
    texts = {f"{key} {value}" for record in records for key, value in record.runs_on.items() if key != "device"}
    return ", ".join(sorted(texts - {""}))
