import numpy as np
import pytest
import torch
import torch.nn.functional as F

from models.classifier.whitening import EPS, whitening_weights


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
    assert np.abs(result - np.diag(variances / (variances + EPS))).max() < 0.06
    assert np.abs(np.cov(values.T) - np.eye(4 * channels)).max() > 0.3


def test_the_covariance_of_the_images_own_patches_is_that_of_the_formula() -> None:
    images = pictures(0)
    outputs = F.conv2d(images, whitening_weights(images)[:8].double())  # (N, 8, 8, 6)
    result = np.cov(outputs.transpose(0, 1).flatten(1).numpy())
    every = np.stack([images[:, :, y : y + 8, x : x + 6].numpy() for y in (0, 1) for x in (0, 1)], axis=2)
    variances = np.linalg.eigvalsh(np.cov(every.swapaxes(0, 2).swapaxes(0, 1).reshape(12, -1)))[-8:]
    assert np.allclose(result, np.diag(variances / (variances + EPS)), atol=1e-6)


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
