"""The files of a comparison: all written by moegap, or all plain files of pytest-benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reports.changes import changes, plain
from reports.changes.change import Doubtful
from reports.changes.changes import Changes
from reports.changes.plain import PlainRun
from reports.changes.several import joined
from reports.errors import ReportError
from reports.numbers import units
from reports.numbers.stats import LEAST_EFFECT
from reports.reading import load
from reports.reading.documents import are_objects
from reports.reading.files import read
from reports.reading.load import Results
from reports.records.record import NOT_MEASURED_KEY, is_record


def compare(base: Path, new: Path, least: float = LEAST_EFFECT, doubtful: Doubtful = "unclear") -> Changes:
    """Return what changed from the run in the file `base` to that in `new`; effects below `least` do not count.

    `doubtful` says what becomes of cases whose ratio is in doubt. Raises `ReportError` if a file is unusable, the two
    are of different kinds, or they have no case in common.
    """
    return _between(_loaded(base), _loaded(new), least, doubtful, several=False)


def compare_runs(
    base: Sequence[Path], new: Sequence[Path], least: float = LEAST_EFFECT, doubtful: Doubtful = "unclear"
) -> Changes:
    """Return what changed from several runs of one code to several of another, as `compare` does for one run a side.

    Raises `ReportError` also if a side has one run or none, or names a file twice.
    """
    for side in (base, new):
        if len(side) < 2:
            raise ReportError(
                f"{len(base)} and {len(new)} runs: give two or more a side, since a single one may be the odd one."
            )
        if len(read(side)) < len(side):
            raise ReportError(f"{units.listing(list(map(str, side)))} name one file twice: give each run once.")
    before, after = ([_loaded(path) for path in side] for side in (base, new))
    rows = [[_between(old, now, least, doubtful, several=True) for now in after] for old in before]
    return joined(rows, least, doubtful)


def _between(
    base: Results | PlainRun, new: Results | PlainRun, least: float, doubtful: Doubtful, *, several: bool
) -> Changes:
    if isinstance(base, Results) and isinstance(new, Results):
        return changes.between(base, new, least, doubtful, several=several)
    if isinstance(base, PlainRun) and isinstance(new, PlainRun):
        return plain.between(base, new, least, doubtful, several=several)
    ours, other = (base, new) if isinstance(base, Results) else (new, base)
    assert isinstance(ours, Results)
    assert isinstance(other, PlainRun)
    raise ReportError(
        f"{ours.sources[0]} holds records of moegap and {other.source} holds none: compare two files of one kind."
    )


def _loaded(path: Path) -> Results | PlainRun:
    """Return a run; it is one of moegap if the file holds any of its records, of measured cases or others."""
    content = read([path])[path]
    entries = content.get("benchmarks")
    ours = NOT_MEASURED_KEY in content or (are_objects(entries) and any(map(is_record, entries)))
    return load.gather({path: content}, summaries=True) if ours else plain.load(path, content)
