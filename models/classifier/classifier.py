"""A whole model: from normalised images through a backbone and a head to logits.

Letters: N images, c channels, H and W their height and width, D features, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.classifier.backbones import build_backbone
from models.config import InputConfig, ModelConfig
from models.heads.heads import build_head
from models.routing import Routing
from models.settings import ConfigError


class Classifier(nn.Module):
    """Images (N, c, H, W), uint8 or floats in [0, 1], to logits (N, C).

    Raises `ConfigError` if the head does not take the backbone's features.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: ModelConfig, images: InputConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = build_backbone(config.backbone, images.shape)
        if self.backbone.features != config.head.features:
            raise ConfigError(
                f"the head takes {config.head.features} features, but backbone {config.backbone.name} gives "
                f"{self.backbone.features}; set the head's features to {self.backbone.features}"
            )
        self.head = build_head(config.head)
        for name, values in (("mean", images.mean), ("std", images.std)):  # config.json has them, the weights do not
            self.register_buffer(name, torch.tensor(values, device="cpu").view(-1, 1, 1), persistent=False)

    def normalise(self, images: Tensor) -> Tensor:
        """Return images (N, c, H, W) in the model's dtype, with the training set's mean at 0 and deviation at 1."""
        if images.dtype == torch.uint8:
            images = images / 255
        return ((images - self.mean) / self.std).to(self.mean.dtype)

    def features(self, images: Tensor) -> Tensor:
        """Return the features (N, D) of images (N, c, H, W)."""
        images = self.normalise(images)
        x: Tensor = self.backbone(images.contiguous(memory_format=torch.channels_last))  # fast to convolve
        return x

    def routed(self, images: Tensor) -> tuple[Tensor, Routing | None]:
        """Return the logits (N, C) of images (N, c, H, W) and the routing behind them, None for a dense head."""
        return self.head.routed(self.features(images))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (N, C) of images (N, c, H, W)."""
        return self.routed(images)[0]
