"""The results of a policy study so far, in policies.json: written after every run, read by the call that continues."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from models.errors import ResumeError
from models.policies.contenders import rank
from models.result_file import check_same, write_result
from reports.records.files import read
from reports.records.policy_study import Failure, Latency, PolicyRun, PolicyStudy

FILE = "policies.json"
COMMON = ("data", "preset", "epochs", "settings")
"""Fields that must stay the same for a study to continue; contenders and seeds may be added."""


class PolicyResults:
    """The results in the folder `out`; `about` has the fields of `PolicyStudy` that describe the study as a whole.

    Raises `ResumeError` if the folder holds another study, or a file that is no study.
    """

    def __init__(self, out: Path, about: dict[str, Any], *, command: str, environment: dict[str, Any]) -> None:
        self.path, self.about = out / FILE, about
        self.command, self.environment = command, environment
        self.runs: list[PolicyRun] = []
        self.failed: list[Failure] = []
        self.latency: list[Latency] = []
        self.rows = 0
        if self.path.exists():
            self._read()

    def _read(self) -> None:
        try:
            study = PolicyStudy.model_validate_json(read(self.path))
            self.runs = sorted(study.runs, key=_place)
            self.latency = sorted(study.latency, key=lambda part: rank(part.policy))
        except (OSError, ValueError):
            raise ResumeError(f"{self.path} is no policy study that can be continued; use another --out") from None
        then = {name: getattr(study, name) for name in COMMON}
        check_same(f"{self.path} holds a study", then, {name: self.about[name] for name in COMMON})
        self.rows = study.rows or 0

    def has(self, label: str, seed: int) -> bool:
        """Return whether this run is finished."""
        return any((run.policy, run.seed) == (label, seed) for run in self.runs)

    def add(self, run: PolicyRun) -> None:
        """Add a finished run, and write the file."""
        self.runs = sorted([*self.runs, run], key=_place)
        self.write()

    def fail(self, label: str, seed: int, reason: str) -> None:
        """Note that a run failed, and write the file if it has any run."""
        self.failed.append(Failure(policy=label, seed=seed, reason=reason))
        if self.runs:
            self.write()

    def write(self) -> None:
        """Write the file."""
        study = PolicyStudy(
            format=1,
            kind="policies",
            command=self.command,
            environment=self.environment,
            **self.about,
            runs=tuple(self.runs),
            failed=tuple(self.failed),
            rows=self.rows,
            latency=tuple(self.latency),
        )
        write_result(self.path, study)


def _place(run: PolicyRun) -> tuple[int, tuple[int, str]]:
    return run.seed, rank(run.policy)
