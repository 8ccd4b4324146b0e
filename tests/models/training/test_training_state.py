from pathlib import Path

import pytest
import torch

from models.classifier.checkpoint import TRAINING
from models.errors import ResumeError
from models.training.training_state import FILE, TrainingState, best_epoch, read_state, write_state


def state() -> TrainingState:
    return TrainingState(
        config={"lr": 0.1, "head": {"k": 2}},
        data="digest",
        history=[{"epoch": 1, "val_accuracy": 1 / 3, "val_loss": 0.1}],
        model={"w": torch.randn(3, 2, 4, 4).contiguous(memory_format=torch.channels_last), "n": torch.tensor(7)},
        best={"w": torch.zeros(2)},
        optimizer={"w.momentum_buffer": torch.ones(2), "w.step": torch.tensor(3.0)},
    )


def test_a_state_comes_back_bit_for_bit(tmp_path: Path) -> None:
    written = state()
    write_state(tmp_path, written)
    result = read_state(tmp_path)
    assert result is not None
    assert (result.config, result.data, result.history) == (written.config, written.data, written.history)
    for group in ("model", "best", "optimizer"):
        before, after = getattr(written, group), getattr(result, group)
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before)


def test_no_state(tmp_path: Path) -> None:
    assert read_state(tmp_path) is None
    assert read_state(tmp_path / "nowhere") is None


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_truncated_state_is_refused_with_the_way_out(tmp_path: Path, keep: int) -> None:
    write_state(tmp_path, state())
    file = tmp_path / TRAINING / FILE
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(
        ResumeError, match=r"state.safetensors is damaged .*; delete .*training to train from the start"
    ):
        read_state(tmp_path)


def test_the_best_epoch_has_the_highest_accuracy_then_the_lowest_loss_then_comes_first() -> None:
    def history(*rows: tuple[float, float]) -> list[dict[str, float]]:
        return [{"epoch": n, "val_accuracy": a, "val_loss": b} for n, (a, b) in enumerate(rows, start=1)]

    assert best_epoch(history((0.5, 1), (0.7, 3), (0.6, 0))) == 2
    assert best_epoch(history((0.7, 2), (0.7, 1), (0.6, 0))) == 2
    assert best_epoch(history((0.7, 1), (0.7, 1))) == 1
