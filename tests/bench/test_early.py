"""Options that are checked before torch is imported: their names are those that there are."""

import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from bench import early
from bench.errors import BenchError
from bench.forms import ENTRY_POINTS, forms
from bench.rooms import ROOT
from bench.subjects.skew import SKEWS
from bench.suites.suite import SUITES
from bench.timing.precision import DTYPES
from models.config import BackboneName
from models.device import DEVICES
from models.heads.heads import HEAD_KINDS
from models.settings import ConfigError
from models.training.recipes import PRESETS


def test_the_names_are_those_that_there_are() -> None:
    assert early.DEVICES == DEVICES
    assert tuple(DTYPES) == early.DTYPES
    assert (*HEAD_KINDS, "all") == early.HEADS
    assert set(early.PRESETS) == set(PRESETS)
    assert set(early.BACKBONES) == set(get_args(BackboneName))
    assert tuple(SUITES) == early.SUITES
    assert early.SKEWS == SKEWS
    assert early.ENTRY_POINTS == ENTRY_POINTS


def test_every_form_passes_and_others_are_named() -> None:
    assert early.checked_forms([*forms()]) == [*forms()]
    for name in ("jax", "Loop", "lo", "loop2", ""):
        with pytest.raises(BenchError, match=rf"unknown form '{name}'; choose one of .*eager.*; `moegap doctor` lists"):
            early.checked_form(name)


def test_a_form_of_another_package_may_have_any_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(early, "entry_points", lambda group: [group])
    assert early.checked_form("theirs") == "theirs"


def test_one_or_several_names() -> None:
    check = early.one_of("device", ("cpu", "cuda"))
    for value in (None, [], "cpu", ["cuda", "cpu"]):
        assert check(value) == value
    for wrong in ("tpu", ["cpu", "tpu"]):
        with pytest.raises(ConfigError, match="unknown device 'tpu'; choose one of cpu, cuda"):
            check(wrong)


def test_more_threads_than_cores_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    assert [early.checked_threads(threads) for threads in (None, 1, 2)] == [None, 1, 2]
    with pytest.raises(BenchError, match="--threads 100000 is more than the 2 cores of this machine"):
        early.checked_threads(100_000)


def test_a_result_is_not_overwritten(tmp_path: Path) -> None:
    early.check_new(tmp_path / "absent")
    (tmp_path / "there").touch()
    early.check_new(tmp_path / "there", resume=True)
    with pytest.raises(BenchError, match="there exists already; pass --resume to continue it"):
        early.check_new(tmp_path / "there")


TYPOS = """
import sys
from bench import cli
for line in sys.stdin.read().splitlines():
    sys.argv = ["moegap", *line.split()]
    try:
        cli.main()
    except SystemExit as stop:
        assert stop.code not in (0, None), line
    assert "torch" not in sys.modules, line
"""


def test_a_typo_is_answered_without_torch() -> None:
    readme = ROOT / "README.md"
    lines = (
        "bench --suite dmo", "bench --form lop", "bench --device gpu", "bench --dtype fp8", "bench --routing zipf9",
        "bench nowhere", f"bench --out {readme}", "bench --threads 100000", "map --form lop", "map --rows 8",
        "train --head sprse", "train --head sparse --preset huge", "train --head sparse --backbone vgg",
        "train --head sparse --activation tanh", "policies --preset huge", "policies --form lop",
        "sharpness nowhere", "sharpness . --subset val", "sharpness . --dtype int8",
        "infer nowhere x.npy --out y.npy", "infer . x.npy --out /dev/full", "infer . x.npy --out y.npy --form lop",
        "profile nowhere", "profile . --form lop", f"self-test --out {readme}", "traces nowhere",
        "account nowhere.json", "report nowhere.json", "compare a.json b.json", "doctor --tri", "unheard-of",
    )  # fmt: skip
    command = [sys.executable, "-c", TYPOS]
    done = subprocess.run(command, input="\n".join(lines), cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    said = done.stderr.splitlines()
    assert len(said) == len(lines)
    assert all(line.startswith("moegap: ") for line in said)
