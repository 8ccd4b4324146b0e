"""The features of a trained backbone for all images, as data on which a head alone trains in seconds.

The backbone learned from the training images, so their features differ more from those of test images than the images
themselves do. This affects all heads trained on them equally, but their accuracies do not predict those of whole
models.

Letters: N images, D features.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from models.classifier.checkpoint import WEIGHTS, Checkpoint
from models.classifier.evaluate import BATCH
from models.data.data import Dataset, digest_of
from models.data.images import DataError, LabelledImages
from models.progress import Progress
from reports.records.files import check_regular, write

PARTS = ("train", "val", "test")


def frozen_features(source: Checkpoint, data: Dataset, kept: Path, device: torch.device, progress: Progress) -> Dataset:
    """Return `data` with each image replaced by its features (D, 1, 1) float32 from the backbone of `source`.

    A model with backbone `identity` sees them with mean 0 and deviation 1 over the training images: on raw features,
    which are large and positive, some routing policies collapse to one expert. The file `kept` keeps them, and is read
    as long as weights and images stay the same. Raises `DataError` for images that the backbone does not take.
    """
    if data.input_shape != source.config.input.shape:
        raise DataError(
            f"{source.path} takes images of shape {source.config.input.shape}, and those of {data.name} have "
            f"{data.input_shape}; choose other --data or a checkpoint trained on images like them"
        )
    parts: dict[str, LabelledImages] = {name: getattr(data, name) for name in PARTS}
    digest = " ".join((source.config.sha256[WEIGHTS], *map(digest_of, parts.values())))
    features = _read(kept, digest)
    if features is None:
        features = {name: _features(source, part, name, device, progress) for name, part in parts.items()}
        write(kept, save(features, metadata={"digest": digest}))
    deviation, mean = torch.std_mean(features["train"].double(), dim=0, correction=0)  # (D,), (D,)
    deviation = torch.where(deviation > 0, deviation, 1)  # a feature that is always the same stays so
    images: dict[str, Any] = {
        name: LabelledImages(features[name][:, :, None, None], part.labels) for name, part in parts.items()
    }
    return replace(
        data,
        **images,  # each (N, D, 1, 1)
        name=f"{data.name} (frozen features of {source.path.resolve().name})",
        mean=tuple(mean.tolist()),
        std=tuple(deviation.tolist()),
        digest=digest,
    )


@torch.inference_mode()
def _features(source: Checkpoint, part: LabelledImages, name: str, device: torch.device, progress: Progress) -> Tensor:
    """Return the features (N, D) of the images of one part, on the CPU."""
    model, batches = source.model.to(device), part.images.split(BATCH)
    with progress.track(batches, len(batches), f"features of the {name} images") as tracked:
        return torch.cat([model.features(images.to(device)).float().cpu() for images in tracked])


def _read(kept: Path, digest: str) -> dict[str, Tensor] | None:
    """Return the features in the file `kept`, or None if they are not those of `digest`."""
    try:
        check_regular(kept)
        with safe_open(kept, framework="pt") as file:
            if (file.metadata() or {}).get("digest") == digest:
                return {part: file.get_tensor(part) for part in PARTS}
    except (OSError, SafetensorError):
        pass
    return None
