"""What a run says about each target of its device."""

from __future__ import annotations

from dataclasses import dataclass

from reports.numbers.stats import Estimate, ratio_of_medians
from reports.reading.load import MeasuredCase, record_of
from reports.records.record import Cache, CaseRecord
from reports.targets import cpu, gpu
from reports.targets.run import TargetRun
from reports.targets.target import LayerCases, Layers, Pair, Reach, Target


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


def evaluate(run: TargetRun) -> list[TargetResult]:
    """Return what `run` says of every target, for each dtype and state of the caches that the target is about."""
    graphs = any(record_of(entry).clock == "graph" for entry in run.entries)
    by_dtype: dict[str, list[LayerCases]] = {}
    for name, entries in run.groups.items():
        layer = LayerCases.of(name, entries, "graph" if graphs else "wall")
        by_dtype.setdefault(layer.record.dtype, []).append(layer)
    on_cpu = run.kind == "measured" and {record_of(entry).device for entry in run.entries} == {"cpu"}
    results: list[TargetResult] = []
    for target in cpu.TARGETS if on_cpu else gpu.TARGETS:
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
