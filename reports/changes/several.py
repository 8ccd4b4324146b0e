"""Several runs a side: what changed between two commits beyond what runs of one commit differ by."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace
from itertools import chain
from math import exp, log
from statistics import fmean
from typing import NamedTuple, TypeVar

from reports.changes import conditions
from reports.changes.change import Change, Doubtful
from reports.changes.changes import Changes, worst_first
from reports.numbers import stats
from reports.numbers.groups import grouped

_Item = TypeVar("_Item", bound=Hashable)


class _Cell(NamedTuple):
    """What became of a case from one run of BASE to one of NEW."""

    before: int
    after: int
    change: Change


def joined(rows: Sequence[Sequence[Changes]], least: float, doubtful: Doubtful) -> Changes:
    """Return the changes from all runs of BASE to all of NEW; `rows[i][j]` has those from run i of BASE to j of NEW.

    A case counts in the runs that have it. It is lost if it lost its time in any run of NEW.
    """
    every = list(chain.from_iterable(rows))
    cells = [
        _Cell(before, after, change)
        for before, row in enumerate(rows)
        for after, changes in enumerate(row)
        for change in changes.changes
    ]
    cases = grouped(cells, lambda cell: cell.change.case)
    return replace(
        every[0],
        runs=(*(row[0].runs[0] for row in rows), *(changes.runs[1] for changes in rows[0])),
        changes=worst_first(_change(of_case, least, doubtful) for of_case in cases.values()),
        untimed=_each_once(changes.untimed for changes in every),
        lost=_each_once(changes.lost for changes in every),
        gained=_each_once(changes.gained for changes in every),
        only_base=tuple(name for name in _each_once(changes.only_base for changes in every) if name not in cases),
        only_new=tuple(name for name in _each_once(changes.only_new for changes in every) if name not in cases),
        warnings=_each_once(changes.warnings for changes in every),
    )


def _change(cells: Sequence[_Cell], least: float, doubtful: Doubtful) -> Change:
    """Return what became of one case by the readings of all its runs."""
    known = [(cell, cell.change.readings) for cell in cells if cell.change.readings]
    base = {cell.before: readings[0] for cell, readings in known}
    new = {cell.after: readings[1] for cell, readings in known}
    anchors = [log(cell.change.anchor) for cell in cells if cell.change.anchor is not None]
    anchor = exp(fmean(anchors)) if anchors else None
    odd = [doubt for cell in cells if (doubt := cell.change.doubt) not in ("", conditions.MOVED)]
    change = replace(
        cells[0].change,
        together="",  # what makes one run slow makes all of its cases slow
        base=exp(fmean(log(reading.median) for reading in base.values())),
        new=exp(fmean(log(reading.median) for reading in new.values())),
        ratio=stats.ratio_of_runs(list(base.values()), list(new.values())),
        by_quartiles=any(cell.change.by_quartiles for cell in cells),
        anchor=anchor,
        doubt=odd[0] if odd else conditions.doubt(anchor, "", least),
    )
    return change.judged(least, doubtful)


def _each_once(parts: Iterable[Iterable[_Item]]) -> tuple[_Item, ...]:
    return tuple(dict.fromkeys(chain.from_iterable(parts)))
