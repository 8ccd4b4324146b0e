"""The command `moegap profile`."""

from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from typer import Typer
from typer.testing import CliRunner, Result

from bench.commands.profile import _stage_table, profile
from bench.commands.shared import print_table
from bench.errors import BenchError
from bench.execution.stages import OTHER, STAGES
from bench.forms import forms
from reports.reading import inputs
from reports.reading.files import read
from reports.records.profile import Operator, Profile, StagePart
from tests.bench.checkpoints import sparse_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sparse head, untrained."""
    return sparse_checkpoint(tmp_path_factory.mktemp("runs") / "demo")


def run(*arguments: object) -> Result:
    """Run the command with these arguments."""
    app = Typer()
    app.command()(profile)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_prints_stages_and_leaves_traces(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "log"
    options = ["--rows", 16, "--rows", 5, "--out", out, "--device", "cpu", "--form", "loop", "--form", "grouped_mm"]
    done = run(checkpoint, *options)
    assert done.exit_code == 0, done.output
    said = " ".join(done.output.split())
    shown = [stage for stage in STAGES if stage != "fused"]  # a stage that no form has is no column
    for words in ("sparse head of", "float32", "16 rows:", "5 rows:", *shown, OTHER, "loop", "busy", "gap", "%"):
        assert words in said
    assert "fused" not in said
    for words in ("moegap report", f"moegap traces {out}", f"Written: {out}/profile.json"):
        assert words in said
    names = [path.parent.name for path in out.glob("*/*.pt.trace.json.gz")]
    assert sorted(names) == [f"demo-{form}-n{rows}-float32-cpu" for form in ("grouped_mm", "loop") for rows in (16, 5)]


def test_a_graph_needs_a_gpu(checkpoint: Path, tmp_path: Path) -> None:
    done = run(checkpoint, "--graph", "--out", tmp_path / "log", "--device", "cpu")
    assert isinstance(done.exception, BenchError)
    assert "--graph needs a CUDA device" in str(done.exception)
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_table_of_stages_fits_a_terminal(device: str) -> None:
    part = StagePart(seconds=0.0018765, launches=7.0)
    kernel = Operator(name="gemm", where="gpu", seconds=0.008765, count=1.0)
    found = Profile(
        form="onnxruntime", rows=256, graph=False, calls=10, told_by="names", seconds=0.011259, busy=0.008765,
        gap=0.002494, host=0.004567, overlap=0.001234, launches=188.0, parts=dict.fromkeys((*STAGES, OTHER), part),
        operators=(kernel,),
    )  # fmt: skip
    console = Console(width=80, file=StringIO())
    table, note = _stage_table([found], 256, device)
    print_table(console, table, note, gap=0)
    told = console.file.getvalue()
    assert "…" not in told
    assert all(word in told for word in (*STAGES, OTHER, "busy", "gap", "11259", "8765", "188"))
    assert ("4567" in told) == (device == "cuda")


@pytest.mark.gpu
def test_replays_of_graphs_stand_beside_calls(checkpoint: Path, tmp_path: Path) -> None:
    done = run(checkpoint, "--graph", "--out", tmp_path, "--form", "loop", "--form", "triton")
    assert done.exit_code == 0, done.output
    path = tmp_path / "profile.json"
    (file,) = inputs.gather(read([path])).profiles
    assert [found.label for found in file.profiles] == ["loop", "triton", "triton (graph)"]
    assert [found.label for found in file.left_out] == ["loop (graph)"]
    assert file.profiles[2].gap < file.profiles[1].gap


def test_says_why_a_form_was_left_out(checkpoint: Path, tmp_path: Path) -> None:
    options = ["--out", tmp_path, "--device", "cpu", "--dtype", "bfloat16", "--form", "eager"]
    done = run(checkpoint, *options, "--form", "onnxruntime")
    assert done.exit_code == 0, done.output
    assert "onnxruntime was left out: this form binds float32 and float16 only" in " ".join(done.output.split())


def test_brackets_in_a_reason_or_a_name_are_text(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = "install onnxruntime-gpu[cuda,cudnn]"
    monkeypatch.setitem(forms(), "loop", replace(forms()["loop"], unavailable=lambda *_: reason))
    done = run(checkpoint, "--out", tmp_path, "--device", "cpu", "--form", "eager", "--form", "loop")
    assert reason in done.output


def test_fails_where_nothing_can_run(checkpoint: Path, tmp_path: Path) -> None:
    options = ["--out", tmp_path, "--device", "cpu", "--dtype", "float16", "--form", "onnxruntime"]
    done = run(checkpoint, *options)
    assert isinstance(done.exception, BenchError)
    assert "none of these forms can run here (onnxruntime: " in str(done.exception)
