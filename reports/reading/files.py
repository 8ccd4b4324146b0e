"""Files that a report reads, each a JSON object or refused in one sentence."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reports.errors import ReportError
from reports.records.files import read_json

Content = dict[str, Any]
WRITTEN_BY = "give a file that `moegap bench`, `train`, `policies`, `sharpness`, `profile` or `targets` wrote"


@dataclass(frozen=True)
class SearchResult:
    """The contents of files, and the files of folders that were left out because they hold no result."""

    contents: dict[Path, Content]
    left_out: tuple[Path, ...]


def read(paths: Iterable[Path]) -> dict[Path, Content]:
    """Return the object in each file, in order; a file that is named twice counts once."""
    return {path: _object(path) for path in {os.path.realpath(path): path for path in paths}.values()}


def search(paths: Iterable[Path]) -> SearchResult:
    """Return the object in each file, and the results among the JSON files of each folder, at any depth.

    Raises `ReportError` if a named file is no JSON object, or if a folder holds no result.
    """
    named: dict[str, tuple[Path, Content]] = {}
    left_out: list[Path] = []
    for path in paths:
        inside: dict[Path, Content | None]
        if path.is_dir():
            inside = {file: _result(file) for file in sorted(path.rglob("*.json"))}
        else:
            inside = {path: _object(path)}
        results = {file: content for file, content in inside.items() if content is not None}
        if not results:
            raise ReportError(f"{path} holds no result: name a folder with results, or run a benchmark first.")
        named |= {os.path.realpath(file): (file, content) for file, content in results.items()}
        left_out += [file for file in inside if file not in results]
    return SearchResult(dict(named.values()), tuple(left_out))


def _result(file: Path) -> Content | None:
    """Return the object in a file if it is a result of any kind, else None."""
    try:
        content = _object(file)
    except ReportError:
        return None
    return content if "benchmarks" in content or "kind" in content else None


def _object(source: Path) -> Content:
    try:
        content = read_json(source)
    except FileNotFoundError:
        raise ReportError(f"{source} does not exist: check the path, or run a benchmark first.") from None
    except OSError as error:
        raise ReportError(f"{source} cannot be read ({error.strerror}): give a readable result file.") from None
    except ValueError:
        raise ReportError(
            f"{source} is not JSON, or was cut off: run the command that wrote it again, or repair the file."
        ) from None
    if not isinstance(content, dict):
        raise ReportError(f"{source} holds no result: {WRITTEN_BY}.")
    return content
