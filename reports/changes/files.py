"""The two files of a comparison: both written by moegap, or both plain files of pytest-benchmark."""

from __future__ import annotations

from pathlib import Path

from reports.changes import changes, plain
from reports.changes.changes import Changes
from reports.changes.plain import PlainRun
from reports.errors import ReportError
from reports.numbers.stats import LEAST_EFFECT
from reports.reading import load
from reports.reading.documents import are_objects
from reports.reading.files import read
from reports.reading.load import Results
from reports.records.record import NOT_MEASURED_KEY, is_record


def compare(base: Path, new: Path, least: float = LEAST_EFFECT) -> Changes:
    """Return what changed from the run in the file `base` to that in `new`; effects below `least` do not count.

    Raises `ReportError` if a file is unusable, the two are of different kinds, or they have no case in common.
    """
    before, after = _loaded(base), _loaded(new)
    if isinstance(before, Results) and isinstance(after, Results):
        return changes.between(before, after, least)
    if isinstance(before, PlainRun) and isinstance(after, PlainRun):
        return plain.between(before, after, least)
    ours, other = (base, new) if isinstance(before, Results) else (new, base)
    raise ReportError(f"{ours} holds records of moegap and {other} holds none: compare two files of one kind.")


def _loaded(path: Path) -> Results | PlainRun:
    """Return a run; it is one of moegap if the file holds any of its records, of measured cases or others."""
    content = read([path])[path]
    entries = content.get("benchmarks")
    ours = NOT_MEASURED_KEY in content or (are_objects(entries) and any(map(is_record, entries)))
    return load.gather({path: content}) if ours else plain.load(path, content)
