"""`make gpu`: every step runs whatever became of the one before, and a failure shows in the status."""

import os
import shutil
import subprocess
import sys

import pytest

from bench.rooms import ROOT

pytestmark = pytest.mark.skipif(not (shutil.which("make") and shutil.which("timeout")), reason="needs make and timeout")


SUITES = [("bench", "paper"), ("bench", "batch"), ("bench", "models"), ("map", "scale")]


@pytest.fixture
def make_gpu(tmp_path):
    """Run `make gpu` with a Python that notes its arguments and fails for those that name `failing`."""

    def run(failing="nothing", target="gpu"):
        (tmp_path / "bin").mkdir()
        python = tmp_path / "bin" / "python"
        python.write_text(
            f'#!{sys.executable}\nimport sys\nopen("{tmp_path}/log", "a").write(" ".join(sys.argv[1:]) + "\\n")\n'
            f'sys.exit("{failing}" in sys.argv)\n'
        )
        python.chmod(0o755)
        done = subprocess.run(
            ["make", target, "READY=", f"BIN={tmp_path}/bin"], cwd=ROOT, env={**os.environ, "OUT": f"{tmp_path}/out"},
            capture_output=True, text=True,
        )  # fmt: skip
        steps = (tmp_path / "log").read_text().splitlines()
        return done, [step for step in steps if "import xdist" not in step]

    return run


def test_tests_come_first_then_targets_then_suites_then_the_report(make_gpu, tmp_path):
    done, steps = make_gpu()
    assert done.returncode == 0, done.stderr
    words = [("pytest", "gpu"), ("targets", "--minutes"), *SUITES, ("report", "report")]
    assert len(steps) == len(words)
    for step, (first, second) in zip(steps, words, strict=True):
        assert f" {first} " in step
        assert second in step
        assert f"{tmp_path}/out" in step


@pytest.mark.parametrize("failing", ["pytest", "targets", "models", "report"])
def test_a_failing_step_stops_no_other(make_gpu, failing):
    done, steps = make_gpu(failing)
    assert len(steps) == 7
    assert done.returncode != 0
    assert {"pytest": "tests"}.get(failing, failing) in done.stderr.splitlines()[0]


def test_the_suites_alone_fit_into_nine_minutes(make_gpu, tmp_path):
    done, steps = make_gpu("map", target="gpu-suites")
    assert done.returncode != 0
    assert done.stderr.splitlines()[0] == "gpu-suites: failed: scale"
    started = [step.split("bench.cli ")[1].split(" --device")[0] for step in steps[:-1]]
    assert started == ["bench --suite paper", "bench --suite batch", "bench --suite models", "map"]
    assert all(f"{tmp_path}/out/{suite}.json" in steps[-1] for _, suite in SUITES)
