"""A small checkpoint that nothing had to be trained for."""

from pathlib import Path

import torch

from models.classifier.checkpoint import save
from models.classifier.classifier import Classifier
from models.config import InputConfig, ModelConfig, head_config


def sparse_checkpoint(path: Path, **metrics: float) -> Path:
    """Write a sparse classifier of 4 x 6 images without a backbone, with ten rows of features."""
    images = InputConfig(shape=(1, 4, 6), mean=(0.5,), std=(0.25,))
    head = head_config("sparse", features=24, classes=5, hidden=12, experts=2, k=1)
    save(
        path,
        Classifier(ModelConfig(head=head), images).eval(),
        images=images,
        data="none",
        classes=tuple("abcde"),
        training={},
        metrics=metrics,
        environment={},
        features=torch.randn(10, 24, generator=torch.Generator().manual_seed(0)),
    )
    return path
