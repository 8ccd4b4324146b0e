import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from models.training.resolution import scale_in_epoch, scaled

PHASES = st.lists(st.tuples(st.floats(0.1, 1), st.integers(1, 9)), min_size=1, max_size=4)


def test_phases_that_sum_to_the_epochs_are_taken_literally() -> None:
    phases = ((0.625, 3), (0.75, 2), (1.0, 1))
    assert [scale_in_epoch(phases, epoch, 6) for epoch in range(1, 7)] == [0.625] * 3 + [0.75] * 2 + [1.0]


def test_without_phases_the_scale_is_one() -> None:
    assert scale_in_epoch((), 1, 1) == 1


@given(phases=PHASES, epochs=st.integers(1, 50))
def test_phases_come_in_order_with_their_share_of_the_epochs(phases: list[tuple[float, int]], epochs: int) -> None:
    phases = [(number + scale / 100, parts) for number, (scale, parts) in enumerate(phases)]  # all different
    scales = [scale_in_epoch(phases, epoch, epochs) for epoch in range(1, epochs + 1)]
    assert scales == sorted(scales)
    assert scales[-1] == phases[-1][0]
    for scale, parts in phases:
        assert abs(scales.count(scale) - epochs * parts / sum(parts for _, parts in phases)) < 1


@pytest.mark.parametrize(("scale", "size"), [(0.625, (20, 15)), (0.75, (24, 18)), (0.9, (29, 22))])
def test_images_are_scaled_as_pillow_scales_them(scale: float, size: tuple[int, int]) -> None:
    images = torch.randint(0, 256, (2, 3, 32, 24), dtype=torch.uint8)
    result = scaled(images.contiguous(memory_format=torch.channels_last), scale)
    for image, small in zip(images.float().numpy() / 255, result.numpy(), strict=True):
        for channel, got in zip(image, small, strict=True):
            want = Image.fromarray(channel).resize(size[::-1], Image.Resampling.BILINEAR)
            assert np.allclose(got, np.asarray(want), atol=1e-5)


def test_scale_one_changes_nothing() -> None:
    images = torch.randint(0, 256, (2, 3, 5, 5), dtype=torch.uint8)
    assert scaled(images, 1) is images


def test_two_pixels_are_left_at_least() -> None:
    assert scaled(torch.zeros(1, 1, 9, 2, dtype=torch.uint8), 0.1).shape == (1, 1, 2, 2)
