"""`moegap train`, called as the command line calls it."""

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from bench.commands.train import train
from models import checkpoint
from models.errors import ModelError
from tests.models.pictures import write_folder

app = typer.Typer()
app.command()(train)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["--device", "cpu", *arguments])


def test_a_head_is_trained_as_asked(tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run(
        *("--head", "sparse", "--out", str(out), "--epochs", "2", "--batch", "100", "--lr", "0.05", "--seed", "3"),
        *("--experts", "5", "--hidden", "7", "--k", "3", "--activation", "gelu", "--val-share", "0.2"),
    )
    assert result.exit_code == 0, result.output
    assert "sparse head on digits, preset demo, 2 epochs" in result.output
    assert "epoch 2/2: train" in result.output
    assert f"checkpoint in {out}" in result.output
    found = checkpoint.load(out)
    head, training = found.config.model.head, found.config.training
    assert head.model_dump() | {"experts": 5, "hidden": 7, "k": 3, "activation": "gelu"} == head.model_dump()
    asked = {"epochs": 2, "batch": 100, "lr": 0.05, "seed": 3, "val_share": 0.2}
    assert training | asked == training
    assert f"{found.metrics['test_accuracy']:.2%}" in result.output
    again = run(
        *("--head", "sparse", "--out", str(out), "--epochs", "2", "--batch", "100", "--lr", "0.05", "--seed", "3"),
        *("--experts", "5", "--hidden", "7", "--k", "3", "--activation", "gelu", "--val-share", "0.2"),
    )
    assert "is already finished" in again.output


def test_a_folder_of_images_is_trained_on_into_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "pictures", train=12, test=2)
    monkeypatch.chdir(tmp_path)
    result = run("--head", "dense", "--data", "pictures", "--epochs", "1")
    assert result.exit_code == 0, result.output
    found = checkpoint.load(tmp_path / "runs" / "pictures-dense")
    assert found.config.model.backbone.name == "small"
    assert [path.suffix for path in (tmp_path / "runs" / "cache").iterdir()] == [".safetensors"]


def test_ctrl_c_says_how_to_continue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from models.trainer import Trainer

    def interrupted(self: Trainer) -> None:
        if self.epoch == 1:
            raise KeyboardInterrupt
        real(self)

    real = Trainer.run_epoch
    monkeypatch.setattr(Trainer, "run_epoch", interrupted)
    result = run("--head", "dense", "--epochs", "3", "--out", str(tmp_path))
    assert result.exit_code == 130
    assert f"stopped: {tmp_path} keeps epoch 1 of 3; run the same command again to continue" in result.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--head mixture", "unknown head 'mixture'; choose one of dense, soft, sparse"),
        ("--head dense --preset best", "unknown preset 'best'; choose one of paper, paper-fixed, quick, demo"),
        ("--head dense --data mnist", "unknown data 'mnist'; choose digits, cifar10 or a folder"),
        ("--head dense --device tpu", "unknown device 'tpu'; choose one of auto, cpu, cuda"),
        ("--head dense --backbone vit", "backbone.name: Input should be 'identity', 'resnet18' or 'small', not 'vit'"),
        ("--head dense --experts 4", "the dense head has no setting 'experts'"),
        ("--head sparse --k 9", "k = 9 is more than experts = 8"),
        ("--head sparse --activation tanh", "activation: Input should be 'relu', 'gelu' or 'silu', not 'tanh'"),
        ("--head sparse --epochs 0", "epochs: Input should be greater than or equal to 1, not 0"),
        ("--head sparse --val-share 0.9999", "change --val-share"),
    ],
)
def test_bad_options_are_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments.split())
    assert isinstance(result.exception, ModelError)
    assert words in str(result.exception)
    assert "\n" not in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_an_output_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = run("--head", "dense", "--out", str(tmp_path / "file" / "out"))
    assert isinstance(result.exception, ModelError)
    assert "cannot create the folder" in str(result.exception)
