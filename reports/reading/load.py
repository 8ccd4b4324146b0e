"""Result files read into immutable cases; whatever is wrong with a file is said in one sentence.

Several files make one set of results. If a case is in more than one of them, on the same machine with as many threads,
it counts once: the record with the latest `measured_at` wins, whatever its status, and `Results.replaced` has the
others, so that the report can name them. The steps of a case, counterfactuals that do a part of it, are kept apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reports.errors import ReportError
from reports.reading.files import Content, read
from reports.reading.validated import are_objects, check_moment, check_version, moment, validated
from reports.reading.visible import brief
from reports.records.record import (
    CEILINGS_KEY,
    COMMAND_KEY,
    GROUPS_KEY,
    LONGEST,
    NOT_MEASURED_KEY,
    SCHEMA_VERSION,
    SHORTEST,
    CaseRecord,
    Ceilings,
    Group,
    Status,
)


@dataclass(frozen=True, eq=False)
class Case:
    """One measured case.

    `samples` (n,) in seconds in the order taken, `blocks` (n,) the block of each, both read-only; `source` the file.
    """

    record: CaseRecord
    samples: NDArray[np.float64]
    blocks: NDArray[np.int64]
    source: Path

    def interleaved_with(self, other: Case) -> bool:
        """Return whether both were measured in the same blocks, so that their samples are pairs."""
        return self.source == other.source and self.record.group_id == other.record.group_id


@dataclass(frozen=True)
class Results:
    """All cases of all files, in the order read, and the `commands` that measured them, if files name them.

    `steps` and `steps_not_measured` are the counterfactuals of cases and count as no case. `groups` are those of
    `cases`. Files of record version 1 have no steps, `ceilings` or groups.
    """

    sources: tuple[Path, ...]
    cases: tuple[Case, ...]
    not_measured: tuple[CaseRecord, ...]
    replaced: tuple[CaseRecord, ...]
    commands: tuple[str, ...] = ()
    steps: tuple[Case, ...] = ()
    steps_not_measured: tuple[CaseRecord, ...] = ()
    ceilings: tuple[Ceilings, ...] = ()
    groups: tuple[Group, ...] = ()

    @property
    def records(self) -> tuple[CaseRecord, ...]:
        """Every record that counts, measured or not."""
        return tuple(case.record for case in self.cases) + self.not_measured


Entry = Case | CaseRecord
Identity = tuple[str, str, str, int]  # of a case across files: its id, and its machine with its threads


def load(paths: Sequence[Path]) -> Results:
    """Read result files.

    Raises `ReportError` if a file is missing, is no result, is broken, or was written by a newer moegap, or if the
    files together hold no case.
    """
    if not paths:
        raise ReportError("No result file was given: name at least one JSON file written by a benchmark run.")
    return gather(read(paths))


def gather(contents: Mapping[Path, Content]) -> Results:
    """Return the cases of result files already read; raises as `load` does, but allows no file at all."""
    latest: dict[Identity, Entry] = {}
    replaced: list[CaseRecord] = []
    commands: dict[str, None] = {}
    ceilings: list[Ceilings] = []
    groups: dict[str, Group] = {}
    for source, content in contents.items():
        _check(source, content)
        commands[content.get(COMMAND_KEY, "")] = None
        ceilings += _ceilings(source, content)
        groups |= {group.group_id: group for group in _groups(source, content)}
        for identity, entry in _entries(source, content).items():
            older = latest.pop(identity, None)
            if older is not None:
                _check_same_weights(record_of(older), record_of(entry))
            if older is not None and measured_at(record_of(older)) > measured_at(record_of(entry)):
                older, entry = entry, older
            latest[identity] = entry
            if older is not None and not record_of(older).step:
                replaced.append(record_of(older))
    measured = [entry for entry in latest.values() if isinstance(entry, Case)]
    others = [entry for entry in latest.values() if isinstance(entry, CaseRecord)]
    counted = {case.record.group_id for case in measured}
    return Results(
        sources=tuple(contents),
        cases=tuple(case for case in measured if not case.record.step),
        not_measured=tuple(record for record in others if not record.step),
        replaced=tuple(replaced),
        commands=tuple(filter(None, commands)),
        steps=tuple(case for case in measured if case.record.step),
        steps_not_measured=tuple(record for record in others if record.step),
        ceilings=tuple(ceilings),
        groups=tuple(group for name, group in groups.items() if name in counted),
    )


def measured_at(record: CaseRecord) -> datetime:
    """Return when a loaded case was measured; a time without a zone is taken as UTC."""
    return moment(record.measured_at)


def _entries(source: Path, content: dict[str, Any]) -> dict[Identity, Entry]:
    """Return the cases of one file by their identity."""
    benchmarks = [item for item in content["benchmarks"] if is_record(item.get("extra_info"))]
    unmeasured = content.get(NOT_MEASURED_KEY, [])
    if content["benchmarks"] and not benchmarks and not unmeasured:
        raise ReportError(f"{source} is a pytest-benchmark file without moegap records: give a file that moegap wrote.")
    if not benchmarks and not unmeasured:
        raise ReportError(f"{source} holds no case: nothing was selected, or the run was killed before its first one.")
    entries: dict[Identity, Entry] = {}
    every: list[Entry] = [_case(source, benchmark) for benchmark in benchmarks]
    every += [_unmeasured(source, raw) for raw in unmeasured]
    for entry in every:
        record = record_of(entry)
        identity = (record.case_id, record.device_name, record.cpu, record.threads)
        if identity in entries:
            raise ReportError(f"{source} holds the case {record.case_id} twice: remove one of them.")
        entries[identity] = entry
    return entries


def is_record(extra_info: object) -> bool:
    """Return whether the `extra_info` of a benchmark is a record of moegap."""
    return isinstance(extra_info, dict) and "case_id" in extra_info


def _check_same_weights(older: CaseRecord, newer: CaseRecord) -> None:
    if older.weights_sha256 != newer.weights_sha256:
        raise ReportError(
            f"two of these files hold different heads under the name {newer.checkpoint!r}: report them apart, "
            "or rename one checkpoint folder and measure it again."
        )


def _check(source: Path, content: Content) -> None:
    if not are_objects(content.get("benchmarks")):
        raise ReportError(f"{source} holds no result of a benchmark: give a file that `moegap bench` wrote.")
    if not are_objects(content.get(NOT_MEASURED_KEY, [])):
        raise ReportError(f"{source} has a broken list {NOT_MEASURED_KEY}: each entry must be a record.")
    command = content.get(COMMAND_KEY, "")
    if not isinstance(command, str) or not command.isprintable():
        raise ReportError(f"{source} has a broken {COMMAND_KEY}: it must be one printable line.")


def _case(source: Path, entry: dict[str, Any]) -> Case:
    record = _validated(source, entry["extra_info"])
    if record.status is not Status.MEASURED:
        raise ReportError(f"{source}: {record.case_id} has samples though it is {record.status}: remove them.")
    try:
        samples = np.array(entry["stats"]["data"], dtype=np.float64)
    except (KeyError, TypeError, ValueError):
        raise ReportError(f"{source}: {record.case_id} has no raw samples: run without --benchmark-disable.") from None
    blocks = np.array(record.blocks, dtype=np.int64)
    if samples.shape != blocks.shape:
        counts = f"{samples.size} samples and {blocks.size} block numbers"
        raise ReportError(f"{source}: {record.case_id} has {counts}, one for each is needed: measure it again.")
    if not samples.size:
        raise ReportError(f"{source}: {record.case_id} is measured but has no sample: measure it again.")
    if not np.all((samples >= SHORTEST) & (samples <= LONGEST)):
        raise ReportError(f"{source}: {record.case_id} has a sample that is no positive time: measure it again.")
    samples.setflags(write=False)
    blocks.setflags(write=False)
    return Case(record=record, samples=samples, blocks=blocks, source=source)


def _unmeasured(source: Path, raw: dict[str, Any]) -> CaseRecord:
    record = _validated(source, raw)
    if record.status is Status.MEASURED:
        raise ReportError(f"{source}: {record.case_id} is called measured but has no samples: measure it again.")
    return record


def _validated(source: Path, raw: dict[str, Any]) -> CaseRecord:
    check_version(raw.get("schema_version"), SCHEMA_VERSION, source, "record version")
    record = validated(CaseRecord, raw, source, f"the record {brief(raw.get('case_id', 'without a case_id'))}")
    check_moment(record.measured_at, source, record.case_id)
    if record.rows_per_expert and len(record.rows_per_expert) != record.experts:
        counts = f"{len(record.rows_per_expert)} numbers of rows for {record.experts} experts"
        raise ReportError(f"{source}: {record.case_id} has {counts}, one for each is needed: measure it again.")
    return record


def record_of(entry: Entry) -> CaseRecord:
    """Return the record of a case, measured or not."""
    return entry.record if isinstance(entry, Case) else entry


def _ceilings(source: Path, content: Content) -> list[Ceilings]:
    """Return the ceilings in a file; old files have none."""
    ceilings = []
    for raw in _objects(source, content, CEILINGS_KEY):
        ceiling = validated(Ceilings, raw, source, "a ceiling")
        what = f"the ceiling of {ceiling.device_name} in {ceiling.dtype}"
        check_moment(ceiling.measured_at, source, what)
        sizes = [copy.working_set for copy in ceiling.copies]
        if not sizes or sizes != sorted(set(sizes)):
            raise ReportError(f"{source}: {what} needs copies of growing working sets: measure it again.")
        ceilings.append(ceiling)
    return ceilings


def _groups(source: Path, content: Content) -> list[Group]:
    """Return how the groups in a file were sampled; old files have none."""
    groups: dict[str, Group] = {}
    for raw in _objects(source, content, GROUPS_KEY):
        group = validated(Group, raw, source, f"the group {brief(raw.get('group_id', 'without a group_id'))}")
        if group.group_id in groups:
            raise ReportError(f"{source} holds the group {group.group_id} twice: remove one of them.")
        if not all(0 <= block < len(group.anchor) for block in group.throttled):
            raise ReportError(f"{source}: the group {group.group_id} marks a block it has not: measure it again.")
        groups[group.group_id] = group
    return list(groups.values())


def _objects(source: Path, content: Content, key: str) -> list[dict[str, Any]]:
    objects: list[dict[str, Any]] = content.get(key, [])
    if not are_objects(objects):
        raise ReportError(f"{source} has a broken list {key}: each entry must be an object.")
    return objects
