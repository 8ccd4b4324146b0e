"""The command `moegap profile`."""

from pathlib import Path

import pytest
import torch
from typer import Typer
from typer.testing import CliRunner, Result

from bench.commands.profile import profile
from bench.errors import BenchError
from bench.stages import OTHER, STAGES
from models.checkpoint import save
from models.classifier import Classifier
from models.config import InputConfig, ModelConfig, head_config


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sparse classifier of 4 x 6 images without a backbone."""
    images = InputConfig(shape=(1, 4, 6), mean=(0.5,), std=(0.25,))
    head = head_config("sparse", features=24, classes=5, hidden=12, experts=4)
    path = tmp_path_factory.mktemp("runs") / "demo"
    save(
        path,
        Classifier(ModelConfig(head=head), images).eval(),
        images=images,
        data="none",
        classes=tuple("abcde"),
        training={},
        metrics={"test_accuracy": 0.5},
        environment={},
        features=torch.randn(10, 24, generator=torch.Generator().manual_seed(0)),
    )
    return path


def run(*arguments: object) -> Result:
    """Run the command with these arguments."""
    app = Typer()
    app.command()(profile)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_prints_stages_and_leaves_traces(checkpoint: Path, tmp_path: Path) -> None:
    options = ["--rows", 16, "--out", tmp_path / "log", "--device", "cpu", "--form", "loop", "--form", "grouped_mm"]
    done = run(checkpoint, *options)
    assert done.exit_code == 0, done.output
    for shown in ("sparse head of", "16 rows, float32", *STAGES, OTHER, "loop", "grouped_mm", "tensorboard", "%"):
        assert shown in " ".join(done.output.split())
    names = [path.parent.name for path in (tmp_path / "log").glob("*/*.pt.trace.json.gz")]
    assert sorted(names) == ["demo-grouped_mm-n16-float32-cpu", "demo-loop-n16-float32-cpu"]


def test_says_why_a_form_was_left_out(checkpoint: Path, tmp_path: Path) -> None:
    options = ["--out", tmp_path, "--device", "cpu", "--dtype", "bfloat16", "--form", "eager"]
    done = run(checkpoint, *options, "--form", "onnxruntime")
    assert done.exit_code == 0, done.output
    assert "onnxruntime was left out: this form binds float32 and float16 only" in " ".join(done.output.split())


def test_fails_where_nothing_can_run(checkpoint: Path, tmp_path: Path) -> None:
    options = ["--out", tmp_path, "--device", "cpu", "--dtype", "float16", "--form", "onnxruntime"]
    done = run(checkpoint, *options)
    assert isinstance(done.exception, BenchError)
    assert "no form of those asked for can run here (onnxruntime: " in str(done.exception)
