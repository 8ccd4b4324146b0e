"""The break-even map of the suite `scale`: from how many rows on the best sparse form beats the best dense one.

A cell of the map is a sparse head at a number of rows. Its speed-up is that of the fastest form of the sparse head over
the fastest of the dense head with as many expert parameters, both measured in the same blocks. Rows between two
measured neighbours that clearly agree are inferred to agree with them, as the search that chose the rows assumes; they
are never shown as measured.

Letters: D input width, H hidden width of one expert, C output width, E experts, k experts per row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import ceil, floor, log2

from reports.numbers.groups import grouped
from reports.numbers.stats import Estimate, Verdict
from reports.reading.load import MeasuredCase
from reports.records.record import CaseRecord
from reports.speed.analysis import MAP_SUITE, USUAL_POLICY, Analysis, Setting, ratio


@dataclass(frozen=True, order=True)
class Facet:
    """The sizes that the heads of one chart share: D, H, C and k."""

    features: int
    hidden: int
    classes: int
    k: int


@dataclass(frozen=True)
class Point:
    """The fastest sparse `case` and the fastest dense `base` at a number of rows; the ratio is dense / sparse."""

    rows: int
    case: MeasuredCase
    base: MeasuredCase
    ratio: Estimate

    @property
    def verdict(self) -> Verdict:
        """FASTER or SLOWER if the ratio and its whole interval lie on one side of 1, else UNCLEAR."""
        if self.ratio.low is None or self.ratio.high is None:
            return Verdict.UNCLEAR
        if min(self.ratio.low, self.ratio.value) > 1:
            return Verdict.FASTER
        return Verdict.SLOWER if max(self.ratio.high, self.ratio.value) < 1 else Verdict.UNCLEAR


@dataclass(frozen=True)
class Crossing:
    """A change of sign: clear at `low` rows and clearly opposite at `high`, with an `estimate` of where it happens.

    The estimate is where the line through the points, on logarithmic axes, last passes 1 between the two.
    """

    low: int
    high: int
    estimate: float
    upward: bool  # from slower to faster


@dataclass(frozen=True)
class Line:
    """One sparse head: its measured `points`, fewest rows first, and the `reasons` why other rows have none."""

    facet: Facet
    experts: int
    points: tuple[Point, ...]
    reasons: Mapping[int, str]

    @cached_property
    def clear(self) -> tuple[Point, ...]:
        """The points on one side of 1."""
        return tuple(point for point in self.points if point.verdict is not Verdict.UNCLEAR)

    @cached_property
    def crossings(self) -> tuple[Crossing, ...]:
        """The changes of sign, fewest rows first; a single one is the frontier."""
        changes = [(low, high) for low, high in pairwise(self.clear) if low.verdict is not high.verdict]
        return tuple(_crossing([p for p in self.points if low.rows <= p.rows <= high.rows]) for low, high in changes)

    @cached_property
    def inferred(self) -> dict[int, Verdict]:
        """The verdicts of the powers of two between measured neighbours that clearly agree."""
        return {
            rows: low.verdict
            for low, high in pairwise(self.points)
            if low.verdict is high.verdict is not Verdict.UNCLEAR
            for rows in _between(low.rows, high.rows)
        }

    @cached_property
    def unknown(self) -> tuple[int, ...]:
        """The powers of two without a verdict: between neighbours that do not agree, or with a failed measurement."""
        gaps = {rows for low, high in pairwise(self.points) for rows in _between(low.rows, high.rows)}
        known = {point.rows for point in self.points} | self.inferred.keys()
        return tuple(sorted((gaps | self.reasons.keys()) - known))


@dataclass(frozen=True)
class Map:
    """The map of one setting: its lines, by facet and number of experts, and the records without a time."""

    setting: Setting
    lines: tuple[Line, ...]
    not_measured: tuple[CaseRecord, ...]

    @property
    def facets(self) -> dict[Facet, list[Line]]:
        """The lines of each facet, fewest experts first."""
        return grouped(self.lines, lambda line: line.facet)


_Key = tuple[Facet, int]  # of a line: its facet and its experts


def maps(analysis: Analysis) -> list[Map]:
    """Return the map of every setting in which sparse heads of the suite `scale` were measured."""
    settings = [setting for setting in analysis.settings if setting.suite == MAP_SUITE and setting.part == "head"]
    return [each for each in (_map(analysis, setting) for setting in settings) if each.lines]


def _map(analysis: Analysis, setting: Setting) -> Map:
    records = [record for record in analysis.results.not_measured if Setting.of(record) == setting and record.rows]
    missing = tuple(record for record in records if _is_drawn(record))
    points: dict[_Key, dict[int, Point]] = {}
    for key, point in _points(analysis, setting):
        line = points.setdefault(key, {})
        line[point.rows] = max(line.get(point.rows, point), point, key=lambda point: point.case.record.moment)
    reasons: dict[_Key, dict[int, str]] = {}
    for record in missing:
        if record.rows not in points.get(_key(record), {}):
            reasons.setdefault(_key(record), {})[record.rows] = record.reason
    lines = [
        Line(*key, tuple(point for _, point in sorted(points.get(key, {}).items())), reasons.get(key, {}))
        for key in sorted(points.keys() | reasons.keys())
    ]
    return Map(setting, tuple(lines), missing)


def _points(analysis: Analysis, setting: Setting) -> Iterator[tuple[_Key, Point]]:
    """Yield a point for each sparse head of a group that was measured beside its dense head."""
    for members in grouped(analysis.cases(setting), lambda case: (case.source, case.record.group_id)).values():
        drawn = [case for case in members if _is_drawn(case.record)]
        for (key, rows), cases in grouped(drawn, lambda case: (_key(case.record), case.record.rows)).items():
            rivals = [case for case in members if case.record.rows == rows and _is_rival(case.record, *key)]
            if rivals:
                case, base = analysis.fastest(cases), analysis.fastest(rivals)
                yield key, Point(rows, case, base, ratio(base, case))


def _is_drawn(record: CaseRecord) -> bool:
    return record.head == "sparse" and record.policy in ("", USUAL_POLICY)


def _is_rival(record: CaseRecord, facet: Facet, experts: int) -> bool:
    sizes = (facet.features, facet.classes, experts * facet.hidden)
    return record.head == "dense" and (record.features, record.classes, record.hidden) == sizes


def _key(record: CaseRecord) -> _Key:
    return Facet(record.features, record.hidden, record.classes, record.k), record.experts


def _crossing(points: Sequence[Point]) -> Crossing:
    """Return the change of sign between the first and the last of `points`, the only clear ones."""
    first, last = points[0], points[-1]
    upward = last.verdict is Verdict.FASTER
    ends = [
        (low, high)
        for low, high in pairwise(points)
        if (low.ratio.value < 1 <= high.ratio.value if upward else low.ratio.value >= 1 > high.ratio.value)
    ]
    low, high = ends[-1]
    start, end = log2(low.ratio.value), log2(high.ratio.value)
    share = start / (start - end)
    return Crossing(first.rows, last.rows, 2 ** (log2(low.rows) + share * log2(high.rows / low.rows)), upward)


def _between(low: int, high: int) -> Iterable[int]:
    """Return the powers of two strictly between two numbers of rows."""
    return (2**power for power in range(floor(log2(low)) + 1, ceil(log2(high))))
