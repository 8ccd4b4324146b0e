"""Any folder with images in train/<class>/ and test/<class>/, decoded once and cached.

Letters: N images; all become 3 channels of 32 x 32 pixels.
"""

from __future__ import annotations

import hashlib
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load, save

from models.data.images import DataError, LabelledImages, Source
from models.progress import Progress
from reports.records.files import make_folder, read, write

SIDE = 32
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
PARTS = ("train", "test")


def image_folder(folder: Path, cache: Path, progress: Progress) -> Source:
    """Return the images below `folder`; later calls read them from `cache`, until a file changes.

    Raises `DataError` for a missing part, classes that differ between the parts, fewer than two of them, a class
    without images, or an image that cannot be decoded.
    """
    classes = _classes(folder)
    files = {part: [_images_of(folder / part / name) for name in classes] for part in PARTS}
    cached = cache / f"{folder.resolve().name}-{_key(folder, files)}.safetensors"
    parts = _read(cached)
    if parts is None:
        parts = {part: _decode(files[part], progress, f"decoding {folder / part}") for part in PARTS}
        make_folder(cache)
        fields = {f"{name}.{field}": tensor for name, part in parts.items() for field, tensor in vars(part).items()}
        write(cached, save(fields))
    return Source(folder.resolve().name, classes, parts["train"], parts["test"])


def _classes(folder: Path) -> tuple[str, ...]:
    for part in PARTS:
        if not (folder / part).is_dir():
            raise DataError(f"{folder} has no {part}/ folder; lay it out as train/<class>/ and test/<class>/")
    train, test = (
        {path.name for path in (folder / part).iterdir() if path.is_dir() and not path.name.startswith(".")}
        for part in PARTS
    )
    if train != test:
        lonely = sorted(train ^ test)[0]
        there, missing = PARTS if lonely in train else reversed(PARTS)
        raise DataError(
            f"class {lonely!r} is in {folder / there} but not in {folder / missing}; both need the same classes"
        )
    if len(train) < 2:
        raise DataError(f"{folder / 'train'} has {len(train)} class folders; a classifier needs two or more")
    return tuple(sorted(train))


def _images_of(folder: Path) -> list[Path]:
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not files:
        raise DataError(f"{folder} holds no images ({', '.join(SUFFIXES)}); add some or remove the folder")
    return files


def _key(folder: Path, files: dict[str, list[list[Path]]]) -> str:
    """Return a digest of the folder and of the names, sizes and times of its images."""
    hasher = hashlib.sha256(f"{folder.resolve()} {SIDE}".encode())
    for path in (path for part in PARTS for group in files[part] for path in group):
        stat = path.stat()
        hasher.update(f"\n{path.relative_to(folder)} {stat.st_size} {stat.st_mtime_ns}".encode())
    return hasher.hexdigest()[:16]


def _decode(files: list[list[Path]], progress: Progress, description: str) -> LabelledImages:
    paths = [path for group in files for path in group]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            with progress.track(pool.map(_pixels, paths), len(paths), description) as decoded:
                images = list(decoded)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    labels = torch.arange(len(files)).repeat_interleave(torch.tensor([len(group) for group in files]))
    return LabelledImages(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(), labels)


def _pixels(path: Path) -> NDArray[np.uint8]:
    """Return the image's pixels (32, 32, 3) uint8."""
    try:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
            if image.size != (SIDE, SIDE):
                image = image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            return np.asarray(image)
    except Exception as error:  # Pillow's decoders raise many kinds
        raise DataError(f"{path} cannot be decoded as an image ({error}); repair or remove it") from None


def _read(cached: Path) -> dict[str, LabelledImages] | None:
    """Return the cached parts, or None if there is no complete file."""
    try:
        tensors = load(read(cached, sys.maxsize))
        return {part: LabelledImages(tensors[f"{part}.images"], tensors[f"{part}.labels"]) for part in PARTS}
    except (OSError, SafetensorError, KeyError):
        return None
