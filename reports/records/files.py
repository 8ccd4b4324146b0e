"""How every room reads and writes files.

A file is replaced in one step, so nobody ever reads half a file, even after a killed run. Links are followed. Only
regular files are read and written: a pipe would hang, and a device has no end.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from reports.errors import ReportError

LARGEST = 2**30
"""Bytes of a file that is read whole, unless its reader expects more."""


class StorageError(ReportError):
    """A file or folder that cannot be written."""


def make_folder(path: Path) -> Path:
    """Create the folder and its parents if they are missing, and return it; raises `StorageError`."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot create the folder {path}: {error.strerror}; choose another one") from None
    return path


def check_folder(path: Path) -> None:
    """Raise `StorageError` if `path` exists and is no folder."""
    if os.path.lexists(path) and not path.is_dir():
        raise StorageError(f"{path} is not a folder; name a folder")


def writable(path: Path) -> Path:
    """Return the file that `path` names, through links, whether or not it exists.

    Raises `StorageError` for anything but a regular file, and for a folder that is missing or takes no files.
    """
    file = Path(os.path.realpath(path))
    try:
        if not stat.S_ISREG(file.lstat().st_mode):
            raise StorageError(f"cannot write {path}: it is no regular file; choose another name")
    except FileNotFoundError:
        pass
    except OSError as error:
        raise _unwritable(path, error) from None
    if not file.parent.is_dir():
        raise StorageError(f"cannot write {path}: there is no folder {file.parent}; name a file in one that exists")
    if not os.access(file.parent, os.W_OK):
        raise _unwritable(path, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
    return file


def write(path: Path, content: bytes | str) -> None:
    """Replace the file at `path` in one step, or leave it as it was; raises `StorageError` if it cannot be written.

    What a killed call left beside it is overwritten.
    """
    file = writable(path)
    draft = file.with_name(f".{file.name}.tmp")
    try:
        with _locked(draft, wait=True) as opened:
            try:
                opened.truncate()
                opened.write(content.encode() if isinstance(content, str) else content)
                opened.flush()
                os.fsync(opened.fileno())
                draft.replace(file)
            except BaseException:
                with contextlib.suppress(OSError):
                    draft.unlink()
                raise
    except OSError as error:
        raise _unwritable(path, error) from None


def read(path: Path, most: int = LARGEST) -> bytes:
    """Return the content of a regular file of at most `most` bytes.

    Raises `OSError`, whose `strerror` says what is wrong, for any other file.
    """
    with _opened(path) as file:
        if os.fstat(file.fileno()).st_size > most:
            raise OSError(errno.EFBIG, f"it has more than {most:,} bytes", str(path))
        return file.read()


def check_regular(path: Path) -> None:
    """Raise `OSError` as `read` does, for a library that then reads the file itself."""
    _opened(path).close()


def _opened(path: Path) -> BinaryIO:
    """Return a regular file, open; raises `OSError` for any other, without waiting for the other end of a pipe."""
    place = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(place).st_mode):
        os.close(place)
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return os.fdopen(place, "rb")


def read_json(path: Path, most: int = LARGEST) -> Any:
    """Return the JSON value in a file; raises `OSError` as `read` does, and `ValueError` for text that is no JSON."""
    try:
        return json.loads(read(path, most))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Keep other processes, and other calls of this one, from what is built up at `path`, a file or a folder.

    Raises `StorageError` if one is at it. A file system without locks keeps nobody away.
    """
    place = Path(os.path.realpath(path))
    made = [folder for folder in place.parents if not folder.exists()]
    lock = make_folder(place.parent) / f".{place.name}.lock"
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(_locked(lock, wait=False))
        except BlockingIOError:
            raise StorageError(
                f"another moegap is writing {path}; wait until it ends, or choose another --out"
            ) from None
        except OSError as error:
            raise _unwritable(path, error) from None
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # nothing was built up if they are empty
                for folder in made:
                    folder.rmdir()


@contextmanager
def _locked(path: Path, *, wait: bool) -> Iterator[BinaryIO]:
    """Yield the file at `path`, made if need be and locked; if another has it, `wait` or raise `BlockingIOError`."""
    while True:
        place = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        with os.fdopen(place, "r+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                raise
            except OSError:
                pass  # a file system without locks
            if _is_at(file, path):
                yield file
                return


def _is_at(file: BinaryIO, path: Path) -> bool:
    """Return whether `path` still names the open file, which whoever held the lock may have moved or deleted."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.lstat())
    return False


def _unwritable(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"cannot write {path}: {error.strerror or error}; choose a folder that you may write to, with space left"
    )
