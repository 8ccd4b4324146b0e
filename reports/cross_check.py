"""The parts of a call by two methods: what its steps add, beside the seconds that a profiler saw in its stages.

Stages of both are compared as they were measured, floors and host work included, and where steps cannot tell two stages
apart their sums are. They agree where they differ by less than a tenth of the call.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from reports import units
from reports.record import CaseRecord
from reports.steps import Added
from reports.traced import STAGES, slowed
from reports.waterfall import Waterfall

AGREE = 0.1
"""Share of the call up to which two measurements of a part agree."""
PROFILED = 1e-6
"""Seconds that the profiler adds to an operator, about."""


@dataclass(frozen=True)
class Agreement:
    """A stage, or several, in seconds: by steps and by trace; `reason` says why they differ, "" where they agree."""

    stages: tuple[str, ...]
    steps: float
    traced: float
    share: float  # of the call, by which the trace exceeds the steps
    reason: str


def agreements(waterfall: Waterfall) -> list[Agreement]:
    """Return both measurements of each stage of a case that was measured in steps and traced, none of others."""
    record = waterfall.case.record
    if waterfall.basis != "steps" or not record.traced or record.traced.get("fused"):
        return []
    return [_agreement(record, waterfall.total * 1e-12, stages, group) for stages, group in _grouped(waterfall.added)]


def _grouped(added: Iterable[Added]) -> list[tuple[tuple[str, ...], list[Added]]]:
    """Return what was added with the stages it lies in, those together that share a stage."""
    groups: list[tuple[set[str], list[Added]]] = []
    for one in added:
        stages = {stage for stage, works in STAGES.items() if set(works) & set(one.works)}
        joined = [group for group in groups if group[0] & stages]
        members = [earlier for _, group in joined for earlier in group]
        groups = [group for group in groups if group not in joined]
        groups.append((stages.union(*(names for names, _ in joined)), [*members, one]))
    return [(tuple(stage for stage in STAGES if stage in stages), group) for stages, group in groups]


def _agreement(record: CaseRecord, call: float, stages: tuple[str, ...], added: list[Added]) -> Agreement:
    steps = sum(one.seconds for one in added)
    traced = sum(record.traced.get(stage, 0.0) for stage in stages)
    share = (traced - steps) / call
    reason = "" if abs(share) <= AGREE else _reason(record, call, steps, traced)
    return Agreement(stages, steps, traced, share, reason)


def _reason(record: CaseRecord, call: float, steps: float, traced: float) -> str:
    """Say why a stage takes another time in a profiled call: the profiler's own work, a slower pass, or caches."""
    profiled = (record.operators or 0) * PROFILED / call
    if record.operators and 0 < (traced - steps) / call <= profiled + AGREE:
        return (
            f"The profiler adds about a microsecond to each of {units.plural(record.operators, 'operator')}, "
            f"{units.percent(profiled)} of this call."
        )
    if traced > steps:
        return (
            f"The profiled call took {units.factor(slowed(record, call))} the timed one's time; the stage has "
            f"{units.percent(traced / sum(record.traced.values()))} of it, by steps {units.percent(steps / call)}."
        )
    return "The steps add more than the stage takes in a whole call, where the stages before it have filled the caches."
