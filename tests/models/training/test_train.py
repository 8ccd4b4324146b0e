"""Whole runs: finished, killed and continued, refused."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch

from models.classifier import checkpoint
from models.classifier.checkpoint import TRAINING
from models.data.data import load_data
from models.data.images import DataError
from models.errors import ModelError, ResumeError
from models.progress import SILENT, Progress
from models.training.recipes import TrainConfig, train_config
from models.training.train import train
from models.training.trainer import Trainer
from models.training.training_state import read_state
from reports.records.files import StorageError
from tests.killed import Killed
from tests.models.pictures import write_folder

ROOT = Path(__file__).parents[3]
T = TypeVar("T")


class Lines(Progress):
    """Keeps the lines said, and can be told to interrupt a run in the middle of an epoch."""

    def __init__(self, interrupted_epoch: str = "") -> None:
        self.lines: list[str] = []
        self.interrupted_epoch = interrupted_epoch

    @contextmanager
    def track(self, items: Iterable[T], total: int, description: str) -> Iterator[Iterable[T]]:
        yield self.interrupted(items) if description == self.interrupted_epoch else items

    def interrupted(self, items: Iterable[T]) -> Iterator[T]:
        yield next(iter(items))
        raise KeyboardInterrupt

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("data") / "pictures", train=30, test=6)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


BACKBONES = {"quick": {"name": "small", "width": 16}, "fast": {"name": "fast", "widths": (8, 8, 16)}}


def recipe(folder: Path, head: str = "sparse", preset: str = "quick", **changes: Any) -> TrainConfig:
    settings = {"epochs": 3, "batch": 12, "backbone": BACKBONES[preset], **changes}
    return train_config(str(folder), head, preset, **settings)


def weights(out: Path) -> bytes:
    return (out / checkpoint.WEIGHTS).read_bytes()


def history(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in metrics["history"]]


@pytest.mark.parametrize("kind", ["dense", "soft", "sparse"])
def test_the_demo_is_accurate(tmp_path: Path, kind: str) -> None:
    train(train_config("digits", kind), tmp_path / kind, device="cpu")
    result = checkpoint.load(tmp_path / kind)
    assert result.metrics["test_accuracy"] >= 0.96
    assert len(result.metrics["history"]) == result.config.training["epochs"]
    if result.config.model.head.kind == "sparse":
        assert result.metrics["routing"]["utilisation"] == 1


def test_a_run_leaves_a_checkpoint_and_nothing_else(folder: Path, cache: Path, tmp_path: Path) -> None:
    lines = Lines()
    metrics = train(recipe(folder), tmp_path / "out", device="cpu", progress=lines, cache=cache)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "config.json",
        "environment.json",
        "features.npy",
        "history.json",
        "labels.npy",
        "metrics.json",
        "model.safetensors",
        "tensorboard",
    ]
    assert [line.partition(":")[0] for line in lines.lines] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    result = checkpoint.load(tmp_path / "out")
    assert result.metrics == metrics
    assert result.features is not None
    assert result.features.shape == (12, 16)
    assert result.labels is not None
    assert result.labels.bincount().tolist() == [6, 6]
    assert result.config.classes == ("blue", "red")


def test_the_checkpoint_holds_the_epoch_that_validated_best(cache: Path, tmp_path: Path) -> None:
    config = train_config("digits", "dense", epochs=6, lr=1.0, schedule="constant")
    trainer = Trainer(config, load_data("digits"), torch.device("cpu"), SILENT)
    weights = []
    for _ in range(6):
        trainer.run_epoch()
        weights.append(trainer.model.head.w1.detach().clone())
    metrics = train(config, tmp_path, device="cpu", cache=cache)
    assert metrics["best_epoch"] != 6
    saved = checkpoint.load(tmp_path).model.head.w1
    assert torch.equal(saved, weights[metrics["best_epoch"] - 1])
    accuracies = [row["val_accuracy"] for row in metrics["history"]]
    assert accuracies[metrics["best_epoch"] - 1] == max(accuracies)


KILLED_IN_AN_EPOCH = """
import os, signal, sys
from contextlib import contextmanager
from pathlib import Path
import torch
from models.progress import Progress
from models.training.recipes import TrainConfig
from models.training.train import train

class Deadly(Progress):
    @contextmanager
    def track(self, items, total, description):
        yield self.deadly(items) if description == "epoch 2/3" else items

    def deadly(self, items):
        yield next(iter(items))
        os.kill(os.getpid(), signal.SIGKILL)

config, out, cache, threads = sys.argv[1:]
torch.set_num_threads(int(threads))
train(TrainConfig.model_validate_json(config), Path(out), device="cpu", progress=Deadly(), cache=Path(cache))
"""


Undisturbed = tuple[bytes, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def uninterrupted(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """Return the weights and history of a run that nothing disturbed."""
    out = tmp_path_factory.mktemp("uninterrupted")
    metrics = train(recipe(folder), out, device="cpu", cache=out / "cache")
    return weights(out), history(metrics)


def check_continues(out: Path, config: TrainConfig, cache: Path, kept: int, expected: tuple[bytes, Any]) -> None:
    """Fail unless `out` holds `kept` epochs of an unfinished run that ends with the expected weights and history."""
    with pytest.raises(checkpoint.CheckpointError, match="unfinished; run its `moegap train` command again"):
        checkpoint.load(out)
    state = read_state(out)
    assert state is not None
    assert len(state.history) == kept
    lines = Lines()
    metrics = train(config, out, device="cpu", progress=lines, cache=cache)
    assert lines.lines[0] == f"continuing after epoch {kept} of 3"
    assert (weights(out), history(metrics)) == expected


def test_a_run_killed_in_an_epoch_continues_to_the_same_bits(
    folder: Path, cache: Path, tmp_path: Path, uninterrupted: Undisturbed
) -> None:
    out, config = tmp_path / "out", recipe(folder)
    arguments = [config.model_dump_json(), str(out), str(cache), str(torch.get_num_threads())]
    command, environment = (
        [sys.executable, "-c", KILLED_IN_AN_EPOCH, *arguments],
        os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode == -signal.SIGKILL
    check_continues(out, config, cache, kept=1, expected=uninterrupted)


@pytest.mark.parametrize(("file", "writes", "kept"), [("state.safetensors", 1, 1), ("config.json", 0, 3)])
def test_a_run_killed_in_a_write_continues_to_the_same_bits(
    folder: Path,
    cache: Path,
    tmp_path: Path,
    uninterrupted: Undisturbed,
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    writes: int,
    kept: int,
) -> None:
    left = iter([True] * writes)

    def replace(source: Path, target: Path) -> Path:
        if target.name == file and not next(left, False):
            source.write_bytes(source.read_bytes()[:500])
            raise Killed
        return real(source, target)

    real = Path.replace
    out, config = tmp_path / "out", recipe(folder)
    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(Killed):
        train(config, out, device="cpu", cache=cache)
    monkeypatch.undo()
    check_continues(out, config, cache, kept, uninterrupted)


@pytest.mark.parametrize(("head", "preset"), [("dense", "quick"), ("soft", "quick"), ("soft", "fast")])
def test_an_interrupted_run_continues_to_the_same_bits(
    folder: Path, cache: Path, tmp_path: Path, head: str, preset: str
) -> None:
    config = recipe(folder, head, preset)
    train(config, tmp_path / "whole", device="cpu", cache=cache)
    for epoch in (1, 2, 3):
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "out", device="cpu", progress=Lines(f"epoch {epoch}/3"), cache=cache)
    train(config, tmp_path / "out", device="cpu", cache=cache)
    assert weights(tmp_path / "out") == weights(tmp_path / "whole")


def test_a_finished_run_is_not_repeated(folder: Path, cache: Path, tmp_path: Path) -> None:
    config = recipe(folder, epochs=1)
    metrics = train(config, tmp_path / "out", device="cpu", cache=cache)
    before = weights(tmp_path / "out")
    lines = Lines()
    assert train(config, tmp_path / "out", device="cpu", progress=lines, cache=cache) == metrics
    assert lines.lines == [f"the training in {tmp_path / 'out'} is already finished"]
    assert weights(tmp_path / "out") == before


def interrupted(folder: Path, cache: Path, out: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(recipe(folder), out, device="cpu", progress=Lines("epoch 2/3"), cache=cache)


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"lr": 0.7}, r"lr \(0\.2, now 0\.7\)"),
        ({"head_changes": {"k": 3}}, r"head_changes\.k \(None, now 3\)"),
        ({"backbone": {"name": "small", "width": 32}}, r"backbone\.width \(16, now 32\)"),
    ],
)
@pytest.mark.parametrize("finished", [False, True])
def test_another_configuration_is_refused_with_its_field(
    folder: Path, cache: Path, tmp_path: Path, changes: dict[str, Any], difference: str, finished: bool
) -> None:
    out = tmp_path / "out"
    if finished:
        train(recipe(folder, epochs=1), out, device="cpu", cache=cache)
        changes = {"epochs": 1, **changes}
    else:
        interrupted(folder, cache, out)
    with pytest.raises(ResumeError, match=f"holds a training with another {difference}; use another --out"):
        train(recipe(folder, **changes), out, device="cpu", cache=cache)


def test_changed_images_are_refused(cache: Path, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "pictures", train=20, test=2)
    interrupted(folder, cache, tmp_path / "out")
    (folder / "train" / "red" / "0000.png").unlink()
    with pytest.raises(ResumeError, match=r"the images of .*pictures changed since training began"):
        train(recipe(folder), tmp_path / "out", device="cpu", cache=cache)


def test_a_damaged_checkpoint_is_not_trained_over(folder: Path, cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    train(recipe(folder, epochs=1), out, device="cpu", cache=cache)
    (out / checkpoint.WEIGHTS).write_bytes(b"")
    with pytest.raises(checkpoint.CheckpointError, match=r"copy the checkpoint again, or train it again in another"):
        train(recipe(folder, epochs=1), out, device="cpu", cache=cache)


def test_an_output_that_cannot_be_written_is_refused(folder: Path, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot create the folder"):
        train(recipe(folder), tmp_path / "file" / "out", device="cpu", cache=cache)
    assert not (tmp_path / "file").is_dir()


def test_bad_data_leaves_no_folder(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="unknown data"):
        train(train_config("nothing", "dense"), tmp_path / "out", device="cpu", cache=cache)
    assert not (tmp_path / "out").exists()
    assert issubclass(DataError, ModelError)


def test_unfinished_training_has_its_folder(folder: Path, cache: Path, tmp_path: Path) -> None:
    interrupted(folder, cache, tmp_path)
    assert (tmp_path / TRAINING).is_dir()


def test_weights_of_somebody_else_are_not_trained_over(folder: Path, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"theirs")
    with pytest.raises(ResumeError, match=r"model\.safetensors is not of a training of moegap; use another --out"):
        train(recipe(folder), tmp_path, device="cpu", cache=cache)
    assert (tmp_path / "model.safetensors").read_bytes() == b"theirs"
