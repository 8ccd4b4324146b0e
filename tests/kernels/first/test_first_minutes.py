"""The first minutes, rehearsed: every step runs by the interpreter, and a step that fails stops no other."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.rooms import ROOT
from kernels import first_minutes
from kernels.first import commands, replays
from kernels.first.log import Log
from kernels.first.smoke import PATHS, SHAPES
from kernels.first_minutes import STEPS, Step, main, perform

CPU = torch.device("cpu")
ABSENT = ("altair", "vl_convert", "jsonschema", "playwright", "axe_playwright_python", "torch_tb_profiler")
"""Packages that draw reports or check them."""
WITHOUT = f"import sys; sys.modules.update(dict.fromkeys({ABSENT}))\n"

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "first.jsonl").read_text().splitlines()]


def python(code: str, *arguments: str, interpret: str = "1") -> subprocess.CompletedProcess[str]:
    """Run code in a new process, as a machine without the packages of reports would."""
    return subprocess.run(
        [sys.executable, "-c", WITHOUT + code, *arguments], cwd=ROOT, env={**os.environ, "TRITON_INTERPRET": interpret},
        capture_output=True, text=True,
    )  # fmt: skip


def test_every_step_runs_in_a_rehearsal(tmp_path: Path) -> None:
    chosen = (
        "imports",
        "smoke",
        "calibration",
        "tiles",
        "fused",
        "counters",
        "races",
    )  # not the tests, whose import is slow
    code = (
        "from kernels.first import tiles\n"
        "from kernels.first_minutes import main\n"
        "from tests.interpreter import quicken_interpreter\n"
        "quicken_interpreter()\n"
        "tiles.LAYERS = tiles.LAYERS[:1]\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    done = python(code, "--rehearse", "--out", str(tmp_path), "--only", *chosen)
    results = lines(tmp_path)
    assert done.returncode == 0, done.stderr
    assert [line["step"] for line in results if line.get("ended") == "well"] == list(chosen)
    assert [line for line in results if "failed" in line] == []
    measured = [line for line in results if "ended" not in line]
    assert all({"at", "device", "clock_mhz", "torch", "triton"} <= line.keys() for line in measured)
    smoke = [line for line in measured if line["step"] == "smoke"]
    assert {line["path"] for line in smoke} == set(PATHS)
    assert len(smoke) == len(PATHS) * len(SHAPES)
    assert all(line["ok"] and line["differing"] == 0 for line in smoke)
    assert all(line["us"] is None for line in measured if line["step"] in ("tiles", "fused"))


LONGEST = 300.0
"""Seconds after which a step has hung."""


def good(log: Log) -> None:
    log.write(ok=True)


def raising(log: Log) -> None:
    raise RuntimeError("no such instruction")


def dying(log: Log) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hanging(log: Log) -> None:
    log.write(ok=True)
    subprocess.run(["sleep", "100000"])


@pytest.mark.parametrize(
    ("run", "seconds", "ended"),
    [
        (raising, LONGEST, "with status 1"),
        (dying, LONGEST, "with status -9"),
        (hanging, 1.0, "stopped, its time was over"),
    ],
)
def test_a_step_that_fails_stops_no_other(
    tmp_path: Path, run: Callable[[Log], None], seconds: float, ended: str
) -> None:
    assert perform([Step(run, seconds), Step(good, LONGEST)], tmp_path, CPU, 2 * LONGEST) == [run.__name__]
    results = lines(tmp_path)
    assert [line["ended"] for line in results if "ended" in line] == [ended, "well"]
    assert [line["step"] for line in results if line.get("ok")][-1] == "good"


def test_steps_end_with_the_time(tmp_path: Path) -> None:
    assert perform([Step(good, 30.0)], tmp_path, CPU, 0.0) == ["good"]
    assert lines(tmp_path)[0]["ended"] == "not begun, no time left"


def test_all_steps_have_room_in_five_minutes() -> None:
    assert sum(step.seconds for step in STEPS[:6]) <= first_minutes.SECONDS <= 290


def test_a_program_is_interrupted_and_what_it_said_is_kept(tmp_path: Path) -> None:
    code = "import time\nprint('first', flush=True)\ntry: time.sleep(60)\nexcept KeyboardInterrupt: print('last')"
    commands._run(Log(tmp_path / "first.jsonl", "tests", CPU), [sys.executable, "-c", code], 10.0)
    (line,) = lines(tmp_path)
    assert line["said"].split() == ["first", "last"]
    assert line["status"] == 0


def test_the_slope_is_free_of_what_a_replay_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = {"short": lambda: 2e-6, "long": lambda: 1e-3}
    monkeypatch.setattr(replays, "graph", lambda call, size: lambda: 5e-6 + size * call())
    monkeypatch.setattr(replays, "event_seconds", lambda replay, calls: replay())
    for name, (slope, offset) in replays.slopes(calls).items():
        assert slope == pytest.approx(calls[name]())
        assert offset == pytest.approx(5e-6)


def test_a_call_that_fails_has_a_line_and_the_others_go_on(tmp_path: Path) -> None:
    log = Log(tmp_path / "first.jsonl", "tiles", CPU)
    replays.log_times(log, {"broken": lambda: [][0], "whole": lambda: 0}, layer="paper")
    broken, whole = lines(tmp_path)
    assert (broken["variant"], broken["failed"]) == ("broken", "IndexError: list index out of range")
    assert (whole["variant"], whole["us"], whole["layer"]) == ("whole", None, "paper")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--only", "nonsense"], "No step is called nonsense"), ([], "TRITON_INTERPRET unset"), (["--rehearse"], "")],
)
def test_what_cannot_run_is_one_sentence(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_minutes, "perform", lambda *everything: [])
    assert main([*arguments, "--out", str(tmp_path)]) == (2 if said else 0)
    assert said in " ".join(capsys.readouterr().err.split())


def test_everything_loads_without_the_packages_of_reports() -> None:
    """Rooms that measure, GPU tests, and a command, which loads its modules before it refuses an argument."""
    code = (
        "import importlib, pkgutil, pytest\n"
        "assert pytest.main(['--collect-only', '-q', '-m', 'gpu', '-p', 'no:cacheprovider']) == 0\n"
        "import bench, kernels, models\n"
        "from bench import cli\n"
        "for room in (bench, kernels, models):\n"
        "    for module in pkgutil.walk_packages(room.__path__, room.__name__ + '.'):\n"
        "        importlib.import_module(module.name)\n"
        "sys.argv = ['moegap', 'targets', '--rehearse', '--minutes', '0']\ncli.main()"
    )
    done = python(code)
    assert done.stderr.strip() == "moegap: --minutes must be above 0, not 0", done.stdout[-3000:]
    assert "tests/kernels/test_gpu.py" in done.stdout
    assert " error" not in done.stdout.splitlines()[-1]
