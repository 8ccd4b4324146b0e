"""The file of a profiling run: where the time of each form's calls went, and why some forms are left out.

`reports.profile.file` reads it. Times are seconds per call of profiled runs, which are slower than timed ones.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.profile.breakdown import Operator, Part, ToldBy
from bench.profile.trace import Profile
from models.storage import write_atomically

NAME = "profile.json"


@dataclass(frozen=True)
class Profiled:
    """A form at a number of rows, `graph` for replays of its CUDA graph; `traces` relative to the file's folder.

    The other fields are those of `bench.profile.breakdown.Breakdown` and `bench.profile.trace.Profile`.
    """

    form: str
    rows: int
    graph: bool
    calls: int
    told_by: ToldBy
    seconds: float
    busy: float
    gap: float
    host: float
    overlap: float
    launches: float
    parts: dict[str, Part]
    operators: tuple[Operator, ...]
    nodes: tuple[Operator, ...]
    traces: tuple[str, ...]

    @classmethod
    def of(cls, profile: Profile, folder: Path, *, form: str, rows: int, graph: bool) -> Profiled:
        """Return what `profile` shows of a form, its traces as seen from `folder`."""
        seen = profile.breakdown
        return cls(
            form=form,
            rows=rows,
            graph=graph,
            calls=seen.calls,
            told_by=seen.told_by,
            seconds=seen.seconds,
            busy=seen.busy,
            gap=seen.gap,
            host=seen.host,
            overlap=seen.overlap,
            launches=seen.launches,
            parts=seen.parts,
            operators=seen.operators,
            nodes=profile.nodes,
            traces=tuple(str(trace.relative_to(folder)) for trace in profile.traces),
        )


@dataclass(frozen=True)
class LeftOut:
    """A form without a profile, and why."""

    form: str
    rows: int
    graph: bool
    reason: str


@dataclass(frozen=True)
class ProfileFile:
    """All profiles of one head, and what they were taken on; `runs_on` is cpu or cuda."""

    checkpoint: str
    head: str
    policy: str
    dtype: str
    runs_on: str
    versions: dict[str, str]
    environment: dict[str, Any]
    profiles: Sequence[Profiled]
    left_out: Sequence[LeftOut] = field(default=())

    def write(self, path: Path, command: str) -> None:
        """Write it to `path`, all or nothing, with the `command` that made it; raises `StorageError`."""
        content = {"format": 1, "kind": "profile", "command": command, **asdict(self)}
        write_atomically(path, json.dumps(content, indent=1).encode())
