"""Parts from a trace: the seconds of stages that a profiler, or an engine's own profile, saw in a pass of its own.

They stand as they were seen, neither scaled to the timed call nor cut: a profiled call is slower, so what is left over
may be below zero. Forms of one compiled whole have no stages, and the names of their operators stand for these; there
the gate's product counts among the experts'.
"""

from __future__ import annotations

from reports import parts
from reports.floors import Floor
from reports.parts import CHOICE, COMBINE, DISPATCH, FUSED, GATE, GEMM, IMBALANCE, OUTSIDE, WORK, Draft
from reports.record import CaseRecord

STAGES = {"experts": (IMBALANCE, GEMM), "route": (GATE, CHOICE), "dispatch": (DISPATCH,), "combine": (COMBINE,)}
_BY_NAME = {**STAGES, "experts": (IMBALANCE, GEMM, GATE), "route": (CHOICE,)}
_WITHOUT_STAGES = ("compile", "onnxruntime")


def by_trace(record: CaseRecord, floor: Floor | None) -> list[Draft] | None:
    """Return the parts of a case from its trace, or None where that saw no product of experts."""
    seen = {stage: seconds for stage, seconds in record.traced.items() if seconds > 0}
    if "experts" not in seen and "fused" not in seen:
        return None
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
