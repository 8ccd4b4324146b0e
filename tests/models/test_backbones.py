import math

import pytest
import torch
from torch import nn

from models.backbones import build_backbone
from models.config import BackboneConfig, ConfigError

CASES = [
    ("identity", (1, 8, 8), 64),
    ("small", (1, 8, 8), 48),
    ("small", (3, 32, 32), 48),
    ("resnet18", (3, 32, 32), 512),
]


@pytest.mark.parametrize(("name", "shape", "features"), CASES)
def test_images_become_features(name: str, shape: tuple[int, int, int], features: int) -> None:
    backbone = build_backbone(BackboneConfig(name=name, width=48), shape)
    assert backbone.features == features
    for count in (2, 0):
        assert backbone.eval()(torch.randn(count, *shape)).shape == (count, features)


@pytest.mark.parametrize("shape", [(1, 2, 2), (3, 5, 9), (2, 17, 6)])
def test_small_takes_images_of_any_size_from_2_x_2(shape: tuple[int, int, int]) -> None:
    backbone = build_backbone(BackboneConfig(name="small", width=16), shape)
    assert backbone(torch.randn(2, *shape)).shape == (2, 16)


def test_small_refuses_a_single_pixel() -> None:
    with pytest.raises(ConfigError, match="2 x 2 or more, not 1 x 1"):
        build_backbone(BackboneConfig(name="small"), (3, 1, 1))


def test_resnet18_is_the_papers() -> None:
    resnet = build_backbone(BackboneConfig(name="resnet18"), (3, 32, 32))
    assert sum(parameter.numel() for parameter in resnet.parameters()) == 11_168_832
    stem = resnet[0].conv1
    assert (stem.kernel_size, stem.stride, stem.padding) == ((3, 3), (1, 1), (1, 1))
    assert not any(isinstance(layer, nn.MaxPool2d | nn.Linear) for layer in resnet.modules())


def test_identity_keeps_the_order_of_pixels() -> None:
    image = torch.arange(math.prod((2, 3, 4))).view(1, 2, 3, 4)
    backbone = build_backbone(BackboneConfig(name="identity"), (2, 3, 4))
    assert backbone(image.contiguous(memory_format=torch.channels_last)).tolist() == [list(range(24))]
