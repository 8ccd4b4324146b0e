"""`moegap train`, called as the command line calls it."""

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from bench.commands.train import train
from models.classifier import checkpoint
from models.errors import ModelError
from reports.records.files import StorageError
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
    actual = checkpoint.load(out)
    head, training = actual.config.model.head, actual.config.training
    assert head.model_dump() | {"experts": 5, "hidden": 7, "k": 3, "activation": "gelu"} == head.model_dump()
    asked = {"epochs": 2, "batch": 100, "lr": 0.05, "seed": 3, "val_share": 0.2}
    assert training | asked == training
    assert f"{actual.metrics['test_accuracy']:.2%}" in result.output
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
    actual = checkpoint.load(tmp_path / "runs" / "pictures-dense")
    assert actual.config.model.backbone.name == "small"
    assert [path.suffix for path in (tmp_path / "runs" / "cache").iterdir()] == [".safetensors"]


def test_ctrl_c_says_how_to_continue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from models.training.trainer import Trainer

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
        ("--head dense --preset best", "unknown preset 'best'; choose one of demo, quick, fast, paper, paper-fixed"),
        ("--head dense --data mnist", "unknown data 'mnist'; choose digits, cifar10 or a folder"),
        ("--head dense --device tpu", "unknown device 'tpu'; choose one of auto, cpu, cuda"),
        (
            "--head dense --backbone vit",
            "unknown backbone 'vit'; choose one of identity, small, fast, resnet18",
        ),
        ("--head dense --experts 4", "the dense head has no setting 'experts'"),
        ("--head sparse --k 9", "k = 9 is more than experts = 8"),
        ("--head sparse --activation tanh", "unknown activation 'tanh'; choose one of relu, gelu, silu, swiglu"),
        ("--head sparse --epochs 0", "epochs: Input should be greater than or equal to 1, not 0"),
        ("--head sparse --val-share 0.9999", "change --val-share"),
        ("--head sparse --balance load", "--balance 'load' is no NAME=WEIGHT"),
        ("--head sparse --balance spread=1", "balance.spread"),
        ("--head dense --balance kl=1", "a dense head has no experts to balance"),
        ("--head sparse --mass 0.5", "policy top_k has no setting mass"),
        ("--head sparse --policy best", "unknown policy 'best'; choose one of top_k, "),
        ("--head all --head mixture", "unknown head 'mixture'"),
        ("--head all --data mnist", "unknown data 'mnist'"),
        ("--head dense --head soft --k 3", "none of the heads dense, soft has a setting 'k'"),
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
    assert isinstance(result.exception, StorageError)
    assert "cannot create the folder" in str(result.exception)


STUDY = ("--head", "all", "--seeds", "2", "--epochs", "1", "--batch", "300")


def test_all_heads_are_trained_over_seeds_and_tabled(tmp_path: Path) -> None:
    result = run(*STUDY, "--out", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert "heads dense, soft, sparse with seeds 0, 1 on digits, preset demo, 1 epochs each" in result.output
    assert "run 2 of 6" in result.output
    runs = json.loads((tmp_path / "study.json").read_text())["runs"]
    assert [run["folder"] for run in runs] == [
        f"{head}-seed{n}" for n in (0, 1) for head in ("dense", "soft", "sparse")
    ]
    for name, label in (("dense", "dense"), ("soft", "soft"), ("sparse", "sparse (top_k)")):
        tests = [run["test_accuracy"] for run in runs if run["head"] == name]
        (line,) = (line for line in result.output.splitlines() if line.strip().startswith(f"{label}  "))
        assert line.split()[-3:-1] == [f"{np.mean(tests):.2%}", f"{np.std(tests, ddof=1):.2%}"]
    again = run(*STUDY, "--out", str(tmp_path))
    assert again.exit_code == 0
    assert again.output.count("is already finished") == 6


def test_one_seed_has_no_spread(tmp_path: Path) -> None:
    result = run("--head", "dense", "--seeds", "1", "--seed", "7", "--epochs", "1", "--out", str(tmp_path))
    (line,) = (line for line in result.output.splitlines() if line.strip().startswith("dense  "))
    assert line.split()[1:6:2] == ["1", "-", "-"]
    assert (tmp_path / "dense-seed7" / "config.json").exists()


def test_heads_may_be_named_one_by_one(tmp_path: Path) -> None:
    result = run("--head", "dense", "--head", "sparse", "--epochs", "1", "--policy", "top_p", "--out", str(tmp_path))
    assert "run 2 of 2" in result.output
    assert "sparse (top_p)" in result.output


def test_a_study_in_which_a_training_failed_ends_with_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from models.training.trainer import DivergedError, Trainer

    def diverges(self: Trainer) -> None:
        if self.config.head == "soft":
            raise DivergedError("the loss became nan")
        real(self)

    real = Trainer.run_epoch
    monkeypatch.setattr(Trainer, "run_epoch", diverges)
    result = run("--head", "all", "--epochs", "1", "--batch", "300", "--out", str(tmp_path))
    assert result.exit_code == 1
    assert result.output.splitlines()[-1] == "soft-seed0 failed: the loss became nan"
    assert "sparse (top_k)" in result.output


def test_ctrl_c_in_a_study_says_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from models.training.trainer import Trainer

    def interrupted(self: Trainer) -> None:
        if self.config.head == "sparse":
            raise KeyboardInterrupt
        real(self)

    real = Trainer.run_epoch
    monkeypatch.setattr(Trainer, "run_epoch", interrupted)
    result = run("--head", "all", "--epochs", "1", "--batch", "300", "--out", str(tmp_path))
    assert result.exit_code == 130
    assert f"stopped: {tmp_path} keeps 2 finished trainings" in result.output
    assert "run the same command again to continue" in result.output


def test_routing_and_balance_are_options(tmp_path: Path) -> None:
    result = run(
        *("--head", "sparse", "--out", str(tmp_path), "--epochs", "1", "--batch", "300", "--policy", "capacity"),
        *("--capacity-factor", "1.5", "--overflow", "next", "--bias-correction", "--balance", "z=0.01"),
        *("--balance", "correction=0.5"),
    )
    assert result.exit_code == 0, result.output
    actual = checkpoint.load(tmp_path)
    asked = {"policy": "capacity", "capacity_factor": 1.5, "overflow": "next", "bias_correction": True}
    assert actual.config.model.head.model_dump() | asked == actual.config.model.head.model_dump()
    assert actual.config.training["balance"] | {"z": 0.01, "correction": 0.5} == actual.config.training["balance"]
    assert actual.model.get_buffer("head.correction").abs().sum() > 0


def test_the_papers_recipe_is_labelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.training.train.train", lambda *_, **__: {"test_accuracy": 0.5, "best_epoch": 1})
    for preset in ("paper", "paper-fixed"):
        output = run("--head", "dense", "--preset", preset, "--out", str(tmp_path)).output
        assert ("defect 1 included: the training images are not augmented" in output) == (preset == "paper")
