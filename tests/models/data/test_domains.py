from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.classifier import checkpoint
from models.data.data import load_data, name_of
from models.data.domains import fitted, mixture
from models.data.images import DataError, LabelledImages, Source
from models.training.recipes import train_config
from models.training.train import train
from tests.models.pictures import write_folder


def source(name: str, count: int, shape: tuple[int, int, int], classes: str = "ab", seed: int = 0) -> Source:
    """Return a source of random images whose labels go round the classes; its test part is half as large."""
    generator = torch.Generator().manual_seed(seed)

    def part(size: int) -> LabelledImages:
        images = torch.randint(0, 256, (size, *shape), dtype=torch.uint8, generator=generator)
        return LabelledImages(images, torch.arange(size) % len(classes))

    return Source(name, tuple(classes), part(count), part(count // 2))


def enlarged(image: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    """Return one channel (h, w) by bilinear interpolation between pixel centres, edges repeated, as (H, W)."""

    def weights(small: int, large: int) -> NDArray[np.float64]:
        matrix = np.zeros((large, small))
        for place in range(large):
            centre = np.clip((place + 0.5) * small / large - 0.5, 0, small - 1)
            left = min(int(centre), max(small - 2, 0))
            matrix[place, left] += 1 - (centre - left)
            matrix[place, min(left + 1, small - 1)] += centre - left
        return matrix

    return weights(image.shape[0], height) @ image @ weights(image.shape[1], width).T


def test_classes_are_named_by_their_source_and_disjoint() -> None:
    both = mixture([source("grey", 6, (1, 4, 4), "ab"), source("colour", 8, (3, 4, 4), "bcd")])
    assert both.name == "grey+colour"
    assert both.classes == ("grey:a", "grey:b", "colour:b", "colour:c", "colour:d")
    assert both.domains == ("grey", "colour")
    assert both.domain_of_class == (0, 0, 1, 1, 1)
    assert both.train.labels.tolist() == [0, 1] * 3 + [2, 3, 4, 2, 3, 4, 2, 3]
    assert both.test.labels.tolist() == [0, 1, 0, 2, 3, 4, 2]


def test_the_class_gives_the_domain_of_every_image() -> None:
    sources = [source(name, 6, (1, 2, 2), seed=seed) for seed, name in enumerate("xyz")]
    both = mixture(sources)
    domain = torch.tensor(both.domain_of_class)[both.train.labels]
    for number, one in enumerate(sources):
        assert torch.equal(both.train.images[domain == number], one.train.images)


def test_images_take_the_largest_shape() -> None:
    both = mixture([source("tall", 4, (1, 9, 4)), source("wide", 4, (3, 5, 8))])
    assert both.train.images.shape == (8, 3, 9, 8)
    assert both.test.images.shape == (4, 3, 9, 8)
    assert both.train.images.dtype == torch.uint8


@pytest.mark.parametrize(
    ("small", "large"), [((3, 5), (3, 9)), ((4, 4), (16, 16)), ((1, 2), (5, 7)), ((8, 8), (32, 32))]
)
def test_enlarging_is_bilinear(small: tuple[int, int], large: tuple[int, int]) -> None:
    images = source("one", 3, (1, *small)).train.images
    expected = np.stack([enlarged(image[0].double().numpy(), *large) for image in images])
    for channel in fitted(images, (3, *large)).unbind(1):
        assert np.abs(channel.numpy() - expected).max() <= 0.5 + 1e-4


def test_images_of_the_right_shape_stay_as_they_are() -> None:
    images = source("one", 3, (3, 4, 4)).train.images
    assert torch.equal(fitted(images, (3, 4, 4)), images)


def test_many_images_are_enlarged_like_few(monkeypatch: pytest.MonkeyPatch) -> None:
    images = source("one", 10, (1, 3, 3)).train.images
    whole = fitted(images, (3, 5, 5))
    monkeypatch.setattr("models.data.domains._AT_ONCE", 3)
    assert torch.equal(fitted(images, (3, 5, 5)), whole)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("one", "two", "one"), r"two sources of the mixture one\+two\+one are called 'one'; name each once"),
        (("one", "a:b"), "the source 'a:b' has a colon in its name, which a mixture needs; rename the folder"),
    ],
)
def test_sources_that_cannot_be_told_apart_are_refused(names: tuple[str, ...], words: str) -> None:
    with pytest.raises(DataError, match=words):
        mixture([source(name, 4, (1, 2, 2)) for name in names])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "pictures", train=6, test=2)


def test_data_joined_by_a_plus_are_a_mixture(folder: Path, tmp_path: Path) -> None:
    data = load_data(f"digits+{folder}", cache=tmp_path / "cache")
    assert data.name == "digits+pictures"
    assert data.classes == (*(f"digits:{digit}" for digit in range(10)), "pictures:blue", "pictures:red")
    assert data.domains == ("digits", "pictures")
    assert data.domain_of_class == (0,) * 10 + (1,) * 2
    assert data.input_shape == (3, 32, 32)
    assert len(data.train) + len(data.val) == 1438 + 12
    assert len(data.test) == 359 + 4


def test_a_single_source_has_no_domains() -> None:
    data = load_data("digits")
    assert data.domains == data.domain_of_class == ()
    assert data.classes == tuple("0123456789")


def test_the_digest_is_that_of_the_images(folder: Path, tmp_path: Path) -> None:
    first, again = (load_data(f"digits+{folder}", cache=tmp_path / "cache").digest for _ in range(2))
    assert first == again
    (folder / "train" / "red" / "0000.png").unlink()
    assert load_data(f"digits+{folder}", cache=tmp_path / "cache").digest != first


def test_a_mixture_has_a_name_before_it_is_read(folder: Path, tmp_path: Path) -> None:
    plus = tmp_path / "cats+dogs"
    plus.mkdir()
    names = [name_of(source) for source in ("digits", str(folder), f"digits+{folder}", str(plus))]
    assert names == ["digits", "pictures", "digits+pictures", "cats+dogs"]


@pytest.mark.parametrize(("data", "flips"), [("digits", False), ("cifar10+digits", False), ("cifar10", True)])
def test_digits_are_not_mirrored(data: str, flips: bool) -> None:
    assert train_config(data, "dense", "quick").flip == flips
    assert train_config(data, "dense", "quick", flip=True).flip


def test_a_folder_with_a_plus_in_its_name_is_itself(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "cats+dogs", train=6)
    assert load_data(str(folder), cache=tmp_path / "cache").classes == ("blue", "red")


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ("digits+digits", r"two sources of the mixture digits\+digits are called 'digits'"),
        ("digits+{folder}+{folder}/../pictures", r"digits\+pictures\+pictures are called 'pictures'"),
        ("digits+", r"'digits\+' joins sources by \+, and '' is none; choose digits, cifar10 and folders"),
        ("+digits", "and '' is none"),
        ("digits+mnist", r"and 'mnist' is none; choose digits, cifar10 and folders .* no \+ in their names"),
        ("digits+{folder}+dogs", "and 'dogs' is none"),
        ("mnist", r"unknown data 'mnist'; choose .* or several joined by \+"),
    ],
)
def test_a_mixture_that_cannot_be_is_told_in_one_sentence(folder: Path, tmp_path: Path, parts: str, words: str) -> None:
    with pytest.raises(DataError, match=words) as refused:
        load_data(parts.format(folder=folder), cache=tmp_path / "cache")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "cache").exists()


def test_a_training_on_a_mixture_ends_in_a_checkpoint_that_names_its_domains(folder: Path, tmp_path: Path) -> None:
    config = train_config(f"digits+{folder}", "sparse", "demo", epochs=1, batch=200)
    train(config, tmp_path / "out", device="cpu", cache=tmp_path / "cache")
    result = checkpoint.load(tmp_path / "out").config
    assert result.data == "digits+pictures"
    assert {name.partition(":")[0] for name in result.classes} == {"digits", "pictures"}
    assert result.model.head.classes == 12
