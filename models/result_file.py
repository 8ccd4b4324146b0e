"""The JSON files that trainings leave for `reports`: what they are, what made them, and where."""

from __future__ import annotations

import json
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from models.device import device_name
from models.storage import write_atomically

FORMAT = 1


def write_result(path: Path, kind: str, *, command: str, environment: dict[str, Any], content: dict[str, Any]) -> None:
    """Put `content` at `path` in one step. Raises `ValueError` for a number that JSON has not, NaN or infinite."""
    about = {"format": FORMAT, "kind": kind, "command": command, "environment": environment}
    write_atomically(path, json.dumps(about | content, indent=1, allow_nan=False).encode() + b"\n")


def environment(device: torch.device) -> dict[str, Any]:
    """Return what decides times and last digits, as it is now."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "device": device_name(device),
        "cpu": device_name(torch.device("cpu")),
        "threads": torch.get_num_threads(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


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
