"""Writing the JSON files that `reports` reads, and describing the machine that made them."""

from __future__ import annotations

import json
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from models.device import device_name
from models.errors import ResumeError
from reports.records.document import Document
from reports.records.files import write


def write_result(path: Path, document: Document) -> None:
    """Put `document` at `path` in one step. Raises `StorageError` if it cannot be written there."""
    write(path, document.text())


def environment(device: torch.device) -> dict[str, Any]:
    """Return what decides times and last digits: versions, machine, threads and date."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "device": device_name(device),
        "cpu": device_name(torch.device("cpu")),
        "threads": torch.get_num_threads(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def check_same(what: str, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Raise `ResumeError`, a sentence that begins with `what`, if `new` settings differ from the `old` of a file."""
    if difference := first_difference(old, json.loads(json.dumps(new))):
        raise ResumeError(f"{what} with another {difference}; use another --out or the old setting, or delete it")


def first_difference(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> str | None:
    """Return the first setting in which two dumped configurations differ, as `name (old, now new)`, or None."""
    for name in [*new, *(old.keys() - new.keys())]:
        before, now = old.get(name), new.get(name)
        if isinstance(before, dict) and isinstance(now, dict):
            if inner := first_difference(before, now, f"{prefix}{name}."):
                return inner
        elif before != now:
            return f"{prefix}{name} ({before}, now {now})"
    return None
