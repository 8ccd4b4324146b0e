from pathlib import Path

import pytest

from models.storage import StorageError, make_folder, write_atomically


def test_a_file_is_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"first, longer", b"second"):
        write_atomically(path, content)
        assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageError, match=r"cannot write .*file: No space left on device; choose"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"


def test_a_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"cannot create the folder .*Not a directory"):
        make_folder(tmp_path / "file" / "folder")
    with pytest.raises(StorageError, match=r"cannot create the folder .*File exists"):
        make_folder(tmp_path / "file")


def test_a_folder_that_exists_is_kept(tmp_path: Path) -> None:
    (tmp_path / "kept").touch()
    assert make_folder(tmp_path) == tmp_path
    assert make_folder(tmp_path / "a" / "b").is_dir()
    assert (tmp_path / "kept").exists()
