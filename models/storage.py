"""Writing files in one step, so that nobody ever reads half a file, even after a killed run."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

from models.errors import ModelError

TRAINING = "training"
"""The folder, inside that of a checkpoint, that holds an unfinished training."""


class StorageError(ModelError):
    """A file or folder that cannot be written."""


def make_folder(path: Path) -> Path:
    """Create the folder and its parents if they are missing, and return it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot create the folder {path}: {error.strerror}; choose another one") from None
    return path


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to `path` in one step: a reader sees the old file or the whole new one."""
    path = path.resolve()  # through a link, to the file it names
    if path.exists() and not path.is_file():
        raise StorageError(f"cannot write {path}: it is no regular file; choose another name")
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise StorageError(
            f"cannot write {path}: {error.strerror}; choose a folder that you may write to, with space left"
        ) from None
