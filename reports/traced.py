"""Parts from a trace: the seconds of stages that a profiler, or an engine's own profile, saw in a pass of its own.

They stand as they were seen, neither scaled to the timed call nor cut: a profiled call is slower, so what is left over
may be below zero. A pass so much slower that its stages are those of another state of the machine tells nothing. Forms
of one compiled whole have no stages, and the names of their operators stand for these; there the gate's product counts
among the experts'.
"""

from __future__ import annotations

from reports import parts
from reports.floors import Floor
from reports.parts import CHOICE, COMBINE, DISPATCH, FUSED, GATE, GEMM, IMBALANCE, OUTSIDE, WORK, Draft
from reports.record import CaseRecord

STAGES = {"experts": (IMBALANCE, GEMM), "route": (GATE, CHOICE), "dispatch": (DISPATCH,), "combine": (COMBINE,)}
ANOTHER_STATE = 1.5
"""Times the timed call from which on a profiled one tells nothing of it."""
_BY_NAME = {**STAGES, "experts": (IMBALANCE, GEMM, GATE), "route": (CHOICE,)}
_WITHOUT_STAGES = ("compile", "onnxruntime")


def tells(record: CaseRecord, call: float) -> bool:
    """Return whether a case's trace saw products of experts, in about the seconds of its timed `call`."""
    return bool(record.traced.get("experts") or record.traced.get("fused")) and slowed(record, call) < ANOTHER_STATE


def slowed(record: CaseRecord, call: float) -> float:
    """Return how many times the seconds of the timed `call` the profiled one took."""
    return sum(record.traced.values()) / call


def by_trace(record: CaseRecord, floor: Floor | None) -> list[Draft]:
    """Return the parts of a case from its trace."""
    seen = {stage: seconds for stage, seconds in record.traced.items() if seconds > 0}
    launch = floor.launch if floor else 0.0
    drafts, outside = [], seen.get("other", 0.0)
    for stage, works in (_BY_NAME if record.form in _WITHOUT_STAGES else STAGES).items():
        done = parts.done_by(record, works)
        if stage in seen and done:
            within = parts.floor_within(done, record, floor) + (launch if stage == "experts" else 0.0)
            drafts.append(Draft(parts.name(done, floor), seen[stage] - within, works=done))
        else:
            outside += seen.get(stage, 0.0)
    if "fused" in seen:
        within = 0.0 if "experts" in seen else parts.floor_within(WORK, record, floor) + launch
        drafts.append(Draft(FUSED, seen["fused"] - within))
    return [*drafts, Draft(OUTSIDE, outside)] if outside else drafts
