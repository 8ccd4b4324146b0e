"""CIFAR-10 from a server of our own, with a few images in the format of the real archive."""

import hashlib
import http.server
import io
import pickle
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import CIFAR10

from models.data.data import load_data
from models.data.images import DataError

BATCHES = ["data_batch_1", "data_batch_2", "test_batch"]
CLASSES = ["airplane", "automobile", "bird"]


def archive() -> tuple[bytes, dict[str, str]]:
    """Return a .tar.gz of three batches and a list of classes, and the MD5 of each file inside."""
    generator = np.random.default_rng(0)
    batch = lambda: {"data": generator.integers(0, 256, (6, 3072), dtype=np.uint8), "labels": [0, 1, 2, 0, 1, 2]}  # noqa: E731
    contents = {name: pickle.dumps(batch()) for name in BATCHES} | {
        "batches.meta": pickle.dumps({"label_names": CLASSES})
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in contents.items():
            entry = tarfile.TarInfo(f"{CIFAR10.base_folder}/{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue(), {name: hashlib.md5(content).hexdigest() for name, content in contents.items()}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Serve the archive, point torchvision at it, and yield the folder that is served."""
    content, md5 = archive()
    served = tmp_path / "served"
    served.mkdir()
    (served / CIFAR10.filename).write_bytes(content)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(served))  # type: ignore[arg-type]

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:{httpd.server_port}/{CIFAR10.filename}")
        monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(content).hexdigest())
        monkeypatch.setattr(CIFAR10, "train_list", [[name, md5[name]] for name in BATCHES[:2]])
        monkeypatch.setattr(CIFAR10, "test_list", [[name, md5[name]] for name in BATCHES[2:]])
        monkeypatch.setattr(
            CIFAR10, "meta", {"filename": "batches.meta", "key": "label_names", "md5": md5["batches.meta"]}
        )
        yield served
        httpd.shutdown()
        thread.join()


def test_download_and_second_read(server: Path, tmp_path: Path) -> None:
    data = load_data("cifar10", val_share=0.25, cache=tmp_path)
    assert data.classes == tuple(CLASSES)
    assert [len(part) for part in (data.train, data.val, data.test)] == [9, 3, 6]
    assert data.input_shape == (3, 32, 32)
    (server / CIFAR10.filename).unlink()
    assert load_data("cifar10", val_share=0.25, cache=tmp_path).digest == data.digest


def test_a_wrong_checksum_is_refused(server: Path, tmp_path: Path) -> None:
    with (server / CIFAR10.filename).open("ab") as file:
        file.write(b"more")
    with pytest.raises(DataError, match=r"CIFAR-10 could not be downloaded.*pass that folder as --data"):
        load_data("cifar10", cache=tmp_path)


def test_no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:9/none.tar.gz")
    with pytest.raises(DataError, match=r"CIFAR-10 could not be downloaded to .*connect to the internet") as caught:
        load_data("cifar10", cache=tmp_path)
    assert "\n" not in str(caught.value)
