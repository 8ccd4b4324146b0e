"""Result files merged into immutable cases.

Several files make one set of results. If a case is in more than one of them, on the same machine with as many threads,
it counts once: the record with the latest `measured_at` wins, whatever its status, and `Results.replaced` has the
others, so that the report can name them. The steps of a case, counterfactuals that do a part of it, are kept apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reports.errors import ReportError
from reports.reading.documents import parsed
from reports.reading.files import Content, read
from reports.records.record import BenchmarkFile, CaseRecord, Ceilings, Group
from reports.records.summary import Summary


@dataclass(frozen=True, eq=False)
class MeasuredCase:
    """One measured case.

    `samples` (n,) in seconds in the order taken, `blocks` (n,) the block of each, both read-only; `source` the file.
    Only `moegap compare` reads files without samples: then both are empty, and `summary` is all that is known.
    """

    record: CaseRecord
    samples: NDArray[np.float64]
    blocks: NDArray[np.int64]
    source: Path
    summary: Summary | None = None

    def __post_init__(self) -> None:
        self.samples.setflags(write=False)
        self.blocks.setflags(write=False)

    def interleaved_with(self, other: MeasuredCase) -> bool:
        """Return whether both were measured in the same blocks, so that their samples are pairs."""
        return self.source == other.source and self.record.group_id == other.record.group_id


@dataclass(frozen=True)
class Results:
    """All cases of all files, in the order read, and the `commands` that measured them, if files name them.

    `steps` and `steps_not_measured` are the counterfactuals of cases and count as no case. `groups` are those of
    `cases`. Files of record version 1 have no steps, `ceilings` or groups.
    """

    sources: tuple[Path, ...]
    cases: tuple[MeasuredCase, ...]
    not_measured: tuple[CaseRecord, ...]
    replaced: tuple[CaseRecord, ...]
    commands: tuple[str, ...] = ()
    steps: tuple[MeasuredCase, ...] = ()
    steps_not_measured: tuple[CaseRecord, ...] = ()
    ceilings: tuple[Ceilings, ...] = ()
    groups: tuple[Group, ...] = ()

    @property
    def records(self) -> tuple[CaseRecord, ...]:
        """Every record that counts, measured or not."""
        return tuple(case.record for case in self.cases) + self.not_measured


Entry = MeasuredCase | CaseRecord


def record_of(entry: Entry) -> CaseRecord:
    """Return the record of a case, measured or not."""
    return entry.record if isinstance(entry, MeasuredCase) else entry


def load(paths: Sequence[Path]) -> Results:
    """Read result files.

    Raises `ReportError` if a file is missing, is no result, is broken, or was written by a newer moegap, or if the
    files together hold no case.
    """
    if not paths:
        raise ReportError("No result file was given: name at least one JSON file written by a benchmark run.")
    return gather(read(paths))


def gather(contents: Mapping[Path, Content], *, summaries: bool = False) -> Results:
    """Return the cases of result files already read; raises as `load` does.

    With `summaries` a file may also lack samples, as `--benchmark-save` writes it.
    """
    files: dict[Path, BenchmarkFile] = {}
    for source, content in contents.items():
        file = parsed(source, content)
        if not isinstance(file, BenchmarkFile):
            raise ReportError(f"{source} holds no result of a benchmark: give a file that `moegap bench` wrote.")
        files[source] = file
    return merged(files, summaries=summaries)


def merged(files: Mapping[Path, BenchmarkFile], *, summaries: bool = False) -> Results:
    """Return the cases of all files, of each the latest; raises `ReportError` for a file without a case.

    A file without samples is an error too, except with `summaries`.
    """
    latest: dict[tuple[str, str, str, int], Entry] = {}
    replaced: list[CaseRecord] = []
    for source, file in files.items():
        if not summaries and any(entry.stats.summary for entry in file.timed):
            raise ReportError(
                f"{source} was saved without samples: measure again with --benchmark-save-data or --benchmark-json; "
                "`moegap compare` takes it as it is."
            )
        for entry in _entries(source, file):
            record = record_of(entry)
            older = latest.pop(record.identity, None)
            if older is None:
                latest[record.identity] = entry
                continue
            if record_of(older).weights_sha256 != record.weights_sha256:
                raise ReportError(
                    f"two of these files hold different heads under the name {record.checkpoint!r}: report them apart, "
                    "or rename one checkpoint folder and measure it again."
                )
            older, entry = sorted((older, entry), key=lambda each: record_of(each).moment)
            latest[record.identity] = entry
            if not record.step:
                replaced.append(record_of(older))
    measured = [entry for entry in latest.values() if isinstance(entry, MeasuredCase)]
    others = [entry for entry in latest.values() if isinstance(entry, CaseRecord)]
    groups = {group.group_id: group for file in files.values() for group in file.groups}
    counted = {case.record.group_id for case in measured}
    return Results(
        sources=tuple(files),
        cases=tuple(case for case in measured if not case.record.step),
        not_measured=tuple(record for record in others if not record.step),
        replaced=tuple(replaced),
        commands=tuple(dict.fromkeys(file.command for file in files.values() if file.command)),
        steps=tuple(case for case in measured if case.record.step),
        steps_not_measured=tuple(record for record in others if record.step),
        ceilings=tuple(ceilings for file in files.values() for ceilings in file.ceilings),
        groups=tuple(group for name, group in groups.items() if name in counted),
    )


def _entries(source: Path, file: BenchmarkFile) -> list[Entry]:
    """Return the cases of one file."""
    cases = [
        MeasuredCase(
            entry.extra_info,
            np.array(entry.stats.data),
            np.array(entry.extra_info.blocks[: len(entry.stats.data)], dtype=np.int64),
            source,
            entry.stats.summary,
        )
        for entry in file.timed
    ]
    if not cases and not file.not_measured:
        if file.benchmarks:
            raise ReportError(
                f"{source} is a pytest-benchmark file without moegap records: give it to `moegap compare` beside "
                "another such file; a report needs one that moegap wrote."
            )
        raise ReportError(f"{source} holds no case: nothing was selected, or the run was killed before its first one.")
    return [*cases, *file.not_measured]
