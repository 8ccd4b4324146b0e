"""Parts from a trace: the seconds of stages that a profiler, or the profile of an engine, saw in a separate pass.

They are shown as seen, neither scaled to the timed call nor cut. A profiled call is slower, so what is left over may be
below zero. A pass much slower than the call shows another state of the machine and tells nothing. On a GPU, stages are
times of kernels, which a profiler does not lengthen; "other" is mostly the host, which it does, so that is in no part.
Forms compiled as one whole have no stages: there the names of operators stand in for them, and the gate's product
counts among the experts'.
"""

from __future__ import annotations

from reports.account import parts
from reports.account.parts import CHOICE, COMBINE, DISPATCH, FUSED, GATE, GEMM, IMBALANCE, OUTSIDE, WORK, Part
from reports.records.record import CaseRecord
from reports.speed.floors import Floor

STAGES = {"experts": (IMBALANCE, GEMM), "route": (GATE, CHOICE), "dispatch": (DISPATCH,), "combine": (COMBINE,)}
ANOTHER_STATE = 1.5
"""A profiled call that takes this many times the timed one, or more, tells nothing about it."""
_BY_NAME = {**STAGES, "experts": (IMBALANCE, GEMM, GATE), "route": (CHOICE,)}


def tells(record: CaseRecord, call: float) -> bool:
    """Return whether a case's trace saw the experts' products, in about the seconds of the timed `call`."""
    seen = stages(record)
    return bool(seen.keys() & {"experts", "fused"}) and sum(seen.values()) < ANOTHER_STATE * call


def stages(record: CaseRecord) -> dict[str, float]:
    """Return the seconds that a trace saw, by stage, without the host's on a GPU."""
    host = {"other"} if record.device == "cuda" else set()
    return {stage: seconds for stage, seconds in record.traced.items() if seconds > 0 and stage not in host}


def works(record: CaseRecord) -> dict[str, tuple[str, ...]]:
    """Return the works that each stage of a case's trace holds."""
    return _BY_NAME if record.traced_by == "names" else STAGES


def by_trace(record: CaseRecord, floor: Floor | None, launch: float) -> list[Part]:
    """Return the parts of a case from its trace; its products include the floors' `launch` seconds."""
    seen = stages(record)
    split, outside = [], seen.get("other", 0.0)
    for stage, held in works(record).items():
        done = parts.done_by(record, held)
        if stage in seen and done:
            within = parts.floor_within(done, record, floor) + (launch if stage == "experts" else 0.0)
            split.append(Part.of(parts.name(done, floor), seen[stage] - within, works=done))
        else:
            outside += seen.get(stage, 0.0)
    if "fused" in seen:
        within = 0.0 if "experts" in seen else parts.floor_within(WORK, record, floor) + launch
        split.append(Part.of(FUSED, seen["fused"] - within))
    return [*split, Part.of(OUTSIDE, outside)] if outside else split
