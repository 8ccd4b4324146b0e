import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from models.training.augment import augment, cut_out, scale_in_epoch, scaled


def candidates(image: np.ndarray, shift: int, flip: bool) -> set[bytes]:
    """Return every image that a shift by up to `shift` pixels, and perhaps a flip, can make of `image` (C, H, W)."""
    _, height, width = image.shape
    padded = np.pad(image, ((0, 0), (shift, shift), (shift, shift)), mode="reflect")
    span = range(2 * shift + 1)
    crops = [padded[:, y : y + height, x : x + width] for y in span for x in span]
    return {crop.tobytes() for crop in crops + [crop[:, :, ::-1] for crop in crops if flip]}


@pytest.mark.parametrize(("shift", "flip"), [(0, False), (0, True), (1, False), (2, True)])
def test_images_are_shifted_and_mirrored_in_every_way_and_no_other(shift: int, flip: bool) -> None:
    image = torch.randint(0, 256, (1, 3, 7, 6), dtype=torch.uint8)
    seen = {copy.numpy().tobytes() for copy in augment(image.expand(3000, -1, -1, -1), shift, flip).contiguous()}
    assert seen == candidates(image[0].numpy(), shift, flip)


def test_each_image_has_its_own_fate_from_the_seed() -> None:
    images = torch.randint(0, 256, (50, 1, 9, 9), dtype=torch.uint8)
    torch.manual_seed(3)
    first = augment(images, 2, True)
    torch.manual_seed(3)
    assert torch.equal(augment(images, 2, True), first)
    assert not torch.equal(augment(images, 2, True), first)


def test_a_shift_beyond_the_image_stops_at_its_edge() -> None:
    assert augment(torch.ones(4, 1, 2, 1), 9, True).shape == (4, 1, 2, 1)


def test_no_images() -> None:
    assert augment(torch.empty(0, 3, 4, 4), 1, True).shape == (0, 3, 4, 4)


def holes(image: np.ndarray, side: int, fill: np.ndarray) -> set[bytes]:
    """Return every image that a square of `side` around one of the pixels of `image` (C, H, W) can leave."""
    _, height, width = image.shape
    result = set()
    for y in range(height):
        for x in range(width):
            copy = image.copy()
            top, left = y - side // 2, x - side // 2
            copy[:, max(top, 0) : top + side, max(left, 0) : left + side] = fill[:, None, None]
            result.add(copy.tobytes())
    return result


@pytest.mark.parametrize("side", [1, 2, 3, 20])
def test_a_square_around_any_pixel_is_cut_out(side: int) -> None:
    image, fill = torch.randint(0, 256, (1, 3, 5, 4), dtype=torch.uint8), torch.tensor([7.0, 0.0, 255.0])
    cut = cut_out(image.expand(1500, -1, -1, -1), side, fill)
    assert cut.dtype == torch.uint8
    seen = {copy.numpy().tobytes() for copy in cut.contiguous()}
    assert seen == holes(image[0].numpy(), side, fill.to(torch.uint8).numpy())


def test_no_square_leaves_the_images() -> None:
    images = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)
    assert cut_out(images, 0, torch.zeros(3)) is images


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
