"""The parts of a call by two methods: what its steps add, and the seconds that a profiler saw in its stages.

Both are compared as they were measured, floors and host work included. If steps cannot separate two stages, their sums
are compared. The methods agree if they differ by at most a tenth of the call, however much that is of a small stage. A
larger difference gets a reason only if something measured explains it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reports.account import traced
from reports.account.steps import Added
from reports.account.waterfall import Waterfall
from reports.numbers import units
from reports.records.record import CaseRecord

AGREE = 0.1
"""Two measurements of a part agree if they differ by at most this share of the call."""


@dataclass(frozen=True)
class Agreement:
    """One or more stages in seconds, by steps and by trace; `reason` says why they differ, "" if they agree.

    `share` is (trace - steps) / call, and `ratio` is trace / steps, None if the steps add nothing.
    """

    stages: tuple[str, ...]
    steps: float
    traced: float
    share: float
    ratio: float | None
    reason: str


def agreements(waterfall: Waterfall) -> list[Agreement]:
    """Return both measurements of each stage of a case; none unless it was measured in steps and traced."""
    record = waterfall.case.record
    if waterfall.basis != "steps" or not record.traced or record.traced.get("fused"):
        return []
    groups = _grouped(traced.works(record), waterfall.added)
    return [_agreement(record, waterfall.total * 1e-12, stages, group) for stages, group in groups]


def _grouped(held: Mapping[str, tuple[str, ...]], added: Iterable[Added]) -> list[tuple[tuple[str, ...], list[Added]]]:
    """Return what the steps added by the stages it lies in; steps that share a stage are grouped."""
    groups: list[tuple[set[str], list[Added]]] = []
    for one in added:
        stages = {stage for stage, works in held.items() if set(works) & set(one.works)}
        joined = [group for group in groups if group[0] & stages]
        members = [earlier for _, group in joined for earlier in group]
        groups = [group for group in groups if group not in joined]
        groups.append((stages.union(*(names for names, _ in joined)), [*members, one]))
    return [(tuple(stage for stage in held if stage in stages), group) for stages, group in groups]


def _agreement(record: CaseRecord, call: float, stages: tuple[str, ...], added: list[Added]) -> Agreement:
    steps = sum(one.seconds for one in added)
    seen = sum(record.traced.get(stage, 0.0) for stage in stages)
    share = (seen - steps) / call
    reason = "" if abs(share) <= AGREE else _reason(record, call, seen - steps, seen, added)
    return Agreement(stages, steps, seen, share, seen / steps if steps > 0 else None, reason)


def _reason(record: CaseRecord, call: float, excess: float, seen: float, added: Iterable[Added]) -> str:
    """Say why a stage takes `excess` seconds more in a profiled call, `seen` in all, than its steps add.

    On a CPU the whole profiled call is slower. That explains the stage if both agree once it is taken out, either as a
    fixed time for each operator or as one factor for all.
    """
    if record.device == "cuda" or excess < 0:
        return "Not explained."
    slower = sum(record.traced.values()) - call
    counts = [one.operators for one in added]
    operators = sum(count for count in counts if count is not None)
    each = slower / record.operators if record.operators and None not in counts else 0.0
    if abs(excess - each * operators) <= AGREE * call:
        return (
            f"The profiled call is slower by {units.seconds(each)} for each operator; without that for the stage's "
            f"{units.count(operators)} the two agree."
        )
    if abs(excess - seen * slower / (slower + call)) <= AGREE * call:
        times = units.factor(1 + slower / call)
        return f"The profiled call took {times} the timed one's time; without that factor the two agree."
    return "Not explained; other stages may evict from the caches what a step alone finds there."
