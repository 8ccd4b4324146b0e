"""The file of a timing run: every planned case from the start, replaced group by group as they are measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bench.errors import BenchError
from bench.targets.plan import Group
from models.storage import write_atomically
from reports.records.record import Status
from reports.records.timing import Key, Kind, Timing, TimingRun

LASTING = ("device_name", "cpu", "threads", "versions", "commit", "dirty")
"""What must not change between the parts of one run."""


class TimingFile:
    """A run on disk that always holds every group measured so far; a kill loses the group in hand."""

    def __init__(self, path: Path, run: TimingRun) -> None:
        self.path = path
        self._head = run
        self._cases: dict[Key, Timing] = {case.key: case for case in run.timings}

    @classmethod
    def predicted(cls, path: Path, run: TimingRun) -> TimingFile:
        """Write a run of predictions to `path`; raises `BenchError` where something else is."""
        if path.exists() and _read(path).kind != run.kind:
            raise BenchError(f"{path} holds no predictions; choose another --out")
        file = cls(path, run)
        file.write()
        return file

    @classmethod
    def open(
        cls, path: Path, kind: Kind, command: str, environment: dict[str, Any], notes: Iterable[str],
        groups: Sequence[Group],
    ) -> TimingFile:  # fmt: skip
        """Return the run at `path` to go on with, or a new one, written at once.

        Raises `BenchError` for a file that is none, or of another kind, machine, commit or version.
        """
        planned = {case.key: case for group in groups for case in group.planned()}
        run = TimingRun(kind=kind, command=command, environment=environment, notes=list(notes), timings=[])
        if path.exists():
            earlier = _read(path)
            if change := _changed(earlier, run):
                raise BenchError(f"{path} was {change}; choose another --out")
            planned |= {case.key: case for case in earlier.timings if case.key in planned}
        file = cls(path, run.model_copy(update={"timings": list(planned.values())}))
        file.write()
        return file

    @property
    def run(self) -> TimingRun:
        """The run as it stands."""
        return self._head.model_copy(update={"timings": list(self._cases.values())})

    def replace(self, timings: Iterable[Timing]) -> None:
        """Put the cases of a group in the place of what stood there, unless more of that had a time; write the file."""
        found = {case.key: case for case in timings}
        before = [self._cases[key] for key in found]
        if sum(case.timed for case in before) <= sum(case.timed for case in found.values()):
            self._cases |= found
            self.write()

    def write(self) -> None:
        """Write the file in one step; raises `StorageError` where it cannot."""
        write_atomically(self.path, self.run.model_dump_json(exclude_defaults=True).encode())

    def missing(self, groups: Sequence[Group]) -> list[Group]:
        """Return the groups with a case that another try may bring, those never measured first.

        A group is measured again as a whole: only what was measured together is compared.
        """
        states = {group.name: [self._cases[case.key] for case in group.planned()] for group in groups}
        open_groups = [group for group in groups if any(_open(case) for case in states[group.name])]
        return sorted(open_groups, key=lambda group: any(case.group_id for case in states[group.name]))


def _open(case: Timing) -> bool:
    return case.status in (Status.SKIPPED, Status.FAILED)


def _read(path: Path) -> TimingRun:
    try:
        return TimingRun.model_validate_json(path.read_bytes())
    except ValidationError:
        raise BenchError(f"{path} is no timing run; move it away or choose another --out") from None


def _changed(earlier: TimingRun, run: TimingRun) -> str:
    """Return how `earlier` differs from what goes on now, or ""."""
    if earlier.kind != run.kind:
        return f"{earlier.kind}, not {run.kind}"
    for name in LASTING:
        then, now = earlier.environment.get(name), run.environment.get(name)
        if then != now:
            return f"measured with {name} {then}, not {now}"
    return ""
