"""What a target is: a limit for ratios of cases of a run.

Every number is shift + scale x median(over) / median(under) of two cases measured in the same interleaved group, with
a bootstrap interval over their shared blocks. A target holds if all of its numbers do, by the worse end of each
interval, so its verdict is that of the worst one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

import numpy as np

from reports.reading.load import Entry, MeasuredCase, record_of
from reports.records.record import Cache, CaseRecord
from reports.targets.run import layer_of

HEAD = "paper"


Layers = Sequence["LayerCases"]
"""The cases of a run in one dtype, layer by layer."""
Pairs = Callable[[Layers, Cache], Iterator["Pair"]]


class Reach(StrEnum):
    """How far a run gets with a target."""

    BEYOND = "beyond"
    REACHED = "reached"
    MISSED = "missed"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Pair:
    """Two cases whose ratio is a number of a target; `label` names them, `missing` says why there is no number.

    The number is shift + scale x median(over) / median(under). `beyond`, if any, replaces that of the target.
    """

    label: str
    over: Entry | None
    under: Entry | None
    scale: float = 1.0
    shift: float = 0.0
    beyond: float | None = None
    missing: str = ""


@dataclass(frozen=True)
class Target:
    """A limit for numbers, `reach`, and a stricter one, `beyond`; `sense` says on which side of them to stay."""

    name: str
    sense: Literal["at most", "at least"]
    reach: float
    beyond: float
    pairs: Pairs
    percent: bool = False
    caches: tuple[Cache, ...] = ("warm", "cold")


@dataclass(frozen=True)
class LayerCases:
    """The cases of one layer, N and dtype by head, form, routing, clock and cache; `record` is the first one's."""

    name: str
    record: CaseRecord
    entries: Mapping[tuple[str, str, str, str, str], Entry]
    replay: str
    """The clock used for graphs: the wall clock in a rehearsal, which has no graphs."""

    @classmethod
    def of(cls, name: str, entries: Sequence[Entry], replay: str) -> LayerCases:
        """Return the layer of these `entries`, at least one."""
        cases: dict[tuple[str, str, str, str, str], Entry] = {}
        for entry in entries:
            record = record_of(entry)
            cases[record.head, record.form, record.routing, record.clock, record.cache] = entry
        return cls(name, record_of(entries[0]), cases, replay)

    def get(
        self, form: str, cache: Cache, clock: str = "graph", *, head: str = "sparse", routing: str = "balanced"
    ) -> Entry | None:
        """Return a case, or None if it was not planned."""
        return self.entries.get((head, form, routing, self.replay if clock == "graph" else clock, cache))

    def timed(self, form: str, cache: Cache, *, head: str = "sparse") -> MeasuredCase | None:
        """Return a case in a graph, or None if it has no time."""
        entry = self.get(form, cache, head=head)
        return entry if isinstance(entry, MeasuredCase) else None


def ratios(wanted: Callable[[CaseRecord], bool], over: str, under: str, clock: str = "graph") -> Pairs:
    """Return the pairs time of `over` / time of `under`, for every `wanted` layer that has both planned."""

    def pairs(layers: Layers, cache: Cache) -> Iterator[Pair]:
        for layer in layers:
            above, below = layer.get(over, cache, clock), layer.get(under, cache, clock)
            if wanted(layer.record) and above is not None and below is not None:
                yield Pair(layer.name, above, below)

    return pairs


def share(of: Literal["least_bytes", "flops"], anchor: str, form: str, wanted: Callable[[CaseRecord], bool]) -> Pairs:
    """Return the bytes or operations per second of `form` over those of an anchor, for large layers that are wanted."""
    measured = ratios(lambda record: is_large(record) and wanted(record), anchor, form)

    def pairs(layers: Layers, cache: Cache) -> Iterator[Pair]:
        for pair in measured(layers, cache):
            whole, done = (getattr(record_of(entry), of) for entry in (pair.over, pair.under) if entry is not None)
            if whole:
                yield replace(pair, scale=(done or 0) / whole)

    return pairs


def skewed(form: str, routings: Mapping[str, str]) -> Pairs:
    """Return the pairs time of `form` on each of `routings`, which have names to show, / its time on even rows."""

    def pairs(layers: Layers, cache: Cache) -> Iterator[Pair]:
        for layer in layers:
            for routing, name in routings.items():
                uneven = layer.get(form, cache, routing=routing)
                if uneven is not None:
                    yield Pair(f"{layer.name}: {name}", uneven, layer.get(form, cache))

    return pairs


def is_head(record: CaseRecord) -> bool:
    """Return whether a record is of the paper's head."""
    return layer_of(record) == HEAD


def is_large(record: CaseRecord) -> bool:
    """Return whether a record is of a large model's layer."""
    return not is_head(record)


def best(layer: LayerCases, forms: Sequence[str], cache: Cache, head: str) -> MeasuredCase | None:
    """Return the case of a head with the least median in a graph."""
    cases = (layer.timed(form, cache, head=head) for form in forms)
    timed = [case for case in cases if case is not None]
    return min(timed, key=lambda case: float(np.median(case.samples)), default=None)
