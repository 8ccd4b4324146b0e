"""From images to features.

Letters: N images, C channels, H and W their height and width, D features, P = 4 C values of a 2 x 2 patch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.config import BackboneConfig
from models.settings import ConfigError

PATCH = 2
"""Pixels along a side of a patch that the stem of `Fast` whitens."""
WHITENING_EPS = 0.05
"""Added to every variance, so that directions in which patches hardly vary are not blown up. With the 5e-4 of airbench
the network memorises images by their compression noise, which says nothing about their class."""


class Backbone(nn.Sequential):
    """Layers from images (N, C, H, W) to features (N, D), with D = `features`."""

    features: int

    def __init__(self, *layers: nn.Module, features: int) -> None:
        super().__init__(*layers)
        self.features = features

    def prepare(self, images: Tensor) -> None:
        """Set the weights that training leaves alone from normalised training images (N, C, H, W); by default none."""


def build_backbone(config: BackboneConfig, input_shape: tuple[int, int, int]) -> Backbone:
    """Return a freshly initialised backbone for images of `input_shape` (C, H, W).

    Raises `ConfigError` if the images are too small for it.
    """
    match config.name:
        case "identity":
            return Backbone(nn.Flatten(), features=math.prod(input_shape))
        case "resnet18":
            return resnet18(input_shape[0])
        case "small":
            return small(input_shape, config.width)
        case "fast":
            return Fast(input_shape, config.widths, config.mirrored)


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

    The layout is that of airbench (Jordan 2024, arXiv 2404.00498). Each group halves the image, as long as it has two
    pixels along a side.
    """
    channels, *sides = input_shape
    _check_sides("small", *sides)
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


class Fast(Backbone):
    """A network that learns in few epochs: a whitening stem and three groups of two 3 x 3 convolutions.

    After airbench (Jordan 2024, arXiv 2404.00498). The filters of the stem are computed from the images and stay fixed,
    so no gradient has to pass through the first convolution after it, where it costs most. Convolutions start as the
    identity on their first channels. Batch normalisation shifts and does not scale. If `mirrored`, evaluation averages
    the features of an image and of its mirror image, so that both get the same answer. D is the last of `widths`.
    Images may have other sizes than `input_shape`.
    """

    def __init__(self, input_shape: tuple[int, int, int], widths: tuple[int, int, int], mirrored: bool) -> None:
        channels, *sides = input_shape
        _check_sides("fast", *sides)
        before = filter_count(channels)
        stem = nn.Conv2d(channels, before, PATCH, bias=False)
        stem.weight.requires_grad_(False)
        layers: list[nn.Module] = [stem, nn.ReLU()]
        for after in widths:
            layers += [_identity_convolution(before, after), _Halve(2), _shift(after), nn.ReLU()]
            layers += [_identity_convolution(after, after), _shift(after), nn.ReLU()]
            before = after
        super().__init__(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten(), features=before)
        self.mirrored = mirrored

    def forward(self, x: Tensor) -> Tensor:
        """Return the features (N, D) of images (N, C, H, W)."""
        features: Tensor = super().forward(x)
        if self.training or not self.mirrored:
            return features
        mirrored: Tensor = super().forward(x.flip(-1))
        return (features + mirrored) / 2

    @torch.no_grad()
    def prepare(self, images: Tensor) -> None:
        """Make the stem whiten the patches of images (N, C, H, W)."""
        self.get_parameter("0.weight").copy_(whitening_weights(images))


def filter_count(channels: int) -> int:
    """Return how many filters whiten patches of C = `channels`: two for each of the strongest two thirds of P.

    The other directions carry next to nothing, and 16 filters (for three channels) convolve fast.
    """
    return 2 * math.ceil(channels * PATCH**2 * 2 / 3)


def whitening_weights(images: Tensor) -> Tensor:
    """Return convolution weights (`filter_count`, C, 2, 2) float32 that whiten the patches of images (N, C, H, W).

    The first half are the strongest eigenvectors of the covariance of the patches, each divided by
    sqrt(eigenvalue + WHITENING_EPS). The second half are their negatives, since a rectifier follows (Page 2019; Jordan
    2024, arXiv 2404.00498). The images must be normalised as the convolution will see them. Computed in float64 on the
    CPU.
    """
    values = F.unfold(images.double().cpu(), PATCH)  # (N, P, patches of an image)
    variances, directions = torch.linalg.eigh(torch.cov(values.transpose(0, 1).flatten(1)))  # (P,), (P, P) by column
    filters = (directions / (variances.clamp_min(0) + WHITENING_EPS).sqrt()).T  # (P, P) by row, the weakest first
    strongest = filters[-(filter_count(images.shape[1]) // 2) :]
    weights: Tensor = torch.cat([strongest, -strongest]).float().unflatten(1, (images.shape[1], PATCH, PATCH))
    return weights


class _Halve(nn.MaxPool2d):
    """A maximum over 2 x 2 pixels; does nothing if a side has a single pixel left."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if min(x.shape[-2:]) >= 2 else x


def _identity_convolution(before: int, after: int) -> nn.Conv2d:
    """Return a 3 x 3 convolution whose first `before` outputs start as its inputs; the others start at random."""
    convolution = nn.Conv2d(before, after, 3, padding=1, bias=False)
    nn.init.dirac_(convolution.weight.detach()[:before])
    return convolution


def _shift(channels: int) -> nn.BatchNorm2d:
    """Return a batch normalisation with a fixed scale of 1."""
    norm = nn.BatchNorm2d(channels)
    norm.weight.requires_grad_(False)
    return norm


def _check_sides(name: str, height: int, width: int) -> None:
    if min(height, width) < 2:
        raise ConfigError(f"backbone {name} needs images of 2 x 2 or more, not {height} x {width}")
