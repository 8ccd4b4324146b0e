"""Synthetic results: files as a benchmark run writes them, with times drawn around chosen medians."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from reports.records.record import CEILINGS_KEY, GROUPS_KEY, NOT_MEASURED_KEY, CaseRecord, Ceilings, Copy, Group

SIZES = {"dense": (512, 1, 1), "soft": (64, 8, 8), "sparse": (64, 8, 2)}  # hidden, experts, k
PARAMETERS = {"dense": 267_786, "soft": 271_960, "sparse": 276_064}
FLOPS = {"dense": 534_528, "soft": 542_880, "sparse": 141_864}
ACCURACY = {"dense": 0.8644, "soft": 0.8723, "sparse": 0.8717}
ROWS = (1, 32, 256, 2048)
CPU_MEDIANS = {  # microseconds at ROWS, one thread
    ("dense", "eager"): (84, 298, 1263, 13872),
    ("dense", "compile"): (221, 435, 1421, 9965),
    ("dense", "onnxruntime"): (51, 172, 1087, 9628),
    ("soft", "eager"): (291, 460, 1722, 18093),
    ("soft", "onnxruntime"): (301, 470, 1857, 16512),
    ("sparse", "loop"): (272, 886, 1634, 7899),
    ("sparse", "compile"): (401, 631, 1119, 6036),
    ("sparse", "grouped_mm"): (306, 513, 1300, 7817),
    ("sparse", "onnxruntime"): (106, 235, 666, 5228),
}


def record(**fields: Any) -> CaseRecord:
    """Return a measured record of the paper's sparse head, changed by `fields`."""
    head = fields.get("head", "sparse")
    rows = fields.get("rows", 256)
    hidden, experts, k = SIZES[head]
    share = np.array([0.21, 0.15, 0.14, 0.13, 0.12, 0.11, 0.08, 0.06])
    defaults: dict[str, Any] = {
        "suite": "paper",
        "status": "measured",
        "checkpoint": f"cifar10-{head}",
        "weights": "trained",
        "data": "CIFAR-10",
        "test_accuracy": ACCURACY[head],
        "head": head,
        "form": "eager",
        "part": "head",
        "backbone": "resnet18",
        "rows": rows,
        "features": 512,
        "hidden": hidden,
        "experts": experts,
        "k": k,
        "classes": 10,
        "activation": "relu",
        "dtype": "float32",
        "device": "cpu",
        "clock": "wall",
        "routing": "features",
        "rows_per_expert": [int(part) for part in share * rows * k * 100 // 100] if head == "sparse" else [],
        "parameters": PARAMETERS[head],
        "flops": FLOPS[head] * rows,
        "least_bytes": None,
        "error": 2.3e-7,
        "tolerance": 1e-5,
        "cold_start": 0.012,
        "peak_memory": 4096 * rows + 100_000,
        "stopped_by": "blocks",
        "runs_on": {"device": "cpu", "library": "torch 2.15.0"},
        "measured_at": "2026-11-03T12:00:00+00:00",
        "device_name": "AMD EPYC 7B13",
        "cpu": "AMD EPYC 7B13",
        "threads": 1,
        "load_1m": 0.4,
        "versions": {"python": "3.11.2", "torch": "2.15.0", "onnxruntime": "1.31.1", "moegap": "0.1.0"},
        "commit": "31a5c0941f2c7d6e8b90a1b2c3d4e5f60718293a",
        "dirty": False,
    }
    values = defaults | fields
    shape = f"{values['part']}-n{values['rows']}-{values['dtype']}-{values['device']}-{values['clock']}"
    values.setdefault("case_id", f"{values['checkpoint']}:{values['head']}-{values['form']}-{shape}")
    values.setdefault("group_id", f"{values['suite']}-{shape}")
    return CaseRecord.model_validate(values)


def samples(median: float, blocks: int = 20, per_block: int = 2, seed: int = 0, noise: float = 0.02) -> np.ndarray:
    """Return (blocks x per_block,) times in seconds around `median`: one disturbance per block, one per sample."""
    shared = np.random.default_rng(7).lognormal(0, 0.05, blocks)  # the same for all: blocks disturb every case alike
    own = np.random.default_rng(seed).lognormal(0, noise, blocks * per_block)
    return median * np.repeat(shared, per_block) * own


def benchmark(case: CaseRecord, times: Iterable[float], per_block: int = 2) -> dict[str, Any]:
    """Return a benchmark entry as pytest-benchmark writes it, with what `reports` reads of it."""
    data = [float(time) for time in times]
    blocks = [place // per_block for place in range(len(data))]
    return {
        "group": case.group_id,
        "name": f"bench[{case.case_id}]",
        "fullname": f"bench/bench_heads.py::bench[{case.case_id}]",
        "params": None,
        "param": None,
        "extra_info": case.model_copy(update={"blocks": blocks}).model_dump(mode="json"),
        "options": {},
        "stats": {
            "min": min(data),
            "max": max(data),
            "rounds": len(data),
            "median": float(np.median(data)),
            "data": data,
        },
    }


def write(
    path: Path,
    benchmarks: list[dict[str, Any]],
    unmeasured: Iterable[CaseRecord] = (),
    ceilings: Iterable[Ceilings] = (),
    groups: Iterable[Group] = (),
) -> Path:
    """Write a result file and return its path."""
    content = {
        "machine_info": {"node": "synthetic"},
        "commit_info": {"id": "31a5c09", "dirty": False},
        "benchmarks": benchmarks,
        "datetime": "2026-11-03T12:00:00+00:00",
        "version": "5.3.1",
        NOT_MEASURED_KEY: [case.model_dump(mode="json") for case in unmeasured],
        CEILINGS_KEY: [found.model_dump(mode="json") for found in ceilings],
        GROUPS_KEY: [group.model_dump(mode="json") for group in groups],
    }
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def cpu_benchmarks(medians: Mapping[tuple[str, str], tuple[float, ...]] = CPU_MEDIANS) -> list[dict[str, Any]]:
    """Return the cases of one CPU run, head alone and whole classifier."""
    entries = []
    for place, ((head, form), times) in enumerate(medians.items()):
        for rows, microseconds in zip(ROWS, times, strict=True):
            seed = 1000 * place + rows
            case = record(head=head, form=form, rows=rows)
            entries.append(benchmark(case, samples(microseconds * 1e-6, seed=seed)))
            whole = record(
                head=head, form=form, rows=rows, part="classifier", flops=(FLOPS[head] + 1_110_000_000) * rows
            )
            entries.append(benchmark(whole, samples((microseconds + 9000 * rows) * 1e-6, seed=seed + 1)))
    return entries


def unmeasured() -> list[CaseRecord]:
    """Return cases without a time, of every kind."""
    interpreted = "Triton needs a GPU to be timed; here it runs interpreted."
    return [
        *(record(form="triton", rows=rows, status="unavailable", reason=interpreted) for rows in ROWS),
        record(form="fused", status="wrong", reason="The logits deviate by 3.1e-2, tolerance 1.0e-5.", error=3.1e-2),
        record(head="soft", form="compile", status="failed", reason="RuntimeError: graph break in the gate."),
        record(form="onnxruntime", rows=65536, status="skipped", reason="The time limit was reached."),
    ]


def ceilings(**fields: Any) -> Ceilings:
    """Return ceilings of the CPU of `record`, changed by `fields`: 200 GFLOP/s, caches to 8 MB, one operator 2 µs.

    Rates fall only between 131 and 262 kB and between 8 and 17 MB.
    """
    defaults: dict[str, Any] = {
        "device": "cpu",
        "device_name": "AMD EPYC 7B13",
        "cpu": "AMD EPYC 7B13",
        "threads": 1,
        "dtype": "float32",
        "measured_at": "2026-11-03T11:59:00+00:00",
        "samples": 20,
        "flops_per_s": 200e9,
        "product": "2048 x 2048 x 2048",
        "copies": [
            Copy(working_set=131_072, bytes_per_s=40e9),
            Copy(working_set=262_144, bytes_per_s=25e9),
            Copy(working_set=8_388_608, bytes_per_s=25e9),
            Copy(working_set=16_777_216, bytes_per_s=10e9),
            Copy(working_set=134_217_728, bytes_per_s=10e9),
        ],
        "launch": 1e-6,
        "operator": 2e-6,
        "parallel": 4e-4,
    }
    return Ceilings.model_validate(defaults | fields)


def steps(case: CaseRecord, medians: Mapping[str, tuple[float, int]], seed: int = 0) -> list[dict[str, Any]]:
    """Return the entries of a case's steps, each a median in seconds and a number of operators."""
    told_once = {"traced": {}, "peak_memory": None, "cold_start": None}
    entries = []
    for place, (step, (median, operators)) in enumerate(medians.items()):
        own = {"step": step, "case_id": f"{case.case_id}-{step}", "operators": operators}
        entries.append(benchmark(case.model_copy(update=told_once | own), samples(median, seed=seed + place)))
    return entries


ADDED = {  # of each step to the one before, as shares of the call, and operators up to it; "" is the whole call
    "dense": {"balanced": (1.0, 4), "": (0.0, 4)},
    "soft": {"balanced": (0.7, 4), "gated": (0.1, 6), "routed": (0.05, 8), "combined": (0.15, 12), "": (0.0, 12)},
    "sparse": {
        "balanced": (0.35, 4), "products": (0.1, 4), "dispatched": (0.25, 14), "gated": (0.1, 16),
        "routed": (0.08, 20), "combined": (0.1, 24), "": (0.02, 24),
    },
}  # fmt: skip
TRACED = {"experts": 0.6, "route": 0.1, "dispatch": 0.15, "combine": 0.1, "other": 0.2}  # as shares of the call


def accounted(case: CaseRecord, median: float, seed: int = 0) -> list[dict[str, Any]]:
    """Return a case with what its account needs: steps where its form has them, and a trace."""
    traced = {stage: share * median for stage, share in TRACED.items() if case.head != "dense" or stage == "experts"}
    bytes_moved = 4 * (case.parameters + case.rows * (case.features + case.classes))
    counted = {"traced": traced, "least_bytes": bytes_moved}
    if case.form in ("compile", "onnxruntime"):
        named = counted | {"traced_by": "names"}
        return [benchmark(case.model_copy(update=named), samples(median, seed=seed))]
    added = ADDED[case.head]
    medians = {}
    reached = 0.0
    for step, (share, operators) in added.items():
        reached += share * median
        medians[step] = (reached, operators)
    whole = case.model_copy(update=counted | {"operators": medians.pop("")[1]})
    return [benchmark(whole, samples(median, seed=seed)), *steps(whole, medians, seed + 1)]


def account_run(path: Path) -> Path:
    """Write a run of record version 2: steps, traces, ceilings, groups, cold caches, made routings, classifiers."""
    entries: list[dict[str, Any]] = []
    for place, ((head, form), times) in enumerate(CPU_MEDIANS.items()):
        for rows, microseconds in zip(ROWS, times, strict=True):
            seed = 1000 * place + rows
            entries += accounted(record(head=head, form=form, rows=rows), microseconds * 1e-6, seed)
            if rows == 256:
                for case, slower in _beside(head, form):
                    entries.append(benchmark(case, samples(slower * microseconds * 1e-6, seed=seed + 50)))
    names = dict.fromkeys(entry["extra_info"]["group_id"] for entry in entries)
    anchor = [1e-3] * 18 + [1.2e-3, 1.01e-3]
    groups = [Group(group_id=name, anchor=anchor, wall=20.0, sampling=12.0, cold_start=3.0) for name in names]
    return write(path, entries, unmeasured(), [ceilings()], groups)


def _beside(head: str, form: str) -> list[tuple[CaseRecord, float]]:
    """Return cases beside the usual ones, and how many times as long as these they take."""
    group = {"head": head, "form": form, "rows": 256}
    cold = record(**group, cache="cold", case_id=f"{head}-{form}-cold", group_id="cold", least_bytes=2_000_000)
    whole = record(**group, part="classifier", flops=(FLOPS[head] + 1_110_000_000) * 256)
    skews = {"uniform": (0.06, 1.0), "zipf2": (1.4, 1.5), "one": (1.73, 1.9)}
    made = [
        (
            record(
                **group, routing=skew, case_id=f"{head}-{form}-{skew}", group_id=skew,
                load_cv=cv if head == "sparse" else None, distinct_experts=8 if head == "sparse" else None,
            ),
            slower if head == "sparse" else 1.0,
        )
        for skew, (cv, slower) in skews.items()
    ]  # fmt: skip
    return [(cold, 1.3), (whole, 50.0), *made]
