import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from models.data.data import Dataset, channel_statistics, load_data, split
from models.data.images import DataError, LabelledImages, Source


def source(count: int = 20, classes: int = 2) -> Source:
    """Return a source sorted by class whose image number n holds the value n."""
    images = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    labels = torch.arange(count) * classes // count
    part = LabelledImages(images.contiguous(), labels)
    return Source("numbers", tuple("abcdefgh"[:classes]), part, part)


def numbers(part: LabelledImages) -> list[int]:
    return part.images[:, 0, 0, 0].tolist()


def test_digits() -> None:
    data = load_data("digits")
    assert [len(part) for part in (data.train, data.val, data.test)] == [1294, 144, 359]
    assert data.input_shape == (1, 8, 8)
    assert data.classes == tuple("0123456789")
    for part in (data.train, data.val, data.test):
        assert part.images.dtype == torch.uint8
        assert part.images.max() == 240
        assert len(part.labels.unique()) == 10


def test_parts_are_disjoint_and_complete() -> None:
    data = split(source(), 0.25, seed=42)
    assert len(data.val) == 5
    assert sorted(numbers(data.train) + numbers(data.val)) == list(range(20))


def test_the_split_is_seeded_and_shuffled() -> None:
    first, again, other = (split(source(100), 0.3, seed=seed) for seed in (42, 42, 7))
    assert numbers(first.val) == numbers(again.val)
    assert numbers(first.train) == numbers(again.train)
    assert set(numbers(first.val)) != set(numbers(other.val))
    assert set(first.val.labels.tolist()) == {0, 1}


def test_the_test_part_does_not_move_with_the_split() -> None:
    first, second = load_data("digits", split_seed=1), load_data("digits", split_seed=2, val_share=0.5)
    assert torch.equal(first.test.images, second.test.images)
    assert first.digest == second.digest


def test_test_images_come_in_one_random_order() -> None:
    first, other = split(source(100, classes=4), 0.3, seed=0), split(source(100, classes=4), 0.5, seed=1)
    assert numbers(first.test) == numbers(other.test)
    assert sorted(numbers(first.test)) == list(range(100))
    assert set(first.test.labels[:20].tolist()) == {0, 1, 2, 3}


def test_labels_follow_their_images() -> None:
    data = split(source(100, classes=4), 0.3, seed=0)
    for part in (data.train, data.val, data.test):
        assert part.labels.tolist() == [number * 4 // 100 for number in numbers(part)]


def test_statistics_are_those_of_the_training_part_alone() -> None:
    data = split(source(100), 0.3, seed=0)
    values = np.array(numbers(data.train)) / 255
    assert data.mean == pytest.approx([values.mean()])
    assert data.std == pytest.approx([values.std()])


def test_statistics_by_channel() -> None:
    images = torch.randint(0, 256, (50, 3, 5, 4), dtype=torch.uint8)
    images[:, 1] //= 3
    mean, std = channel_statistics(images)
    exact = images.double().numpy() / 255
    assert mean == pytest.approx(exact.mean(axis=(0, 2, 3)))
    assert std == pytest.approx(exact.std(axis=(0, 2, 3)))


def test_a_channel_of_one_colour_can_be_divided_by_its_deviation() -> None:
    assert channel_statistics(torch.full((9, 1, 2, 2), 51, dtype=torch.uint8)) == ((pytest.approx(0.2),), (1 / 255,))


def test_the_digest_changes_with_an_image_and_with_a_label() -> None:
    def digest(images: torch.Tensor, labels: torch.Tensor) -> str:
        changed = dataclasses.replace(source(), train=LabelledImages(images, labels))
        return split(changed, 0.2, seed=0).digest

    images, labels = source().train.images, source().train.labels
    pixel, label = images.clone(), labels.clone()
    pixel[3, 0, 1, 1] += 1
    label[3] = 1
    assert len({digest(images, labels), digest(pixel, labels), digest(images, label)}) == 3
    assert digest(images.clone(), labels.clone()) == digest(images, labels)


@pytest.mark.parametrize(("count", "share"), [(20, 0.01), (20, 0.95), (2, 0.5), (0, 0.5)])
def test_a_split_without_enough_images_is_refused(count: int, share: float) -> None:
    with pytest.raises(DataError, match=f"numbers has {count} training images.*--val-share"):
        split(source(count), share, seed=0)


def test_unknown_data_is_refused_with_the_choices(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"unknown data 'cifar'; choose digits, cifar10 or a folder"):
        load_data("cifar", cache=tmp_path)


def test_a_dataset_cannot_be_changed() -> None:
    data: Dataset = split(source(), 0.2, seed=0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.name = "other"  # type: ignore[misc]
