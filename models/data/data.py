"""Data ready for training: three parts of one source, and the statistics of the training part.

Letters: N images, C channels, H and W their height and width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from models.data.cifar10 import cifar10
from models.data.digits import digits
from models.data.domains import JOIN, check_names, mixture
from models.data.image_folder import image_folder
from models.data.images import DataError, LabelledImages, Source
from models.progress import SILENT, Progress

CACHE = Path("runs/cache")
"""Holds downloads and decoded images, below the folder in which a command runs."""
NAMED: dict[str, Callable[[Path, Progress], Source]] = {"digits": lambda *_: digits(), "cifar10": cifar10}
"""The sources that have a name; any other is a folder."""
_TEST_ORDER_SEED = 0


@dataclass(frozen=True, eq=False, kw_only=True)
class Dataset(Source):
    """A source in three disjoint parts: `train` to learn from, `val` to choose the best epoch, `test` to report.

    `mean` and `std` (C,) are those of the training part's values in [0, 1]. `digest` changes with any image or label of
    the training and validation parts.
    """

    val: LabelledImages
    mean: tuple[float, ...]
    std: tuple[float, ...]
    digest: str

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width


def load_data(
    source: str, *, val_share: float = 0.1, split_seed: int = 42, cache: Path = CACHE, progress: Progress = SILENT
) -> Dataset:
    """Return the data named `source`: `digits`, `cifar10` or a folder with train/<class>/ and test/<class>/.

    Sources joined by + are a mixture (`models.data.domains`). The validation part is a random `val_share` of the
    training images, drawn with `split_seed`. Raises `DataError` for an unknown, unreachable or unusable source.
    """
    return split(_read(source, cache, progress), val_share, split_seed)


def name_of(source: str) -> str:
    """Return the name of the data `source`: of a folder its last part, of a mixture the joined names of its sources."""
    return JOIN.join(Path(name).resolve().name for name in _sources(source))


def _sources(source: str) -> list[str]:
    """Return the sources of a mixture, or the single source: a folder may have a plus in its name."""
    return [source] if Path(source).is_dir() else source.split(JOIN)


def _read(source: str, cache: Path, progress: Progress) -> Source:
    names = _sources(source)
    if len(names) == 1:
        return _read_one(source, cache, progress)
    if unknown := [name for name in names if name not in NAMED and not (name and Path(name).is_dir())]:
        raise DataError(
            f"{source!r} joins sources by {JOIN}, and {unknown[0]!r} is none; choose digits, cifar10 and folders with "
            f"train/ and test/ inside and no {JOIN} in their names"
        )
    check_names([Path(name).resolve().name for name in names])  # before any download
    return mixture([_read_one(name, cache, progress) for name in names])


def _read_one(source: str, cache: Path, progress: Progress) -> Source:
    if source in NAMED:
        return NAMED[source](cache, progress)
    if Path(source).is_dir():
        return image_folder(Path(source), cache, progress)
    raise DataError(
        f"unknown data {source!r}; choose digits, cifar10 or a folder with train/ and test/ inside, or several joined "
        f"by {JOIN}"
    )


def split(source: Source, val_share: float, seed: int) -> Dataset:
    """Return the source with `val_share` of its training images set aside for validation.

    Test images are shuffled, in the same order for every seed. So their batches are similar even if a source sorts its
    images by class, which matters to routing policies that couple the rows of a batch.
    """
    total = len(source.train)
    held_out = round(total * val_share)
    if held_out < 1 or total - held_out < 2:
        raise DataError(
            f"{source.name} has {total} training images, and a validation share of {val_share:g} takes "
            f"{held_out}; at least 1 must go and 2 must stay: change --val-share or add images"
        )
    order = torch.randperm(total, generator=torch.Generator().manual_seed(seed))
    train = source.train[order[held_out:]]
    test_order = torch.randperm(len(source.test), generator=torch.Generator().manual_seed(_TEST_ORDER_SEED))
    mean, std = channel_statistics(train.images)
    return Dataset(
        name=source.name,
        classes=source.classes,
        train=train,
        val=source.train[order[:held_out]],
        test=source.test[test_order],
        mean=mean,
        std=std,
        digest=digest_of(source.train),
        domains=source.domains,
        domain_of_class=source.domain_of_class,
    )


def channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation (C,) of images (N, C, H, W) uint8 on the scale [0, 1], from exact counts.

    The deviation is at least 1/255, one step of uint8, so that a channel of one colour can be divided by it.
    """
    levels = torch.arange(256, dtype=torch.float64) / 255
    counts = torch.stack([channel.flatten().bincount(minlength=256) for channel in images.unbind(1)])  # (C, 256)
    shares = counts / counts.sum(dim=1, keepdim=True, dtype=torch.float64)
    mean = shares @ levels  # (C,)
    variance = (shares * (levels - mean[:, None]).square()).sum(dim=1)
    return tuple(mean.tolist()), tuple(variance.sqrt().clamp_min(1 / 255).tolist())


def digest_of(images: LabelledImages) -> str:
    """Return a digest of images and labels in their order."""
    hasher = hashlib.sha256(repr(tuple(images.images.shape)).encode())
    for tensor in (images.images, images.labels):
        hasher.update(tensor.contiguous().numpy().data)
    return hasher.hexdigest()
