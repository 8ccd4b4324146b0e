"""Folders of small images for tests: each class has its own colour, under noise."""

from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"blue": (40, 60, 200), "green": (40, 180, 60), "red": (200, 50, 40)}


def write_folder(
    folder: Path,
    train: int = 8,
    test: int = 4,
    size: tuple[int, int] = (32, 32),
    classes: tuple[str, ...] = ("blue", "red"),
) -> Path:
    """Write `train` and `test` PNG images per class of `size` (width, height) below `folder` and return it."""
    generator = np.random.default_rng(0)
    for part, count in (("train", train), ("test", test)):
        for name in classes:
            (folder / part / name).mkdir(parents=True)
            for number in range(count):
                noise = generator.normal(0, 40, (size[1], size[0], 3))
                pixels = np.clip(np.array(COLOURS[name]) + noise, 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / part / name / f"{number:04}.png")
    return folder
