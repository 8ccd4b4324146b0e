"""The finished pieces of a measurement, so that a killed measurement continues where it was.

FOLDER/pieces.json           the settings, and the results of the finished pieces
FOLDER/PIECE.safetensors     vectors that later pieces need
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from models.errors import ResumeError
from models.result_file import check_same
from reports.records.files import make_folder, read, read_json, write

FILE = "pieces.json"


class FinishedPieces:
    """The finished pieces by name, in `folder`, of the measurement that `about` describes.

    Raises `ResumeError` if the folder holds another measurement, or an unreadable file.
    """

    def __init__(self, folder: Path, about: dict[str, Any]) -> None:
        self.folder, self.about = folder, about
        self.pieces: dict[str, Any] = {}
        if (folder / FILE).exists():
            self._read()

    def _read(self) -> None:
        try:
            old = read_json(self.folder / FILE)
            then, pieces = old["about"], dict(old["pieces"])
        except (OSError, ValueError, KeyError, TypeError):
            raise ResumeError(
                f"{self.folder / FILE} cannot be read; delete {self.folder} to measure from the beginning"
            ) from None
        check_same(f"{self.folder} holds an unfinished measurement", then, self.about)
        self.pieces = pieces

    def piece(self, name: str, measure: Callable[[], Any]) -> Any:
        """Return the piece `name`; call `measure` only if it is not there yet."""
        if name not in self.pieces:
            self.pieces[name] = json.loads(json.dumps(measure(), allow_nan=False))  # as a later call will read it
            make_folder(self.folder)
            content = {"about": self.about, "pieces": self.pieces}
            write(self.folder / FILE, json.dumps(content, allow_nan=False))
        return self.pieces[name]

    def keep(self, name: str, vector: Tensor) -> None:
        """Write a vector (P,) that pieces after `name` need."""
        make_folder(self.folder)
        write(self._vector(name), save({"vector": vector.detach().cpu().contiguous()}))

    def kept(self, name: str) -> Tensor:
        """Return the vector of the piece `name`."""
        path = self._vector(name)
        try:
            return load(read(path, sys.maxsize))["vector"]
        except (OSError, SafetensorError, KeyError):
            raise ResumeError(f"{path} cannot be read; delete {self.folder} to measure from the beginning") from None

    def remove(self) -> None:
        """Delete the folder: the measurement is finished."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _vector(self, name: str) -> Path:
        return self.folder / f"{name.replace('/', '-').replace(' ', '-')}.safetensors"
