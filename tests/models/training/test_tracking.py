"""history.json and TensorBoard's scalars, of trainings that run through and of one that was stopped."""

import json
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from models.classifier import checkpoint
from models.training import tracking
from models.training import train as module
from models.training.recipes import TrainConfig, train_config
from models.training.tracking import scalars
from models.training.train import train

NAMES = tuple("0123456789")


def config(head: str = "sparse") -> TrainConfig:
    return train_config("digits", head, epochs=3, batch=300)


def shown(out: Path) -> dict[str, list[tuple[int, float]]]:
    """Return what TensorBoard shows of a training: step and value of every scalar, by tag."""
    events = EventAccumulator(str(out / tracking.FOLDER), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def document(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / tracking.FILE).read_text())
    return content


def check_agree(out: Path, epochs: int) -> None:
    """Fail unless TensorBoard shows every number of history.json, once."""
    rows = document(out)["history"]
    assert [row["epoch"] for row in rows] == list(range(1, epochs + 1))
    result = shown(out)
    assert result.keys() == dict(scalars(rows[0], NAMES)).keys()
    for tag, points in result.items():
        assert [step for step, _ in points] == list(range(1, epochs + 1)), tag
        assert [value for _, value in points] == pytest.approx([dict(scalars(row, NAMES))[tag] for row in rows])


@pytest.mark.parametrize("head", ["dense", "sparse"])
def test_tensorboard_shows_what_the_history_says(tmp_path: Path, head: str) -> None:
    metrics = train(config(head), tmp_path, device="cpu", command="moegap train")
    check_agree(tmp_path, 3)
    content = document(tmp_path)
    assert content["history"] == metrics["history"]
    assert content["config"] == config(head).model_dump(mode="json")
    assert (content["format"], content["kind"], content["command"]) == (1, "history", "moegap train")
    facts = {"python", "torch", "platform", "device", "cpu", "threads", "date", "products"}
    assert content["environment"].keys() == facts
    assert checkpoint.load(tmp_path).metrics == metrics
    tags = shown(tmp_path).keys()
    assert {"train_loss", "val_accuracy"} <= tags
    if head == "sparse":
        assert {"load/7", "utilisation", "gate_entropy", "dropped", "class_load/3/7"} <= tags


def test_an_epoch_that_is_repeated_is_shown_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(out: Path, state: Any) -> None:
        if len(state.history) == 2:
            raise KeyboardInterrupt
        real(out, state)

    real = module.write_state
    monkeypatch.setattr(module, "write_state", stopped)
    with pytest.raises(KeyboardInterrupt):
        train(config(), tmp_path, device="cpu")
    check_agree(tmp_path, 2)  # shown, and not kept
    monkeypatch.undo()
    metrics = train(config(), tmp_path, device="cpu")
    check_agree(tmp_path, 3)
    assert document(tmp_path)["history"] == metrics["history"]
    assert len(list((tmp_path / tracking.FOLDER).iterdir())) == 2


def test_every_number_has_its_tag() -> None:
    row = {"epoch": 4, "loss": 0.5, "load": [0.25, 0.75], "class_load": [[1.0, 0.0], [0.5, 0.5]]}
    assert dict(scalars(row, ("cat", "dog"))) == {
        "loss": 0.5,
        "load/0": 0.25,
        "load/1": 0.75,
        "class_load/cat/0": 1.0,
        "class_load/cat/1": 0.0,
        "class_load/dog/0": 0.5,
        "class_load/dog/1": 0.5,
    }
