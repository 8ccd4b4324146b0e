import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models.classifier.backbones import WHITENING_EPS, build_backbone, whitening_weights
from models.config import BackboneConfig
from models.settings import ConfigError

CASES = [
    ("identity", (1, 8, 8), 64),
    ("small", (1, 8, 8), 48),
    ("small", (3, 32, 32), 48),
    ("resnet18", (3, 32, 32), 512),
    ("fast", (1, 8, 8), 20),
    ("fast", (3, 32, 32), 20),
]


@pytest.mark.parametrize(("name", "shape", "features"), CASES)
def test_images_become_features(name: str, shape: tuple[int, int, int], features: int) -> None:
    backbone = build_backbone(BackboneConfig(name=name, width=48, widths=(8, 12, 20)), shape)
    assert backbone.features == features
    for count in (2, 0):
        assert backbone.eval()(torch.randn(count, *shape)).shape == (count, features)


@pytest.mark.parametrize("name", ["small", "fast"])
@pytest.mark.parametrize("shape", [(1, 2, 2), (3, 5, 9), (2, 17, 6)])
def test_convolutions_take_images_of_any_size_from_2_x_2(name: str, shape: tuple[int, int, int]) -> None:
    backbone = build_backbone(BackboneConfig(name=name, width=16, widths=(8, 8, 16)), shape)
    assert backbone(torch.randn(2, *shape)).shape == (2, 16)


@pytest.mark.parametrize("name", ["small", "fast"])
def test_convolutions_refuse_a_single_pixel(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} needs images of 2 x 2 or more, not 1 x 1"):
        build_backbone(BackboneConfig(name=name), (3, 1, 1))


def test_fast_takes_smaller_images_than_it_was_built_for() -> None:
    backbone = build_backbone(BackboneConfig(name="fast", widths=(8, 8, 16)), (3, 32, 32))
    for side in (2, 3, 5, 20, 24):
        assert backbone(torch.randn(2, 3, side, side)).shape == (2, 16)


def test_fast_hands_its_channels_on_at_the_start() -> None:
    backbone = build_backbone(BackboneConfig(name="fast", widths=(32, 40, 10)), (3, 32, 32)).eval()
    x = torch.randn(2, 16, 7, 7)
    convolutions = [layer for layer in backbone if isinstance(layer, nn.Conv2d)][1:]
    assert torch.allclose(convolutions[0](x)[:, :16], x, atol=1e-6)
    for convolution in convolutions:
        x = torch.randn(2, convolution.in_channels, 5, 5)
        same = min(convolution.in_channels, convolution.out_channels)
        assert torch.allclose(convolution(x)[:, :same], x[:, :same], atol=1e-6)
        assert convolution(x)[:, same:].abs().sum() > 0 or same == convolution.out_channels


def test_fast_trains_neither_its_filters_of_patches_nor_scales() -> None:
    backbone = build_backbone(BackboneConfig(name="fast"), (3, 32, 32))
    fixed = [name for name, parameter in backbone.named_parameters() if not parameter.requires_grad]
    norms = [f"{name}.weight" for name, layer in backbone.named_modules() if isinstance(layer, nn.BatchNorm2d)]
    assert fixed == ["0.weight", *norms]
    assert len(norms) == 6
    assert backbone[0].bias is None


def test_mirrored_fast_answers_alike_for_an_image_and_its_mirror_image_in_evaluation_alone() -> None:
    backbone = build_backbone(BackboneConfig(name="fast", mirrored=True), (3, 32, 32))
    x = torch.randn(4, 3, 32, 32)
    single = [nn.Sequential.forward(backbone.eval(), images) for images in (x, x.flip(-1))]
    assert torch.allclose(backbone(x), (single[0] + single[1]) / 2, atol=1e-6)
    assert torch.allclose(backbone(x), backbone(x.flip(-1)), atol=1e-6)
    backbone.train()
    assert not torch.allclose(backbone(x), backbone(x.flip(-1)), atol=1e-3)


def test_only_fast_can_be_mirrored() -> None:
    with pytest.raises(ValueError, match="small has no setting mirrored; fast has"):
        BackboneConfig(name="small", mirrored=True)


def test_fast_prepares_its_filters_from_images() -> None:
    backbone = build_backbone(BackboneConfig(name="fast"), (2, 6, 6))
    images = torch.randn(40, 2, 6, 6)
    backbone.prepare(images)
    assert torch.equal(backbone[0].weight, whitening_weights(images))
    assert not backbone[0].weight.requires_grad


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


def pictures(seed: int, count: int = 2000, channels: int = 3) -> torch.Tensor:
    """Return float64 images (count, channels, 9, 7) whose neighbouring pixels and channels are alike."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, channels, 11, 9, dtype=torch.float64, generator=generator)
    smooth = F.avg_pool2d(noise, 3, stride=1) + 0.3 * noise[:, :, 1:-1, 1:-1]
    return smooth + 0.5 * smooth.roll(1, dims=1) + 0.2


def patches(images: torch.Tensor, count: int = 20_000) -> np.ndarray:
    """Return 2 x 2 patches at random places, (count, 4 channels), in the order channel, row, column."""
    generator, array = np.random.default_rng(0), images.numpy()
    n, _, height, width = array.shape
    places = zip(*(generator.integers(0, limit, count) for limit in (n, height - 1, width - 1)), strict=True)
    return np.stack([array[i, :, y : y + 2, x : x + 2].reshape(-1) for i, y, x in places])


@pytest.mark.parametrize(("channels", "strongest"), [(1, 3), (3, 8)])
def test_the_outputs_of_random_patches_are_white(channels: int, strongest: int) -> None:
    weights = whitening_weights(pictures(0, channels=channels))
    assert (weights.shape, weights.dtype) == ((2 * strongest, channels, 2, 2), torch.float32)
    values = patches(pictures(1, channels=channels))
    result = np.cov((values @ weights[:strongest].double().numpy().reshape(strongest, -1).T).T)
    variances = np.linalg.eigvalsh(np.cov(values.T))[-strongest:]
    assert np.abs(result - np.diag(variances / (variances + WHITENING_EPS))).max() < 0.06
    assert np.abs(np.cov(values.T) - np.eye(4 * channels)).max() > 0.3


def test_the_covariance_of_the_images_own_patches_is_that_of_the_formula() -> None:
    images = pictures(0)
    outputs = F.conv2d(images, whitening_weights(images)[:8].double())  # (N, 8, 8, 6)
    result = np.cov(outputs.transpose(0, 1).flatten(1).numpy())
    every = np.stack([images[:, :, y : y + 8, x : x + 6].numpy() for y in (0, 1) for x in (0, 1)], axis=2)
    variances = np.linalg.eigvalsh(np.cov(every.swapaxes(0, 2).swapaxes(0, 1).reshape(12, -1)))[-8:]
    assert np.allclose(result, np.diag(variances / (variances + WHITENING_EPS)), atol=1e-6)


def test_noise_far_below_the_rest_is_hardly_heard() -> None:
    """Patches of one colour each, and faint noise on them: the filters of the noise would amplify it 40 times."""
    generator = torch.Generator().manual_seed(0)
    colours = torch.randn(2000, 3, 1, 1, dtype=torch.float64, generator=generator)
    noise = 0.01 * torch.randn(2000, 3, 5, 5, dtype=torch.float64, generator=generator)
    outputs = F.conv2d(noise, whitening_weights(colours + noise).double())
    assert outputs.std() < 0.05


def test_the_second_half_are_the_negatives() -> None:
    weights = whitening_weights(pictures(0))
    assert torch.equal(weights[8:], -weights[:8])


def test_images_of_one_colour_give_finite_filters() -> None:
    assert whitening_weights(torch.full((5, 1, 4, 4), 0.5)).isfinite().all()
