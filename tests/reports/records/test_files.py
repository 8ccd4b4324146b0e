"""Files: replaced in one step through links, never a pipe or a device, and one process at a time where it counts."""

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.rooms import ROOT
from reports.records import files
from reports.records.files import StorageError, alone, check_folder, make_folder, read, read_json, writable, write


def test_a_file_is_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"first, longer", "zweite: \xfc"):
        write(path, content)
        assert path.read_bytes() == (content if isinstance(content, bytes) else content.encode())
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_and_what_it_names_is_written(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for name in ("there", "absent"):
        target, link = tmp_path / "folder" / name, tmp_path / f"to-{name}"
        link.symlink_to(target)
        write(link, "new")
        assert link.is_symlink()
        assert target.read_text() == "new"
    assert len(list((tmp_path / "folder").iterdir())) == 2


def a_link(path: Path, to: str) -> None:
    path.symlink_to(to)


REFUSED: dict[str, Callable[[Path], None]] = {
    "pipe": os.mkfifo,
    "folder": Path.mkdir,
    "device": lambda path: a_link(path, "/dev/full"),
    "circle": lambda path: a_link(path, path.name),
    "link to a pipe": lambda path: (os.mkfifo(path.with_name("p")), a_link(path, "p"))[1],
}


@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED)
def test_what_is_no_regular_file_is_neither_written_nor_read(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "odd"
    make(path)
    before = path.lstat()
    for call in (writable, lambda path: write(path, b"new")):
        with pytest.raises(StorageError, match=r"cannot write .*odd: it is no regular file; choose another name"):
            call(path)
    assert os.path.samestat(path.lstat(), before)
    with pytest.raises(OSError, match=r"it is no regular file|Too many levels of symbolic links") as caught:
        read(path)
    assert caught.value.strerror


def test_a_file_larger_than_expected_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1234")
    assert read(tmp_path / "file", 4) == b"1234"
    with pytest.raises(OSError, match="it has more than 3 bytes"):
        read(tmp_path / "file", 3)
    os.truncate(tmp_path / "file", 2**40)
    with pytest.raises(OSError, match=r"it has more than 1,073,741,824 bytes"):
        read(tmp_path / "file")


@pytest.mark.parametrize("text", [b"[" * 10**5, b"{", b"", b"\xff"])
def test_what_is_no_json_is_a_value_error(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "file").write_bytes(text)
    with pytest.raises(ValueError, match=r".+"):
        read_json(tmp_path / "file")


def test_a_failed_write_names_the_file_and_leaves_the_old_one_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write(path, b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageError, match=r"cannot write .*file: No space left on device; choose"):
        write(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


KILLED = """
import os, signal, sys
from pathlib import Path
from reports.records import files
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
with files.alone(Path(sys.argv[1])):
    files.write(Path(sys.argv[1]), b"x" * 10_000)
"""


def test_what_a_killed_writer_left_goes_with_the_next_write(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write(path, b"old")
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 3  # its draft and its lock
    with alone(path):
        write(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_writers_at_once_leave_one_of_their_files_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    contents = [bytes([number]) * 50_000 for number in range(8)]
    writers = [threading.Thread(target=write, args=(path, content)) for content in contents * 4]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert path.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [path]


def test_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    with alone(path):
        with pytest.raises(StorageError, match=r"another moegap is writing .*file; wait until it ends"), alone(path):
            pass
        with alone(path.with_name("other")):
            pass
        write(path, b"")
    with alone(path):
        pass
    assert list(path.parent.iterdir()) == [path]


def test_a_file_system_without_locks_keeps_nobody_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(files.fcntl, "flock", unknown)
    with alone(tmp_path / "file"), alone(tmp_path / "file"):
        write(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "new"


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"there is no folder .*absent; name a file in one that exists"):
        write(tmp_path / "absent" / "file", b"")


def test_a_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"cannot create the folder .*Not a directory"):
        make_folder(tmp_path / "file" / "folder")
    with pytest.raises(StorageError, match=r"cannot create the folder .*File exists"):
        make_folder(tmp_path / "file")
    with pytest.raises(StorageError, match="file is not a folder; name a folder"):
        check_folder(tmp_path / "file")


def test_a_folder_that_exists_is_kept(tmp_path: Path) -> None:
    (tmp_path / "kept").touch()
    assert make_folder(tmp_path) == tmp_path
    assert make_folder(tmp_path / "a" / "b").is_dir()
    assert (tmp_path / "kept").exists()
    check_folder(tmp_path)
    check_folder(tmp_path / "absent")
