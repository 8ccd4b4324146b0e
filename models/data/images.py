"""Labelled images, which every data source gives.

Letters: N images, C channels, H and W their height and width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models.errors import ModelError


class DataError(ModelError):
    """Data that cannot be read, or from which nothing can be learned."""


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images (N, C, H, W) uint8 and the numbers of their classes, labels (N,) int64."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, ids: Tensor) -> LabelledImages:
        return LabelledImages(self.images[ids], self.labels[ids])

    def to(self, device: torch.device) -> LabelledImages:
        """Return them on `device`."""
        return LabelledImages(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True, eq=False)
class Source:
    """What a data source offers: class names, and images to learn from and to test on.

    For a mixture, `domains` names its sources, and `domain_of_class` (C,) has the number of each class's domain; both
    are empty for a single source.
    """

    name: str
    classes: tuple[str, ...]
    train: LabelledImages
    test: LabelledImages
    domains: tuple[str, ...] = ()
    domain_of_class: tuple[int, ...] = ()
