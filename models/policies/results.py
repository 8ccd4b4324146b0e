"""policies.json, what a policy study has found so far: written whole after every run, read again to go on.

data, preset, epochs  what was trained
settings              everything else that all runs have in common
parameters            of each contender's head, by its label
domains               the sources of a mixture, else null
runs                  one object per contender and seed, seed by seed
failed                contenders and seeds that ended without a result in the last call, and why
rows, latency         of the trained heads in every form
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from models.errors import ResumeError
from models.policies.contenders import rank
from models.result_file import first_difference, write_result

FILE = "policies.json"
COMMON = ("data", "preset", "epochs", "settings")
"""What must stay the same for a study to go on; contenders and seeds may be added."""


class PolicyResults:
    """The results in the folder `out` of a study that `about` describes up to `domains`.

    Raises `ResumeError` if the folder holds another study, or a file that is none.
    """

    def __init__(self, out: Path, about: dict[str, Any], *, command: str, environment: dict[str, Any]) -> None:
        self.path, self.about = out / FILE, about
        self.command, self.environment = command, environment
        self.runs: list[dict[str, Any]] = []
        self.failed: list[dict[str, Any]] = []
        self.latency: list[dict[str, Any]] = []
        self.rows = 0
        if self.path.exists():
            self._read()

    def _read(self) -> None:
        try:
            old = json.loads(self.path.read_bytes())
            then = {"kind": old["kind"], **{name: old[name] for name in COMMON}}
            self.runs, self.latency, self.rows = list(old["runs"]), list(old["latency"]), int(old["rows"])
            self.runs.sort(key=_place)
            self.latency.sort(key=lambda part: rank(part["policy"]))
        except (OSError, ValueError, KeyError, TypeError):
            raise ResumeError(f"{self.path} is no policy study that can be continued; use another --out") from None
        now = json.loads(json.dumps({"kind": "policies", **{name: self.about[name] for name in COMMON}}))
        if difference := first_difference(then, now):
            raise ResumeError(f"{self.path} was made with another {difference}; use another --out or the old setting")

    def has(self, label: str, seed: int) -> bool:
        """Return whether this run is finished."""
        return any((run["policy"], run["seed"]) == (label, seed) for run in self.runs)

    def add(self, run: dict[str, Any]) -> None:
        """Add a finished run, and write the file."""
        self.runs = sorted([*self.runs, run], key=_place)
        self.write()

    def fail(self, label: str, seed: int, reason: str) -> None:
        """Note that a run failed, and write the file if it has any run."""
        self.failed.append({"policy": label, "seed": seed, "reason": reason})
        if self.runs:
            self.write()

    def write(self) -> None:
        """Write the file."""
        found = {"runs": self.runs, "failed": self.failed, "rows": self.rows, "latency": self.latency}
        write_result(
            self.path, "policies", command=self.command, environment=self.environment, content=self.about | found
        )


def _place(run: dict[str, Any]) -> tuple[int, tuple[int, str]]:
    return int(run["seed"]), rank(run["policy"])
