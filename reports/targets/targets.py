"""The targets of the kernels, as data, and what a timing run says about each: pure functions of its cases.

Every number is shift + scale x median(over) / median(under) of two cases measured in the same interleaved group, with
a bootstrap interval over their shared blocks. A target holds where all of its numbers do, by the worse end of each
interval; so its verdict is that of the worst one.

Letters: N rows, E experts, k experts per row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

import numpy as np

from reports.numbers.stats import Estimate, ratio_of_medians
from reports.records.timing import Cache, Clock, Timing, TimingRun

HEAD = "paper"
SPARSE = ("ours", "ours_fused", "ours_grouped", "grouped_mm", "masked", "compile_grouped_mm", "compile_masked")
DENSE = ("dense", "compile_dense")
ATTAINED = 0.9
"""Share of the attainable speed-up that goes beyond what was asked."""


class Verdict(StrEnum):
    """What a run says of a target."""

    BEYOND = "beyond"
    REACHED = "reached"
    MISSED = "missed"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Pair:
    """Two cases whose ratio is a number of a target; `label` says which cases, `missing` why there is no number.

    The number is shift + scale x median(over) / median(under). `beyond` replaces the target's own.
    """

    label: str
    over: Timing | None
    under: Timing | None
    scale: float = 1.0
    shift: float = 0.0
    beyond: float | None = None
    missing: str = ""


@dataclass(frozen=True)
class Target:
    """A number to stay below ("at most") or above ("at least"), with what asks for more."""

    name: str
    sense: Literal["at most", "at least"]
    reach: float
    beyond: float
    pairs: Callable[[Groups, Cache], Iterator[Pair]]
    percent: bool = False
    caches: tuple[Cache, ...] = ("warm", "cold")


@dataclass(frozen=True)
class Number:
    """One number of a target, with its verdict."""

    label: str
    value: Estimate | None
    verdict: Verdict
    beyond: float
    missing: str = ""


@dataclass(frozen=True)
class Finding:
    """A target in one dtype with warm or cold caches: its numbers, the worst first, those without a value last."""

    target: Target
    cache: Cache
    dtype: str
    numbers: tuple[Number, ...]

    @property
    def worst(self) -> Number | None:
        """The number that decides, or None without any."""
        return next((number for number in self.numbers if number.value is not None), None)

    @property
    def verdict(self) -> Verdict:
        """The verdict of the worst number."""
        return self.worst.verdict if self.worst else Verdict.NOT_MEASURED

    @property
    def measured(self) -> int:
        """How many numbers have a value."""
        return sum(number.value is not None for number in self.numbers)


Group = dict[tuple[str, str, Clock, Cache], Timing]
"""The cases of one group by routing, peer, clock and cache."""


@dataclass(frozen=True)
class Groups:
    """The cases of a run in one dtype, by group, and what it measured of the machine."""

    groups: dict[str, Group]
    copies: dict[Cache, Timing] = field(default_factory=dict)
    peaks: dict[Cache, Timing] = field(default_factory=dict)

    @classmethod
    def of(cls, timings: Sequence[Timing]) -> Groups:
        """Return `timings` by group; of several copies and peaks the first counts."""
        groups = cls({})
        for case in timings:
            groups.groups.setdefault(case.group, {})[(case.routing, case.peer, case.clock, case.cache)] = case
            ceilings = {"copy": groups.copies, "peak": groups.peaks}.get(case.peer)
            if ceilings is not None and case.timed and case.clock == "graph":
                ceilings.setdefault(case.cache, case)
        return groups

    def where(self, wanted: Callable[[Timing], bool]) -> Iterator[tuple[str, Group]]:
        """Yield the groups whose cases are `wanted`, by name."""
        for name, group in self.groups.items():
            if wanted(next(iter(group.values()))):
                yield name, group


def _ratio(
    wanted: Callable[[Timing], bool], over: str, under: str, clock: Clock = "graph"
) -> Callable[[Groups, Cache], Iterator[Pair]]:
    """Return the pairs time of `over` / time of `under` in every group that has both planned."""

    def pairs(groups: Groups, cache: Cache) -> Iterator[Pair]:
        for name, group in groups.where(wanted):
            found = [group.get(("balanced", peer, clock, cache)) for peer in (over, under)]
            if None not in found:
                yield Pair(name, found[0], found[1])

    return pairs


def _head(case: Timing) -> bool:
    return case.layer == HEAD


def _few_rows_of_head(case: Timing) -> bool:
    return case.layer == HEAD and case.rows <= 1024


def _large(case: Timing) -> bool:
    return case.layer != HEAD


def _many_rows_per_expert(case: Timing) -> bool:
    return _large(case) and case.rows_per_expert >= 512


def _many_rows(case: Timing) -> bool:
    return _large(case) and case.rows >= 8192


def _eight_thousand_rows(case: Timing) -> bool:
    return _large(case) and case.rows == 8192


def _e128(case: Timing) -> bool:
    return case.layer == "e128"


def _best(group: Group, peers: Sequence[str], cache: Cache) -> Timing | None:
    """Return the peer's case with the least median in a graph."""
    cases = (group.get(("balanced", peer, "graph", cache)) for peer in peers)
    timed = [case for case in cases if case is not None and case.timed]
    return min(timed, key=lambda case: float(np.median(case.samples)), default=None)


def _best_sparse_to_dense(groups: Groups, cache: Cache) -> Iterator[Pair]:
    for name, group in groups.where(_head):
        if ("balanced", "dense", "graph", cache) not in group:
            continue
        sparse, dense = _best(group, SPARSE, cache), _best(group, DENSE, cache)
        if sparse is None or dense is None:
            yield Pair(name, None, None, missing="no time of a sparse or of a dense form")
            continue
        attainable = _attainable(groups, group, group.get(("balanced", "ours", "graph", cache)), dense, cache)
        beyond = None if attainable is None else min(1.0, 1 / (ATTAINED * attainable))
        yield Pair(f"{name}: {sparse.peer} / {dense.peer}", sparse, dense, beyond=beyond)


def _attainable(groups: Groups, group: Group, sparse: Timing | None, dense: Timing, cache: Cache) -> float | None:
    """Return floor(dense) / floor(sparse) on the ceilings of the run, or None where one was not measured."""
    empty = group.get(("balanced", "empty", "graph", cache))
    copy, peak = groups.copies.get(cache), groups.peaks.get(cache)
    if sparse is None or empty is None or not empty.timed or copy is None or peak is None:
        return None
    if not (copy.least_bytes and peak.flops):
        return None
    launch = float(np.median(empty.samples))
    bandwidth = copy.least_bytes / float(np.median(copy.samples))
    rate = peak.flops / float(np.median(peak.samples))
    floors = [max(case.flops / rate, case.least_bytes / bandwidth) + launch for case in (dense, sparse)]
    return floors[0] / floors[1]


def _bandwidth(groups: Groups, cache: Cache) -> Iterator[Pair]:
    for name, group in groups.where(lambda case: _large(case) and case.rows <= 256):
        copy, ours = (group.get(("balanced", peer, "graph", cache)) for peer in ("copy", "ours"))
        if copy is not None and ours is not None and copy.least_bytes:
            yield Pair(name, copy, ours, scale=ours.least_bytes / copy.least_bytes)


def _skew(groups: Groups, cache: Cache) -> Iterator[Pair]:
    for name, group in groups.where(lambda case: True):
        for routing in ("zipf", "hot"):
            skewed = group.get((routing, "ours", "graph", cache))
            if skewed is not None:
                yield Pair(f"{name}: {routing}", skewed, group.get(("balanced", "ours", "graph", cache)))


def _besides_products(groups: Groups, cache: Cache) -> Iterator[Pair]:
    for name, group in groups.where(_eight_thousand_rows):
        products, ours = (group.get(("balanced", peer, "graph", cache)) for peer in ("ours_products", "ours"))
        if products is not None and ours is not None:
            yield Pair(name, products, ours, scale=-1.0, shift=1.0)


TARGETS = (
    Target(
        "paper's head, N <= 1024, graph: fused / empty launch", "at most", 3.0, 2.0,
        _ratio(_few_rows_of_head, "ours_fused", "empty"),
    ),
    Target("paper's head, N 1 to 65,536, graph: best sparse / best dense", "at most", 1.0, 1.0, _best_sparse_to_dense),
    Target(
        "paper's head, call: per-expert loop / ours", "at least", 10.0, 25.0,
        _ratio(_head, "loop", "ours", "call"), caches=("warm",),
    ),
    Target(
        "paper's head, graph: grouped_mm pipeline / ours", "at least", 3.0, 6.0, _ratio(_head, "grouped_mm", "ours")
    ),
    Target(
        "large layers, 512 rows per expert or more, graph: cuBLAS at equal operations / grouped products",
        "at least", 0.80, 0.92, _ratio(_many_rows_per_expert, "cublas", "ours_products"),
    ),
    Target(
        "large layers, N >= 8192, graph: cuBLAS at equal operations / whole layer", "at least", 0.70, 0.88,
        _ratio(_many_rows, "cublas", "ours"),
    ),
    Target(
        "E 128, D 2048, H 768, k 8, swiglu, call: Liger / ours, routing given", "at least", 1.2, 1.6,
        _ratio(_e128, "liger", "ours_given", "call"), caches=("warm",),
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
"""In the order of the issue that set them."""


def evaluate(run: TimingRun) -> list[Finding]:
    """Return what `run` says of every target, for each dtype and state of the caches that it was asked in."""
    dtypes = dict.fromkeys(case.dtype for case in run.timings)
    groups = {dtype: Groups.of([case for case in run.timings if case.dtype == dtype]) for dtype in dtypes}
    findings: list[Finding] = []
    for target in TARGETS:
        for cache in target.caches:
            found = [_finding(target, cache, dtype, groups[dtype]) for dtype in dtypes]
            findings += [finding for finding in found if finding.numbers] or [Finding(target, cache, "", ())]
    return findings


def _finding(target: Target, cache: Cache, dtype: str, groups: Groups) -> Finding:
    numbers = [_number(target, pair) for pair in target.pairs(groups, cache)]
    return Finding(target, cache, dtype, tuple(sorted(numbers, key=lambda number: _rank(target, number))))


def _rank(target: Target, number: Number) -> tuple[int, float]:
    """Return a key that puts the worst number first and those without a value last."""
    if number.value is None:
        return (len(Verdict), 0.0)
    order = [Verdict.MISSED, Verdict.REACHED, Verdict.BEYOND].index(number.verdict)
    return (order, number.value.value if target.sense == "at least" else -number.value.value)


def _number(target: Target, pair: Pair) -> Number:
    beyond = target.beyond if pair.beyond is None else pair.beyond
    over, under = pair.over, pair.under
    lacking = [case for case in (over, under) if case is None or not case.timed]
    if over is None or under is None or lacking:
        missing = pair.missing or "; ".join(f"{case.peer}: {case.reason}" for case in lacking if case is not None)
        return Number(pair.label, None, Verdict.NOT_MEASURED, beyond, missing or "not planned")
    value = _shifted(_estimate(over, under), pair.scale, pair.shift)
    return Number(pair.label, value, _verdict(target, value, beyond), beyond)


def _estimate(over: Timing, under: Timing) -> Estimate:
    """Return median(over) / median(under) with its interval."""
    numerator, denominator = (np.array(case.samples) for case in (over, under))
    blocks = [np.array(case.blocks, dtype=np.int64) for case in (over, under)]
    interleaved = over.group_id == under.group_id
    return ratio_of_medians(numerator, blocks[0], denominator, blocks[1], interleaved)


def _shifted(ratio: Estimate, scale: float, shift: float) -> Estimate:
    """Return shift + scale x ratio, interval included."""
    ends = [None if end is None else shift + scale * end for end in (ratio.low, ratio.high)]
    if scale < 0:
        ends.reverse()
    return Estimate(shift + scale * ratio.value, ends[0], ends[1], ratio.samples, ratio.blocks, ratio.paired)


def _verdict(target: Target, value: Estimate, beyond: float) -> Verdict:
    """Return how far `value` gets by the worse end of its interval, or by itself where it has none."""
    if target.sense == "at most":
        worse = value.value if value.high is None else value.high
        holds = [worse <= limit for limit in (beyond, target.reach)]
    else:
        worse = value.value if value.low is None else value.low
        holds = [worse >= limit for limit in (beyond, target.reach)]
    if holds[1]:
        return Verdict.BEYOND if holds[0] else Verdict.REACHED
    return Verdict.MISSED
