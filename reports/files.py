"""Files given to a report, each a JSON object or told in one sentence to be none, and files that it writes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from reports.errors import ReportError

Content = dict[str, Any]


def read(paths: Iterable[Path]) -> dict[Path, Content]:
    """Return the object in each file, in the order given, a file named twice once; of a folder all its JSON files."""
    files = [file for path in paths for file in _files(path)]
    return {path: _object(path) for path in {os.path.realpath(path): path for path in files}.values()}


def check_folder(out: Path) -> None:
    """Raise `ReportError` where something that is no folder is in the way of one to write a report into."""
    if out.exists() and not out.is_dir():
        raise ReportError(f"{out} is not a folder: name a folder to write the report into.")


def write(path: Path, text: str) -> None:
    """Replace the file at `path` whole, or leave it as it was; raises `OSError` where it cannot be written."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Replace the file at `path` as `write` does."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_bytes(content)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(path.rglob("*.json"))
    if not files:
        raise ReportError(f"{path} holds no JSON file: name a folder of results, or run a benchmark first.")
    return files


def _object(source: Path) -> Content:
    if source.exists() and not source.is_file() and not source.is_dir():
        raise ReportError(f"{source} is a pipe or a device: give a result file.")
    try:
        content = json.loads(source.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ReportError(f"{source} does not exist: check the path, or run a benchmark first.") from None
    except OSError as error:
        raise ReportError(f"{source} cannot be read ({error.strerror}): give a readable result file.") from None
    except (ValueError, RecursionError):
        raise ReportError(
            f"{source} is not JSON, or was cut off: run the command that wrote it again, or repair the file."
        ) from None
    if not isinstance(content, dict):
        raise ReportError(f"{source} is not a pytest-benchmark file: give one written with --benchmark-json.")
    return content
