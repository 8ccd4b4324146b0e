"""CIFAR-10, downloaded once by torchvision, which verifies the checksum."""

from __future__ import annotations

import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from models.data.images import DataError, LabelledImages, Source
from models.progress import Progress

_PATIENCE = 30.0  # seconds without an answer until a download fails


def cifar10(cache: Path, progress: Progress) -> Source:
    """Return the 50,000 training and 10,000 test images of 32 x 32 pixels, kept under `cache`.

    Raises `DataError` if they are not there and cannot be downloaded.
    """
    from torchvision.datasets import CIFAR10  # seconds to import, and absent on some machines

    folder = cache / "cifar10"
    if not folder.exists():
        progress.say(f"downloading CIFAR-10 (163 MiB) to {folder}")
    try:
        with _download_settings():
            train, test = (CIFAR10(str(folder), train=part, download=True) for part in (True, False))
    except (OSError, RuntimeError, EOFError) as error:
        raise DataError(
            f"CIFAR-10 could not be downloaded to {folder} ({error}); connect to the internet, or unpack the images "
            "as train/<class>/ and test/<class>/ and pass that folder as --data"
        ) from None
    images = [_images(part.data, part.targets) for part in (train, test)]
    return Source("cifar10", tuple(train.classes), train=images[0], test=images[1])


def _images(pixels: NDArray[np.uint8], labels: list[int]) -> LabelledImages:
    """Return images from pixels (N, 32, 32, 3)."""
    return LabelledImages(torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), torch.tensor(labels))


@contextmanager
def _download_settings() -> Iterator[None]:
    """Time out on a silent server, since torchvision waits forever; hide NumPy 2.4's warning about old pickles."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_PATIENCE)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        socket.setdefaulttimeout(before)
