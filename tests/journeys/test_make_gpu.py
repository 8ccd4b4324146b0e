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

    def run(failing="nothing", target="gpu", *more):
        (tmp_path / "bin").mkdir()
        python = tmp_path / "bin" / "python"
        python.write_text(
            f'#!{sys.executable}\nimport os, sys\nopen("{tmp_path}/log", "a").write(" ".join(sys.argv[1:]) + "\\n")\n'
            f'open("{tmp_path}/path", "a").write(os.environ["PYTHONPATH"] + "\\n")\n'
            f'sys.exit("{failing}" in sys.argv)\n'
        )
        python.chmod(0o755)
        done = subprocess.run(
            ["make", target, "READY=", f"BIN={tmp_path}/bin", *more], cwd=ROOT, capture_output=True, text=True,
            env={**os.environ, "MAKEFLAGS": "", "OUT": f"{tmp_path}/out"},
        )  # fmt: skip
        return done, (tmp_path / "log").read_text().splitlines()

    return run


def test_the_first_minutes_come_first_then_tuned_options_then_targets(make_gpu, tmp_path):
    done, steps = make_gpu()
    assert done.returncode == 0, done.stderr
    assert [step.split()[1] for step in steps] == ["kernels.first_minutes", "kernels.tune", "bench.cli"]
    assert f"{tmp_path}/out" in steps[0]
    assert f"targets --minutes 2.6 --out {tmp_path}/out/targets" in steps[2]


@pytest.mark.parametrize(
    ("failing", "part"), [("kernels.first_minutes", "gpu-first"), ("kernels.tune", "tune"), ("targets", "targets")]
)
def test_a_failing_step_stops_no_other(make_gpu, failing, part):
    done, steps = make_gpu(failing)
    assert len(steps) == 3
    assert done.returncode != 0
    assert any(line.startswith("gpu") and "failed:" in line and part in line for line in done.stderr.splitlines())


def test_the_suites_have_a_run_of_their_own(make_gpu, tmp_path):
    done, steps = make_gpu("map", target="gpu-suites")
    assert done.returncode != 0
    assert done.stderr.splitlines()[0] == "gpu-suites: failed: scale"
    started = [step.split("bench.cli ")[1].split(" --device")[0] for step in steps]
    assert started == ["bench --suite paper", "bench --suite batch", "bench --suite models", "map"]
    assert [step.split("--out ")[1] for step in steps] == [f"{tmp_path}/out/{suite}.json" for _, suite in SUITES]


@pytest.mark.parametrize("failing", ["nothing", "pip"])
def test_wheels_are_installed_beside_the_packages_and_come_first(make_gpu, tmp_path, failing):
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "a.whl").touch()
    done, steps = make_gpu(failing, "gpu-first", f"WHEELS={tmp_path}/wheels")
    assert done.returncode == 0, done.stderr
    install, first = steps
    assert "--no-index --no-deps" in install
    assert install.endswith(f"--target {ROOT}/runs/gpu-site {tmp_path}/wheels/a.whl")
    assert "kernels.first_minutes" in first
    assert (tmp_path / "path").read_text().splitlines()[-1].split(":")[0] == f"{ROOT}/runs/gpu-site"
