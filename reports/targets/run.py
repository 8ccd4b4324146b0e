"""Runs of the kernels' targets: the cases of a result that `moegap targets` wrote, or an older file of timings.

Letters: D input width, H hidden width of one expert, E experts, k experts per row, C output width.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from reports.errors import ReportError
from reports.reading.load import Entry, MeasuredCase, Results, record_of
from reports.reading.visible import brief
from reports.records.record import CaseRecord, Status
from reports.records.timing import Kind, Timing, TimingRun

SUITES: Mapping[str, Kind] = {"targets": "measured", "targets-rehearsal": "rehearsal"}
_FACTS = ("device_name", "cpu", "threads", "driver", "commit", "dirty")
_FORMS = {"dense": "eager", "compile_dense": "compile_max", "compile_masked": "compile_max"}
"""What else older files call by another name, beside `ours` for `triton`."""
_SIZES = re.compile(r"(\S+): D (\d{1,9}), H (\d{1,9}), E (\d{1,9}), k (\d{1,9}), C (\d{1,9}), (\w+)")


@dataclass(frozen=True)
class TargetRun:
    """The cases of one run; `groups` holds those of one layer, N and dtype under a name."""

    kind: Kind
    environment: Mapping[str, Any]
    notes: Sequence[str]
    groups: Mapping[str, Sequence[Entry]]

    @property
    def entries(self) -> list[Entry]:
        """Every case, measured or not."""
        return [entry for group in self.groups.values() for entry in group]


def layer_of(record: CaseRecord) -> str:
    """Return the name of the layer that a record's head computes."""
    return record.checkpoint.removesuffix(f"-{record.head}")


def runs(results: Results, older: Iterable[TimingRun] = ()) -> list[TargetRun]:
    """Return a run for each machine and number of threads that measured or rehearsed targets, and each older file."""
    machines: dict[tuple[str, str, int], list[Entry]] = {}
    entries: list[Entry] = [*results.cases, *results.not_measured]
    for entry in entries:
        record = record_of(entry)
        if record.suite in SUITES:
            machines.setdefault((record.suite, record.device_name, record.threads), []).append(entry)
    measured = [_of_results(SUITES[suite], cases) for (suite, *_), cases in machines.items()]
    return [*measured, *(_of_timings(file) for file in older)]


def _of_results(kind: Kind, entries: Sequence[Entry]) -> TargetRun:
    records = [record_of(entry) for entry in entries]
    groups: dict[str, list[Entry]] = {}
    for entry, record in zip(entries, records, strict=True):
        groups.setdefault(f"{layer_of(record)}-n{record.rows}-{record.dtype}", []).append(entry)
    facts = {name: getattr(records[0], name) for name in (*_FACTS, "versions")}
    return TargetRun(kind, facts, list(dict.fromkeys(map(_sizes, records))), groups)


def _sizes(record: CaseRecord) -> str:
    sizes = (
        f"{record.checkpoint}: D {record.features}, H {record.hidden}, E {record.experts}, k {record.k}, "
        f"C {record.classes}, {record.activation}"
    )
    origin = "; ".join(filter(None, (record.source, record.shrunk)))
    return f"{sizes} ({origin})" if origin else sizes


def _of_timings(file: TimingRun) -> TargetRun:
    """Return the run of an older file; raises `ReportError` for a broken case."""
    sizes = {match[1]: match for note in file.notes if (match := _SIZES.match(note))}
    groups: dict[str, list[Entry]] = {}
    for timing in file.timings:
        try:
            entry = _entry(timing, sizes.get(timing.layer))
        except ValidationError:
            group = brief(timing.group)
            raise ReportError(f"a run of targets has a broken case in the group {group}: measure it again.") from None
        groups.setdefault(timing.group, []).append(entry)
    return TargetRun(file.kind, file.environment, file.notes, groups)


def _entry(timing: Timing, sizes: re.Match[str] | None) -> Entry:
    D, H, E, k, C = (int(size) for size in sizes.groups()[1:6]) if sizes else (0, 0, 1, 0, 0)
    dense = timing.peer in ("dense", "compile_dense")
    head = "dense" if dense else "sparse"
    predicted = timing.status == "predicted"
    record = CaseRecord(
        case_id="-".join((timing.group, timing.routing, timing.peer, timing.clock, timing.cache)),
        group_id=timing.group_id or timing.group,
        suite="targets",
        status=Status.MEASURED if predicted else Status(timing.status),
        reason=timing.reason,
        checkpoint=f"{timing.layer}-{head}",
        weights="initialised",
        data="",
        head=head,  # type: ignore[arg-type] # which pydantic checks
        form=_FORMS.get(timing.peer, timing.peer.replace("ours", "triton")),
        part="head",
        backbone="",
        rows=timing.rows,
        features=D,
        hidden=E * H if dense else H,
        experts=1 if dense else E,
        k=1 if dense else k,
        classes=C,
        activation=sizes[7] if sizes else "",
        dtype=timing.dtype,
        device="cuda",
        clock="wall" if timing.clock == "call" else timing.clock,
        cache=timing.cache,
        routing="zipf1" if timing.routing == "zipf" else timing.routing,
        parameters=0,
        flops=timing.flops,
        least_bytes=timing.least_bytes,
        error=timing.error,
        tolerance=timing.tolerance,
        blocks=timing.blocks,
        measured_at=timing.measured_at,
        device_name="",
        cpu="",
        threads=0,
    )
    if not timing.timed:
        return record
    return MeasuredCase(record, np.array(timing.samples), np.array(timing.blocks, dtype=np.int64), Path())
