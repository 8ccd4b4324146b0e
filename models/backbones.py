"""From images to features.

Letters: N images, C channels, H and W their height and width, D features.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import nn

from models.config import BackboneConfig, ConfigError


class Backbone(nn.Sequential):
    """Layers from images (N, C, H, W) to features (N, D), with D = `features`."""

    features: int

    def __init__(self, *layers: nn.Module, features: int) -> None:
        super().__init__(*layers)
        self.features = features


def build_backbone(config: BackboneConfig, input_shape: tuple[int, int, int]) -> Backbone:
    """Return a freshly initialised backbone for images of `input_shape` (C, H, W).

    Raises `ConfigError` where the images are too small for it.
    """
    match config.name:
        case "identity":
            return Backbone(nn.Flatten(), features=math.prod(input_shape))
        case "resnet18":
            return resnet18(input_shape[0])
        case "small":
            return small(input_shape, config.width)


def resnet18(channels: int) -> Backbone:
    """Return the paper's ResNet-18 for 32 x 32 images: a 3 x 3 stem of stride 1, no max-pool, D = 512."""
    from torchvision.models import (
        resnet18 as torchvision_resnet18,  # seconds to import, and absent on some machines
    )

    network = torchvision_resnet18(weights=None)
    network.conv1 = nn.Conv2d(channels, 64, 3, stride=1, padding=1, bias=False)
    network.maxpool = nn.Identity()
    network.fc = nn.Identity()
    return Backbone(network, features=512)


def small(input_shape: tuple[int, int, int], width: int) -> Backbone:
    """Return a fast network for CPUs: a 2 x 2 stem and three groups of two 3 x 3 convolutions, D = `width`.

    The layout is that of airbench (Jordan 2024, arXiv 2404.00498). Each group halves the image for as long as
    there is something to halve.
    """
    channels, *sides = input_shape
    if min(sides) < 2:
        raise ConfigError(f"backbone small needs images of 2 x 2 or more, not {sides[0]} x {sides[1]}")
    before, side = width * 3 // 16, min(sides) - 1
    layers = [nn.Conv2d(channels, before, 2), nn.ReLU()]
    for after in (width * 3 // 16, width * 3 // 4, width):
        layers += _group(before, after, halve=side >= 2)
        before, side = after, side // 2
    return Backbone(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten(), features=width)


def _group(before: int, after: int, halve: bool) -> Iterator[nn.Module]:
    yield nn.Conv2d(before, after, 3, padding=1, bias=False)
    if halve:
        yield nn.MaxPool2d(2)
    yield from (nn.BatchNorm2d(after), nn.ReLU())
    yield nn.Conv2d(after, after, 3, padding=1, bias=False)
    yield from (nn.BatchNorm2d(after), nn.ReLU())
