"""What a case is and what it costs by count, as the fields of its record.

Letters: N rows, E experts.
"""

from __future__ import annotations

from statistics import fmean, pstdev
from typing import Any

from bench.cases.case import Case
from bench.forms import form
from bench.timing.precision import dtype_name
from models.heads.cost import flops, least_bytes, parameters
from reports.records.record import CaseRecord, Step


def case_record(case: Case, fields: dict[str, Any], step: Step = "", **more: Any) -> CaseRecord:
    """Return the record of `case`, or of one of its steps: what it is, what it costs, and the measured `fields`."""
    counts = fields.get("rows_per_expert") or None
    named = {"case_id": f"{case.id}-{step}" if step else case.id, "step": step}
    return CaseRecord.model_validate({**identity(case), **named, **_cost(case, counts), **fields, **more})


def identity(case: Case) -> dict[str, Any]:
    """Return what `case` is, as the fields of its record that need no measurement."""
    subject, shape, config, chosen = case.subject, case.shape, case.subject.head.config, form(case.form)
    real = subject.features is not None and shape.part == "head"
    return {
        "checkpoint": subject.name,
        "weights": subject.weights,
        "weights_sha256": subject.weights_sha256,
        "data": subject.data,
        "test_accuracy": subject.test_accuracy,
        "head": config.kind,
        "policy": config.policy or "",
        "form": case.form,
        "computes": chosen.computes,
        "scheme": chosen.stored.scheme if chosen.stored else "",
        "part": shape.part,
        "backbone": subject.model.config.backbone.name,
        "rows": shape.rows,
        "features": config.features,
        "hidden": config.hidden,
        "experts": config.experts,
        "k": config.most_experts,
        "classes": config.classes,
        "activation": config.activation,
        "source": subject.source,
        "shrunk": subject.shrunk,
        "dtype": dtype_name(shape.dtype),
        "device": shape.device.type,
        "clock": case.clock,
        "cache": shape.cache,
        "passes": shape.passes,
        "routing": shape.skew or ("features" if real else "noise"),
    }


def _cost(case: Case, rows_per_expert: list[int] | None) -> dict[str, Any]:
    """Return the counted cost of a case, with the most assignments possible if they were not counted."""
    subject, shape, config, chosen = case.subject, case.shape, case.subject.head.config, form(case.form)
    assignments = distinct_experts = load_cv = None
    if rows_per_expert is not None:
        assignments, distinct_experts = sum(rows_per_expert), sum(count > 0 for count in rows_per_expert)
        load_cv = pstdev(rows_per_expert) / fmean(rows_per_expert) if assignments else None
    load = {
        "assignments": assignments,
        "distinct_experts": distinct_experts,
        "load_cv": load_cv,
        "parameters": parameters(config),
    }
    if chosen.work:
        operations, moved = chosen.work(config, shape.rows, shape.dtype, shape.device, distinct_experts)
        return {**load, "flops": operations, "least_bytes": moved}
    head_flops = flops(config, shape.rows, assignments, training=shape.training).total
    if shape.part == "head":
        moved = least_bytes(
            config,
            shape.rows,
            shape.dtype.itemsize,
            distinct_experts,
            training=shape.training,
            expert_bytes=chosen.expert_bytes(config, shape.dtype),
        )
        return {**load, "flops": head_flops, "least_bytes": moved}
    weights = sum(value.numel() for value in subject.model.parameters())
    operations = head_flops + subject.backbone_flops * shape.rows
    return {**load, "parameters": weights, "flops": operations, "least_bytes": None}
