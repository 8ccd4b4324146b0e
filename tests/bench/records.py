"""Records to write and read back."""

from reports.records.record import CaseRecord, Status


def record(case_id: str, **changes) -> CaseRecord:
    fields = {
        "case_id": case_id,
        "group_id": "g",
        "suite": "demo",
        "status": Status.MEASURED,
        "checkpoint": "sparse",
        "weights": "trained",
        "data": "digits",
        "head": "sparse",
        "form": "eager",
        "part": "head",
        "backbone": "identity",
        "rows": 4,
        "features": 64,
        "hidden": 8,
        "experts": 4,
        "k": 2,
        "classes": 10,
        "activation": "relu",
        "dtype": "float32",
        "device": "cpu",
        "clock": "wall",
        "routing": "features",
        "parameters": 1000,
        "flops": 2000,
        "least_bytes": 3000,
        "measured_at": "2026-01-01T00:00:00+00:00",
        "device_name": "a CPU",
        "cpu": "a CPU",
        "threads": 2,
    }
    return CaseRecord(**{**fields, **changes})
