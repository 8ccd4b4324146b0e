"""The tuning command as far as it goes without a GPU: what it would time, how it decides, resumes and refuses."""

import io
import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from kernels import tune
from kernels.choice.tuning import Entry, layer_of, load
from kernels.cost.machine import H100
from kernels.paths.fused_tiles import FusedTiles
from kernels.paths.grouped import Grouped
from kernels.paths.options import Options
from kernels.problem.problem import Problem
from kernels.tune import CANDIDATES, LAYERS, ROWS, Trial, main, read_layers, trials

SMALL = Problem(N=5, D=16, H=16, E=4, C=3, k=2, M=10, dtype=torch.float32)
TILES = FusedTiles(tile_rows=16, experts=4, slices=1, hidden=16, depth=16, warps=4, stages=1)
WRONG, BROKEN = replace(TILES, experts=2), replace(TILES, experts=1)
CPU = torch.device("cpu")


def test_every_layer_is_timed_at_one_number_of_rows_before_the_next() -> None:
    cases = list(trials({name: LAYERS[name] for name in ("paper", "e128")}, H100))
    assert [(case.problem.N, case.name) for case in cases] == [(N, name) for N in ROWS for name in ("paper", "e128")]
    for case in cases:
        assert 1 < len(case.candidates) <= CANDIDATES
        assert len(set(case.candidates)) == len(case.candidates)
        assert case.problem.N * case.problem.k == case.problem.M
    assert any(isinstance(options, Grouped) for case in cases for options in case.candidates)


def test_what_does_not_fit_is_left_out() -> None:
    huge = replace(LAYERS["mixtral"], E=256)
    assert list(trials({"huge": huge}, H100)) == []


def test_the_list_needs_no_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list", "--layers", "paper"]) == 0
    shown = capsys.readouterr().out
    assert "estimated" in shown
    assert "FusedTiles" in shown
    assert "65536" in shown


def test_without_a_gpu_there_is_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--out", str(tmp_path / "out.json")]) == 2
    written = capsys.readouterr()
    assert written.out == ""
    assert " ".join(written.err.split()) == (
        "kernels.tune times kernels on a GPU, but there is no CUDA device; --list needs none."
    )
    assert list(tmp_path.iterdir()) == []


def test_the_interpreter_is_not_timed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert main([]) == 2
    assert "TRITON_INTERPRET unset" in capsys.readouterr().err


def test_layers_are_named_or_read_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert read_layers([]) == LAYERS
    assert list(read_layers(["e128", "paper"])) == ["e128", "paper"]
    assert main(["--list", "--layers", "nobody"]) == 2
    assert "no layer is called nobody; there are paper" in capsys.readouterr().err
    path = tmp_path / "layers.json"
    path.write_text(json.dumps({"mine": vars(layer_of(SMALL))}))
    assert read_layers([str(path)]) == {"mine": replace(SMALL, N=1, M=2)}
    path.write_text(json.dumps({"mine": {"D": 3}}))
    assert main(["--list", "--layers", str(path)]) == 2
    assert "layer mine needs D, H, E, C, k" in " ".join(capsys.readouterr().err.split())
    assert main(["--list", "--layers", str(tmp_path / "nothing.json")]) == 2


def test_each_block_has_an_order_of_its_own_and_the_median_decides() -> None:
    calls: list[str] = []
    replays: dict[str, Callable[[], None]] = {name: lambda name=name: calls.append(name) for name in "abcd"}  # type: ignore[misc]
    times = {"a": 3.0, "b": 2.0, "c": 1.0, "d": 4.0}

    def clock(replay: Callable[[], None]) -> float:
        replay()
        late = 100.0 if len(calls) <= 4 or len(calls) % 23 == 0 else 0.0  # the first block, and outliers
        return times[calls[-1]] + late

    assert tune.timed(replays, clock) == times
    blocks = [calls[i : i + 4] for i in range(0, len(calls), 4)]
    assert len(blocks) == tune.BLOCKS + 1
    assert all(sorted(block) == list("abcd") for block in blocks)
    assert len({tuple(block) for block in blocks}) > 4


def test_only_candidates_that_are_right_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    real, seconds = tune.moe, itertools.count()

    def moe(*arguments: Any, options: Options, **named: Any) -> torch.Tensor:
        if options == BROKEN:
            raise RuntimeError("out of shared memory")
        return real(*arguments, options=options, **named) + (options == WRONG)

    monkeypatch.setattr(tune, "moe", moe)
    monkeypatch.setattr(tune, "graph", lambda call: call)
    monkeypatch.setattr(tune, "event_seconds", lambda _: float(next(seconds)))
    shown = io.StringIO()
    console = Console(file=shown, width=500)
    entry = tune.measure(Trial("small", SMALL, (WRONG, TILES, BROKEN)), CPU, console)
    assert entry == Entry(layer_of(SMALL), 5, TILES, float(tune.BLOCKS + 1) / 2)
    assert f"small with N = 5: {WRONG.code} is WRONG" in shown.getvalue()
    assert f"{BROKEN.code} does not run (out of shared memory)" in shown.getvalue()
    assert tune.measure(Trial("small", SMALL, (WRONG,)), CPU, console) is None


def test_a_result_is_judged_by_its_dtype() -> None:
    expected = torch.ones(100)
    assert tune.right(expected + 5e-5, expected, SMALL)
    assert not tune.right(expected + 2e-4, expected, SMALL)
    assert not tune.right(expected * float("nan"), expected, SMALL)
    assert tune.right(expected.half() + 1e-2, expected, replace(SMALL, dtype=torch.float16))


def test_a_second_run_times_only_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    timed: list[int] = []

    def measure(case: Trial, device: torch.device, console: Console) -> Entry | None:
        timed.append(case.problem.N)
        if len(timed) == 3:
            raise KeyboardInterrupt
        return None if case.problem.N == 64 else Entry(layer_of(case.problem), case.problem.N, TILES, 1e-6)

    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "GPU")
    monkeypatch.setattr(tune, "machine_of", lambda _: H100)
    monkeypatch.setattr(tune, "machine_numbers", lambda _: {"launch_seconds": 1e-6})
    monkeypatch.setattr(tune, "measure", measure)
    monkeypatch.setattr(tune, "ROWS", (1, 64, 8, 4))
    path, console = tmp_path / "gpu.json", Console(stderr=True)
    with pytest.raises(KeyboardInterrupt):
        tune.tune({"small": SMALL}, path, 5, console)
    assert [entry.N for entry in load(path, "GPU").entries] == [1]
    tune.tune({"small": SMALL}, path, 5, console)
    assert timed == [1, 64, 8, 64, 8, 4]
    assert [entry.N for entry in load(path, "GPU").entries] == [1, 8, 4]
    assert "no candidate agrees with the reference" in " ".join(capsys.readouterr().err.split())
    tune.tune({"small": SMALL}, path, 0, console)
    assert len(timed) == 6
    assert "again to continue" in " ".join(capsys.readouterr().err.split())
