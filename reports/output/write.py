"""Files that a report writes, each replaced whole or left as it was."""

from __future__ import annotations

import os
from pathlib import Path

from reports.errors import ReportError


def check_folder(out: Path) -> None:
    """Raise `ReportError` if `out` exists and is no folder."""
    if out.exists() and not out.is_dir():
        raise ReportError(f"{out} is not a folder: name a folder to write the report into.")


def write(path: Path, text: str) -> None:
    """Replace the file at `path` whole, or leave it as it was; raises `OSError` if it cannot be written."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Replace the file at `path` as `write` does."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_bytes(content)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
