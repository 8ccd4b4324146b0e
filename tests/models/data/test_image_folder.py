import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models.data import image_folder as module
from models.data.image_folder import image_folder
from models.data.images import DataError, Source
from models.progress import SILENT
from tests.models.pictures import write_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "pictures", train=5, test=3)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def read(folder: Path, cache: Path) -> Source:
    return image_folder(folder, cache, SILENT)


def count_decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return a list to which every image that is decoded from now on is added."""
    decoded: list[Path] = []
    real = module._pixels
    monkeypatch.setattr(module, "_pixels", lambda path: (decoded.append(path), real(path))[1])
    return decoded


def test_images_and_labels(folder: Path, cache: Path) -> None:
    source = read(folder, cache)
    assert source.name == "pictures"
    assert source.classes == ("blue", "red")
    assert source.train.images.shape == (10, 3, 32, 32)
    assert source.train.labels.tolist() == [0] * 5 + [1] * 5
    assert source.test.labels.tolist() == [0] * 3 + [1] * 3
    expected = np.asarray(Image.open(folder / "train" / "red" / "0002.png")).transpose(2, 0, 1)
    assert np.array_equal(source.train.images[7].numpy(), expected)


def test_a_second_read_comes_from_the_cache(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read(folder, cache)
    decoded = count_decoded(monkeypatch)
    second = read(folder, cache)
    assert decoded == []
    assert torch.equal(first.train.images, second.train.images)
    assert torch.equal(first.test.labels, second.test.labels)


@pytest.mark.parametrize("change", ["touch", "rename", "add", "remove"])
def test_a_changed_folder_is_decoded_again(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    read(folder, cache)
    decoded = count_decoded(monkeypatch)
    image = folder / "train" / "red" / "0004.png"
    match change:
        case "touch":
            os.utime(image, ns=(1, 1))
        case "rename":
            image.rename(image.with_name("9.png"))
        case "add":
            (folder / "test" / "blue" / "new.png").write_bytes(image.read_bytes())
        case "remove":
            image.unlink()
    source = read(folder, cache)
    assert len(decoded) == len(source.train) + len(source.test)


def test_a_broken_cache_is_replaced(folder: Path, cache: Path) -> None:
    first = read(folder, cache)
    (file,) = cache.iterdir()
    file.write_bytes(file.read_bytes()[:1000])
    assert torch.equal(read(folder, cache).train.images, first.train.images)
    assert len(file.read_bytes()) > 1000


def test_other_sizes_and_modes_become_rgb_of_32_x_32(tmp_path: Path, cache: Path) -> None:
    folder = write_folder(tmp_path / "wide", train=2, test=1, size=(50, 40))
    for name, mode in (("grey.png", "L"), ("palette.gif", "P"), ("clear.PNG", "RGBA"), ("photo.jpeg", "CMYK")):
        Image.new(mode, (7, 90), 1).save(folder / "train" / "red" / name)
    source = read(folder, cache)
    assert source.train.images.shape == (8, 3, 32, 32)
    blue = source.train.images[0].float().mean(dim=(1, 2))
    assert (blue - torch.tensor([40.0, 60, 200])).abs().max() < 12


def test_other_files_are_ignored(folder: Path, cache: Path) -> None:
    (folder / "train" / ".hidden").mkdir()
    (folder / "train" / "notes.txt").write_text("hello")
    (folder / "train" / "red" / ".DS_Store").write_bytes(b"?")
    assert len(read(folder, cache).train) == 10


def corrupt(folder: Path) -> str:
    image = folder / "train" / "red" / "0001.png"
    image.write_bytes(image.read_bytes()[:300])
    return r"train/red/0001\.png cannot be decoded as an image .*; repair or remove it"


def text_as_image(folder: Path) -> str:
    (folder / "test" / "blue" / "0000.png").write_text("no image")
    return r"test/blue/0000\.png cannot be decoded"


def no_test_part(folder: Path) -> str:
    (folder / "test").rename(folder / "valid")
    return r"pictures has no test/ folder; lay it out as train/<class>/ and test/<class>/"


def class_missing_in_test(folder: Path) -> str:
    (folder / "test" / "red").rename(folder / "elsewhere")
    return r"class 'red' is in .*/train but not in .*/test"


def class_missing_in_train(folder: Path) -> str:
    (folder / "test" / "yellow").mkdir()
    return r"class 'yellow' is in .*/test but not in .*/train"


def empty_class(folder: Path) -> str:
    for image in (folder / "train" / "blue").iterdir():
        image.unlink()
    return r"train/blue holds no images .*; add some or remove the folder"


def one_class(folder: Path) -> str:
    for part in ("train", "test"):
        (folder / part / "red").rename(folder / f"{part}-red")
    return r"train has 1 class folders; a classifier needs two or more"


@pytest.mark.parametrize(
    "spoil",
    [corrupt, text_as_image, no_test_part, class_missing_in_test, class_missing_in_train, empty_class, one_class],
)
def test_a_bad_folder_is_refused_in_one_sentence(folder: Path, cache: Path, spoil: object) -> None:
    assert callable(spoil)
    with pytest.raises(DataError, match=spoil(folder)) as caught:
        read(folder, cache)
    assert "\n" not in str(caught.value)
    assert not cache.exists()
