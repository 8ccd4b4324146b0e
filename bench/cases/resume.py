"""What a result still lacks, and whether it may be continued under the present conditions."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch

from bench.cases.case import Case
from bench.cases.result import ResultFile
from bench.errors import BenchError
from bench.forms import form
from bench.subjects.subject import Subject
from bench.timing.environment import versions
from models.device import device_name
from reports.records.record import CaseRecord, Status


def missing_cases(
    result: ResultFile, wanted: Sequence[list[Case]], subjects: Sequence[Subject], device: torch.device
) -> list[list[Case]]:
    """Return the groups without the cases that `result` holds; cases that failed or did not fit are tried again.

    Raises `BenchError` if the result has other weights or was measured under other conditions.
    """
    check_conditions(result, device)
    records = result.records()
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


def check_conditions(result: ResultFile, device: torch.device) -> None:
    """Raise `BenchError` if `result` was measured on `device` under other conditions than now."""
    for record in result.records():
        if record.device == device.type and (change := _changed(record, device)):
            raise BenchError(f"{result.path} was measured with {change}; choose another --out")


def _changed(record: CaseRecord, device: torch.device) -> str:
    """Return the first condition of `record` that has changed, as "name then, not now"; "" if none has."""
    now = {
        "device": device_name(device),
        "threads": str(torch.get_num_threads()),
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", ""),
        **versions(),
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
    if record.status is not Status.UNAVAILABLE:
        return True
    chosen, shape = form(case.form), case.shape
    refused = chosen.unavailable(case.subject.head.config, shape.device, shape.dtype)
    return bool(refused or chosen.untimeable(shape.device))
