"""Rows that a user gives: features, or images, in a .npy file.

Letters: N rows, D input width.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bench.errors import BenchError
from models.classifier.checkpoint import Checkpoint

IMAGES_AT_ONCE = 256


def given_features(loaded: Checkpoint, path: Path, *, images: bool) -> Tensor:
    """Return the features (N, D) in a file, or those of its images; raises `BenchError` for another shape or type."""
    array = _array(path)
    wanted = tuple(loaded.config.input.shape) if images else (loaded.model.head.config.features,)
    if tuple(array.shape[1:]) != wanted:
        takes = f"{loaded.path} takes images" if images else f"the head of {loaded.path} takes features"
        raise BenchError(f"{path} has shape {tuple(array.shape)}; {takes} (N, {', '.join(map(str, wanted))})")
    if not images:
        return array.float()
    if array.dtype != torch.uint8 and (not array.is_floating_point() or ((array < 0) | (array > 1)).any()):
        raise BenchError(f"{path} holds {array.dtype} values; give images as uint8, or as floats from 0 to 1")
    device = next(loaded.model.parameters()).device
    with torch.inference_mode():
        return torch.cat([loaded.model.features(batch.to(device)) for batch in array.split(IMAGES_AT_ONCE)])


def _array(path: Path) -> Tensor:
    """Return the array in a .npy file; raises `BenchError` for any other file."""
    if not path.is_file():
        raise BenchError(f"{path} is no file; give a .npy file written by numpy.save")
    try:
        with path.open("rb") as file:
            array = np.load(file, allow_pickle=False)
    except (ValueError, EOFError, OSError, MemoryError):
        raise BenchError(f"{path} is no readable .npy file; write it with numpy.save") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu" or array.dtype.itemsize > 8:
        raise BenchError(f"{path} holds {getattr(array, 'dtype', 'several arrays')}, not one array of real numbers")
    return torch.from_numpy(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("=")))
