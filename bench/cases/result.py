"""Writing results: a pytest-benchmark JSON file that grows group by group."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest_benchmark
from pydantic import ValidationError
from pytest_benchmark.plugin import pytest_benchmark_generate_machine_info
from pytest_benchmark.stats import Stats
from pytest_benchmark.utils import get_commit_info

from bench.early import check_new
from bench.errors import BenchError
from bench.timing.sampling import rounded
from reports.records.files import make_folder, read_json, writable, write
from reports.records.record import (
    CEILINGS_KEY,
    COMMAND_KEY,
    GROUPS_KEY,
    NOT_MEASURED_KEY,
    STEPS_KEY,
    CaseRecord,
    Ceilings,
    Group,
    Status,
)

SOURCE = "bench/bench_heads.py"
TEST = "bench_head"
PARAMETERS = ("head", "form", "rows", "dtype", "routing", "cache")
"""Parameters of a case's test beside its name, by which pytest-benchmark can group."""
DIGITS = 6
"""Significant digits kept of a sample: no clock resolves a millionth of it."""


@dataclass(frozen=True)
class Outcome:
    """A case's record and, if it was measured, its samples in seconds in the order taken."""

    record: CaseRecord
    samples: tuple[float, ...] = ()


class ResultFile:
    """A result on disk that holds every group added so far, even if the process is killed."""

    def __init__(self, path: Path, document: dict[str, Any]) -> None:
        self.path = path
        self._document = document

    @classmethod
    def create(cls, path: Path, command: str = "") -> ResultFile:
        """Return an empty result, made by `command`, that is written at `path` with its first piece.

        Its folder is made if need be. Raises `BenchError` if the path exists, and `StorageError` if it cannot be
        written.
        """
        make_folder(path.parent)
        writable(path)
        check_new(path)
        return cls(path, _empty_document(command))

    @classmethod
    def resume(cls, path: Path, command: str = "") -> ResultFile:
        """Return the result at `path` to continue, or an empty one; raises `BenchError` for any other file."""
        if not path.exists():
            return cls.create(path, command)
        try:
            result = cls(path, read_json(path, sys.maxsize))
            result.records()
            result.outcomes()
        except (OSError, ValueError, KeyError, TypeError, ValidationError):
            raise BenchError(f"{path} is no result that can be resumed; move it away or choose another --out") from None
        return result

    def records(self) -> list[CaseRecord]:
        """Return the record of every case in the file."""
        measured = [entry["extra_info"] for entry in self._measured()]
        return [CaseRecord.model_validate(record) for record in measured + self._document[NOT_MEASURED_KEY]]

    def cases(self) -> list[CaseRecord]:
        """Return the record of every case in the file, without the steps of cases."""
        return [record for record in self.records() if not record.step]

    def outcomes(self) -> list[Outcome]:
        """Return every case that has a time, and every step, with its samples."""
        return [
            Outcome(CaseRecord.model_validate(entry["extra_info"]), tuple(entry["stats"]["data"]))
            for entry in self._measured()
        ]

    def _measured(self) -> list[dict[str, Any]]:
        """Return the entry of every case and step that has a time; files of older versions list steps as benchmarks."""
        return [*self._document["benchmarks"], *self._document.get(STEPS_KEY, [])]

    def groups(self) -> list[Group]:
        """Return how each group in the file was sampled, in the order measured."""
        return [Group.model_validate(group) for group in self._document.get(GROUPS_KEY, [])]

    def extend(self, pieces: Iterable[Ceilings | tuple[Iterable[Outcome], Group | None]]) -> None:
        """Append each piece as soon as it is measured: a ceiling, or a group's cases; raises `StorageError`."""
        for piece in pieces:
            if isinstance(piece, Ceilings):
                self.add_ceilings(piece)
            else:
                self.add(*piece)

    def add_ceilings(self, ceilings: Ceilings) -> None:
        """Append ceilings and write the whole file; raises `StorageError` if it cannot."""
        self._document.setdefault(CEILINGS_KEY, []).append(ceilings.model_dump(mode="json"))
        self._write()

    def add(self, outcomes: Iterable[Outcome], group: Group | None = None) -> None:
        """Append a group's cases and write the whole file in one step; raises `StorageError` if it cannot.

        A new try of a case or a step replaces the old one.
        """
        outcomes = list(outcomes)
        tried = {outcome.record.case_id for outcome in outcomes}
        for key in (NOT_MEASURED_KEY, STEPS_KEY, "benchmarks"):
            entries = self._document.get(key, [])
            self._document[key] = [entry for entry in entries if entry.get("extra_info", entry)["case_id"] not in tried]
        recorded(self._document, outcomes, [] if group is None else [group])
        self._write()

    def _write(self) -> None:
        write(self.path, json.dumps(self._document, separators=(",", ":")))


def recorded(
    document: dict[str, Any],
    outcomes: Iterable[Outcome],
    groups: Iterable[Group] = (),
    ceilings: Iterable[Ceilings] = (),
) -> None:
    """Append to a result `document` what was measured, each in its list."""
    for outcome in outcomes:
        record = outcome.record
        if record.status is Status.MEASURED:
            document.setdefault(STEPS_KEY if record.step else "benchmarks", []).append(benchmark_entry(outcome))
        else:
            document.setdefault(NOT_MEASURED_KEY, []).append(record.model_dump(mode="json"))
    document.setdefault(GROUPS_KEY, []).extend(group.model_dump(mode="json") for group in groups)
    document.setdefault(CEILINGS_KEY, []).extend(each.model_dump(mode="json") for each in ceilings)


def benchmark_entry(outcome: Outcome) -> dict[str, Any]:
    """Return a measured case in pytest-benchmark's format, its samples to `DIGITS` digits."""
    record = outcome.record
    samples = list(rounded(outcome.samples, DIGITS))
    stats = Stats()
    for sample in samples:
        stats.update(sample)
    return {
        "group": group_name(record),
        "name": test_name(record),
        "fullname": f"{SOURCE}::{TEST}[{record.case_id}]",
        "params": {"case": record.case_id, **{name: getattr(record, name) for name in PARAMETERS}},
        "param": record.case_id,
        "extra_info": record.model_dump(mode="json"),
        "options": {"disable_gc": True, "timer": "replayed", "warmup": True},
        "stats": {**stats.as_dict(), "data": samples, "iterations": 1},
    }


def test_name(record: CaseRecord) -> str:
    """Return the name of a case's test in tables and histograms, which cut long labels: what its group does not say."""
    special = [word for word in (record.routing, record.cache) if word not in ("features", "noise", "warm")]
    return f"{TEST}[{' '.join([record.checkpoint, record.form, f'n{record.rows}', *special])}]"


def group_name(record: CaseRecord) -> str:
    """Return the pytest-benchmark group of a case: its shape, so that forms stand side by side."""
    passes = f"-{record.passes}" if record.passes != "forward" else ""
    routing = "" if record.routing in ("features", "noise") else f"-{record.routing}"
    cold = f"-{record.cache}" if record.cache != "warm" else ""
    return f"{record.part}-n{record.rows}-{record.dtype}-{record.device}{passes}{routing}{cold}-{record.clock}"


def _empty_document(command: str) -> dict[str, Any]:
    return {
        **({COMMAND_KEY: command} if command else {}),
        "machine_info": _machine_info(),
        "commit_info": get_commit_info(),
        "benchmarks": [],
        NOT_MEASURED_KEY: [],
        STEPS_KEY: [],
        CEILINGS_KEY: [],
        GROUPS_KEY: [],
        "datetime": datetime.now(UTC).isoformat(),
        "version": pytest_benchmark.__version__,
    }


@cache
def _machine_info() -> dict[str, Any]:
    info: dict[str, Any] = pytest_benchmark_generate_machine_info()
    return info
