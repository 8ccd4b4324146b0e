"""Rows that a user gives: features, or images, in a .npy file.

Letters: N rows, D input width.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor

from bench.errors import BenchError
from models.classifier.checkpoint import Checkpoint
from models.classifier.npy import array
from reports.records.files import read

IMAGES_AT_ONCE = 256


def given_features(loaded: Checkpoint, path: Path, *, images: bool) -> Tensor:
    """Return the features (N, D) in a file, or those of its images; raises `BenchError` for another shape or type."""
    given = _array(path)
    wanted = tuple(loaded.config.input.shape) if images else (loaded.model.head.config.features,)
    if tuple(given.shape[1:]) != wanted:
        takes = f"{loaded.path} takes images" if images else f"the head of {loaded.path} takes features"
        raise BenchError(f"{path} has shape {tuple(given.shape)}; {takes} (N, {', '.join(map(str, wanted))})")
    if not images:
        return given.float()
    if given.dtype != torch.uint8 and (not given.is_floating_point() or ((given < 0) | (given > 1)).any()):
        raise BenchError(f"{path} holds {given.dtype} values; give images as uint8, or as floats from 0 to 1")
    device = next(loaded.model.parameters()).device
    with torch.inference_mode():
        return torch.cat([loaded.model.features(batch.to(device)) for batch in given.split(IMAGES_AT_ONCE)])


def _array(path: Path) -> Tensor:
    """Return the array in a .npy file; raises `BenchError` for any other file."""
    try:
        return torch.from_numpy(array(read(path, sys.maxsize)))
    except OSError as error:
        raise BenchError(f"{path} cannot be read ({error.strerror}); give a .npy file written by numpy.save") from None
    except ValueError as error:
        raise BenchError(f"{path} {error}; give a .npy file written by numpy.save") from None
