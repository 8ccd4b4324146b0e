"""What a result still lacks, and whether it may be continued under the present conditions."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from bench.cases.case import Case
from bench.cases.result import ResultFile
from bench.errors import BenchError
from bench.subjects.subject import Subject
from bench.timing import environment
from models.device import device_name
from reports.records.record import CaseRecord, Status


def missing_cases(
    result: ResultFile, wanted: Sequence[list[Case]], subjects: Sequence[Subject], device: torch.device
) -> list[list[Case]]:
    """Return the groups without the cases that `result` holds; cases that failed or did not fit are tried again.

    Raises `BenchError` if the result has other weights or was measured under other conditions.
    """
    records = result.records()
    check_conditions(result.path, records, device)
    weights = {subject.name: subject.weights_sha256 for subject in subjects}
    shrunk = {subject.name: subject.shrunk for subject in subjects}
    for record in records:
        if weights.get(record.checkpoint, record.weights_sha256) != record.weights_sha256:
            raise BenchError(f"{result.path} measured other weights of {record.checkpoint}; choose another --out")
        if shrunk.get(record.checkpoint, record.shrunk) != record.shrunk:
            raise BenchError(
                f"{result.path} measured {record.checkpoint} with {record.shrunk or 'all its widths'}, but now only "
                "another width fits into the free memory; choose another --out"
            )
    known = {record.case_id: record for record in records}
    remaining = ([case for case in group if not _is_done(case, known.get(case.id))] for group in wanted)
    return [group for group in remaining if group]


def check_conditions(path: Path, records: Iterable[CaseRecord], device: torch.device) -> None:
    """Raise `BenchError` if the `records` at `path` were measured on `device` under other conditions than now."""
    for record in records:
        if record.device == device.type and (change := _changed(record, device)):
            raise BenchError(f"{path} was measured with {change}; choose another --out")


def check_same_run(path: Path, records: Iterable[CaseRecord], suite: str) -> None:
    """Raise `BenchError` if the `records` at `path` are of another suite, or were measured at another commit."""
    now = {"suite": suite, **environment.commit()}
    for record in records:
        then = {"suite": record.suite, "commit": record.commit, "dirty": record.dirty}
        if change := next((name for name in then if then[name] != now[name]), None):
            raise BenchError(
                f"{path} was measured with {change} {then[change]}, not {now[change]}; choose another --out"
            )


def _changed(record: CaseRecord, device: torch.device) -> str:
    """Return the first condition of `record` that has changed, as "name then, not now"; "" if none has."""
    now = {
        "device": device_name(device),
        "threads": str(torch.get_num_threads()),
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", ""),
        **environment.versions(),
    }
    then = {
        "device": record.device_name,
        "threads": str(record.threads),
        "OMP_WAIT_POLICY": record.thread_wait,
        **record.versions,
    }
    changes = [f"{name} {then[name]}, not {now[name]}" for name in now if name in then and then[name] != now[name]]
    return changes[0] if changes else ""


def _is_done(case: Case, record: CaseRecord | None) -> bool:
    """Return whether another try of `case` would give nothing new."""
    if record is None or record.status in (Status.FAILED, Status.SKIPPED):
        return False
    return record.status is not Status.UNAVAILABLE or case.refusal is not None
