"""The targets of the kernels, as data, and what a run says about each.

Every number is shift + scale x median(over) / median(under) of two cases measured in the same interleaved group, with
a bootstrap interval over their shared blocks. A target holds if all of its numbers do, by the worse end of each
interval, so its verdict is that of the worst one.

Letters: N rows, E experts, k experts per row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

import numpy as np

from reports.numbers.stats import Estimate, ratio_of_medians
from reports.reading.load import Entry, MeasuredCase, record_of
from reports.records.record import Cache, CaseRecord
from reports.targets.run import TargetRun, layer_of

HEAD = "paper"
SPARSE = (
    "triton", "triton_fused", "triton_grouped", "grouped_mm", "eager", "masked", "compile_grouped_mm", "compile_max",
)  # fmt: skip
DENSE = ("eager", "compile_max")
ATTAINED = 0.9
"""Reaching this share of the attainable speed-up is beyond what was asked."""


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
class Ratio:
    """One number of a target, with its verdict."""

    label: str
    value: Estimate | None
    verdict: Reach
    beyond: float
    missing: str = ""


@dataclass(frozen=True)
class TargetResult:
    """A target in one dtype with warm or cold caches: its numbers, the worst first, those without a value last."""

    target: Target
    cache: Cache
    dtype: str
    numbers: tuple[Ratio, ...]

    @property
    def worst(self) -> Ratio | None:
        """The number that decides, or None without any."""
        return next((number for number in self.numbers if number.value is not None), None)

    @property
    def verdict(self) -> Reach:
        """The verdict of the worst number."""
        return self.worst.verdict if self.worst else Reach.NOT_MEASURED

    @property
    def measured(self) -> int:
        """How many numbers have a value."""
        return sum(number.value is not None for number in self.numbers)


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


def _ratio(wanted: Callable[[CaseRecord], bool], over: str, under: str, clock: str = "graph") -> Pairs:
    """Return the pairs time of `over` / time of `under`, for every `wanted` layer that has both planned."""

    def pairs(layers: Layers, cache: Cache) -> Iterator[Pair]:
        for layer in layers:
            above, below = layer.get(over, cache, clock), layer.get(under, cache, clock)
            if wanted(layer.record) and above is not None and below is not None:
                yield Pair(layer.name, above, below)

    return pairs


def _head(record: CaseRecord) -> bool:
    return layer_of(record) == HEAD


def _large(record: CaseRecord) -> bool:
    return not _head(record)


def _best(layer: LayerCases, forms: Sequence[str], cache: Cache, head: str) -> MeasuredCase | None:
    """Return the case of a head with the least median in a graph."""
    cases = (layer.timed(form, cache, head=head) for form in forms)
    timed = [case for case in cases if case is not None]
    return min(timed, key=lambda case: float(np.median(case.samples)), default=None)


def _best_sparse_to_dense(layers: Layers, cache: Cache) -> Iterator[Pair]:
    for layer in layers:
        if not _head(layer.record) or layer.get("eager", cache, head="dense") is None:
            continue
        sparse, dense = _best(layer, SPARSE, cache, "sparse"), _best(layer, DENSE, cache, "dense")
        if sparse is None or dense is None:
            yield Pair(layer.name, None, None, missing="no time of a sparse or of a dense form")
            continue
        attainable = _attainable(layers, layer, dense, cache)
        beyond = None if attainable is None else min(1.0, 1 / (ATTAINED * attainable))
        label = f"{layer.name}: {sparse.record.form} / dense {dense.record.form}"
        yield Pair(label, sparse, dense, beyond=beyond)


def _attainable(layers: Layers, layer: LayerCases, dense: MeasuredCase, cache: Cache) -> float | None:
    """Return floor(dense) / floor(sparse) by the anchors of the run, or None if one was not measured."""
    sparse = layer.get("triton", cache)
    empty, copy, peak = layer.timed("empty", cache), _first(layers, "copy", cache), _first(layers, "peak", cache)
    if sparse is None or empty is None or copy is None or peak is None:
        return None
    if not (copy.record.least_bytes and peak.record.flops):
        return None
    launch = float(np.median(empty.samples))
    bandwidth = copy.record.least_bytes / float(np.median(copy.samples))
    rate = peak.record.flops / float(np.median(peak.samples))
    floors = [
        max(record.flops / rate, (record.least_bytes or 0) / bandwidth) + launch
        for record in (dense.record, record_of(sparse))
    ]
    return floors[0] / floors[1]


def _first(layers: Layers, form: str, cache: Cache) -> MeasuredCase | None:
    """Return the first case of an anchor, which a run has once for all layers."""
    cases = (layer.timed(form, cache) for layer in layers)
    return next((case for case in cases if case is not None), None)


def _bandwidth(layers: Layers, cache: Cache) -> Iterator[Pair]:
    few = _ratio(lambda record: _large(record) and record.rows <= 256, "copy", "triton")
    for pair in few(layers, cache):
        copied, moved = (record_of(entry).least_bytes for entry in (pair.over, pair.under) if entry is not None)
        if copied:
            yield replace(pair, scale=(moved or 0) / copied)


def _skew(layers: Layers, cache: Cache) -> Iterator[Pair]:
    for layer in layers:
        for routing, name in (("zipf1", "zipf"), ("hot", "hot")):
            skewed = layer.get("triton", cache, routing=routing)
            if skewed is not None:
                yield Pair(f"{layer.name}: {name}", skewed, layer.get("triton", cache))


def _besides_products(layers: Layers, cache: Cache) -> Iterator[Pair]:
    many = _ratio(lambda record: _large(record) and record.rows == 8192, "triton_products", "triton")
    for pair in many(layers, cache):
        yield replace(pair, scale=-1.0, shift=1.0)


TARGETS = (
    Target(
        "paper's head, N <= 1024, graph: fused / empty launch", "at most", 3.0, 2.0,
        _ratio(lambda record: _head(record) and record.rows <= 1024, "triton_fused", "empty"),
    ),
    Target("paper's head, N 1 to 65,536, graph: best sparse / best dense", "at most", 1.0, 1.0, _best_sparse_to_dense),
    Target(
        "paper's head, call: per-expert loop / ours", "at least", 10.0, 25.0,
        _ratio(_head, "loop", "triton", "wall"), caches=("warm",),
    ),
    Target(
        "paper's head, graph: grouped_mm pipeline / ours", "at least", 3.0, 6.0, _ratio(_head, "grouped_mm", "triton")
    ),
    Target(
        "large layers, 512 rows per expert or more, graph: cuBLAS at equal operations / grouped products",
        "at least", 0.80, 0.92, _ratio(
            lambda record: _large(record) and record.rows * record.k >= 512 * record.experts,
            "cublas", "triton_products",
        ),
    ),
    Target(
        "large layers, N >= 8192, graph: cuBLAS at equal operations / whole layer", "at least", 0.70, 0.88,
        _ratio(lambda record: _large(record) and record.rows >= 8192, "cublas", "triton"),
    ),
    Target(
        "E 128, D 2048, H 768, k 8, swiglu, call: Liger / ours, routing given", "at least", 1.2, 1.6, _ratio(
            lambda record: (record.features, record.hidden, record.experts, record.k) == (2048, 768, 128, 8),
            "liger", "triton_given", "wall",
        ), caches=("warm",),
    ),
    Target(
        "large layers, N <= 256, graph: share of the copy's bandwidth", "at least", 0.65, 0.85, _bandwidth, percent=True
    ),
    Target("large layers, graph: Zipf or one hot expert / balanced", "at most", 1.25, 1.08, _skew),
    Target(
        "large layers, N = 8192, graph: share outside the two products", "at most", 0.15, 0.07, _besides_products,
        percent=True,
    ),
)  # fmt: skip


def evaluate(run: TargetRun) -> list[TargetResult]:
    """Return what `run` says of every target, for each dtype and state of the caches that the target is about."""
    graphs = any(record_of(entry).clock == "graph" for entry in run.entries)
    by_dtype: dict[str, list[LayerCases]] = {}
    for name, entries in run.groups.items():
        layer = LayerCases.of(name, entries, "graph" if graphs else "wall")
        by_dtype.setdefault(layer.record.dtype, []).append(layer)
    results: list[TargetResult] = []
    for target in TARGETS:
        for cache in target.caches:
            every = [_result(target, cache, dtype, layers) for dtype, layers in by_dtype.items()]
            results += [result for result in every if result.numbers] or [TargetResult(target, cache, "", ())]
    return results


def _result(target: Target, cache: Cache, dtype: str, layers: Layers) -> TargetResult:
    numbers = [_number(target, pair) for pair in target.pairs(layers, cache)]
    return TargetResult(target, cache, dtype, tuple(sorted(numbers, key=lambda number: _rank(target, number))))


def _rank(target: Target, number: Ratio) -> tuple[int, float]:
    """Return a key that puts the worst number first and those without a value last."""
    if number.value is None:
        return (len(Reach), 0.0)
    order = [Reach.MISSED, Reach.REACHED, Reach.BEYOND].index(number.verdict)
    return (order, number.value.value if target.sense == "at least" else -number.value.value)


def _number(target: Target, pair: Pair) -> Ratio:
    beyond = target.beyond if pair.beyond is None else pair.beyond
    over, under = pair.over, pair.under
    if not (isinstance(over, MeasuredCase) and isinstance(under, MeasuredCase)):
        lacking = [entry for entry in (over, under) if isinstance(entry, CaseRecord)]
        missing = pair.missing or "; ".join(f"{record.form}: {record.reason}" for record in lacking)
        return Ratio(pair.label, None, Reach.NOT_MEASURED, beyond, missing or "not planned")
    ratio = ratio_of_medians(over.samples, over.blocks, under.samples, under.blocks, over.interleaved_with(under))
    value = _shifted(ratio, pair.scale, pair.shift)
    return Ratio(pair.label, value, _verdict(target, value, beyond), beyond)


def _shifted(ratio: Estimate, scale: float, shift: float) -> Estimate:
    """Return shift + scale x ratio, interval included."""
    ends = [None if end is None else shift + scale * end for end in (ratio.low, ratio.high)]
    if scale < 0:
        ends.reverse()
    return Estimate(shift + scale * ratio.value, ends[0], ends[1], ratio.samples, ratio.blocks, ratio.paired)


def _verdict(target: Target, value: Estimate, beyond: float) -> Reach:
    """Return how far `value` gets by the worse end of its interval, or by itself if it has none."""
    end, sign = (value.high, 1) if target.sense == "at most" else (value.low, -1)
    worse = sign * (value.value if end is None else end)
    if worse > sign * target.reach:
        return Reach.MISSED
    return Reach.BEYOND if worse <= sign * beyond else Reach.REACHED
