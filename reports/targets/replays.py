"""How graphs were timed: what a replay costs beside its calls, and cold caches by a flush beside copies in turn."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from statistics import median

import numpy as np

from reports.numbers import units
from reports.numbers.stats import ratio_of_medians
from reports.output.blocks import Block, Table, Text, numeric, worded
from reports.reading.load import MeasuredCase
from reports.targets.run import TargetRun

_FIELDS = (*worded("group", "head", "form"), *numeric("flush", "copies in turn", "copies / flush", "interval"))
_CAPTION = "Cold caches in two ways: a flush, whose lines the timed call writes back, and copies in turn"


def replays(run: TargetRun) -> list[Block]:
    """Return what a run says of its graphs: nothing without longer graphs, and no table without copies in turn."""
    cases = [entry for entry in run.entries if isinstance(entry, MeasuredCase)]
    offsets = [median(case.record.replay_offsets) for case in cases if case.record.replay_offsets]
    rows = tuple(_row(*pair) for pair in _pairs(run))
    blocks: list[Block] = [Text(_sentence(offsets), "note")] if offsets else []
    return [*blocks, Table(_CAPTION, _FIELDS, rows)] if rows else blocks


def _sentence(offsets: list[float]) -> str:
    ends = f"{units.seconds(min(offsets))} to {units.seconds(max(offsets))}"
    return (
        "In a graph, a time is what one more call adds to a replay. Beside its calls a replay costs "
        f"{units.seconds(median(offsets))}, the median of {units.plural(len(offsets), 'case')} ({ends}); times after a "
        "flush include it."
    )


def _pairs(run: TargetRun) -> Iterator[tuple[str, MeasuredCase, MeasuredCase]]:
    """Yield a group's name and two times of one case, after a flush and on copies in turn."""
    for name, entries in run.groups.items():
        cases = [entry for entry in entries if isinstance(entry, MeasuredCase)]
        flushed = {_key(case): case for case in cases if case.record.cache == "cold"}
        for case in cases:
            if case.record.cache == "rotated" and _key(case) in flushed:
                yield name, flushed[_key(case)], case


def _key(case: MeasuredCase) -> Hashable:
    record = case.record
    return record.head, record.form, record.routing, record.clock


def _row(name: str, flushed: MeasuredCase, rotated: MeasuredCase) -> tuple[str, ...]:
    ratio = ratio_of_medians(
        rotated.samples, rotated.blocks, flushed.samples, flushed.blocks, rotated.interleaved_with(flushed)
    )
    times = (units.seconds(float(np.median(case.samples))) for case in (flushed, rotated))
    record = rotated.record
    return (name, record.head, record.form, *times, units.factor(ratio.value), units.factor_interval(ratio))
