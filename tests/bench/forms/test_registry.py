"""The registry: forms of this folder, and those of installed packages with nothing edited here."""

import csv
import json
import re
import shutil
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch

import bench.forms
from bench.errors import BenchError
from bench.forms import default_forms, form, forms
from reports.output.styles import OTHERS
from reports.page import build
from tests.bench.checkpoints import sparse_checkpoint

PLUGIN = Path(__file__).with_name("plugin")
PEERS = {
    "masked", "compile_max", "compile_grouped_mm", "triton_fused", "triton_grouped", "triton_given", "triton_products",
    "cublas", "liger", "moe_ops", "onnxruntime_moe", "onnxruntime_moe_graph", "onnxruntime_int8",
    "onnxruntime_int4", "empty", "copy", "read", "peak", "triton_fp8", "triton_fp8_channels", "triton_fp8_blocks",
    "triton_mxfp4",
}  # fmt: skip


@pytest.fixture(autouse=True)
def fresh_registry():
    forms.cache_clear()
    yield
    forms.cache_clear()


@pytest.fixture
def entries(monkeypatch):
    """Return a function that installs entry points, as (name, value)."""

    def install(*named):
        points = [EntryPoint(name, value, "moegap.forms") for name, value in named]
        monkeypatch.setattr(bench.forms, "entry_points", lambda group: points)

    return install


def test_peers_and_anchors_are_measured_by_name_alone():
    assert default_forms() == ["loop", "eager", "compile", "grouped_mm", "native", "triton", "onnxruntime"]
    assert forms().keys() - set(default_forms()) == PEERS


def test_what_does_not_run_the_head_says_what_it_does_instead():
    for chosen in forms().values():
        assert (chosen.computes == "head") == (chosen.work is None), chosen.name
        assert (chosen.computes == "products") == (chosen.expected is not None), chosen.name


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Return a folder into which the package was installed."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    shutil.copytree(PLUGIN, source, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", target, source]
    subprocess.run([sys.executable, "-m", "pip", "install", *options], check=True)
    return target


def test_a_form_of_another_package_is_measured_and_shown_like_any_other(installed, tmp_path, monkeypatch, in_process):
    checkpoint, out, page = sparse_checkpoint(tmp_path / "head"), tmp_path / "result.json", tmp_path / "page"
    options = ["--form", "loop", "--form", "theirs", "--rows", "4", "--seconds", "0.02", "--device", "cpu"]
    monkeypatch.syspath_prepend(installed)
    status, _, errors = in_process("bench", checkpoint, *options, "--out", out)
    assert status == 0, errors
    measured = [entry["extra_info"] for entry in json.loads(out.read_text())["benchmarks"]]
    (theirs,) = [record for record in measured if record["form"] == "theirs"]
    assert (theirs["rows"], theirs["runs_on"]["kernels"]) == (4, "their-forms 1.2.3")

    build([out], page)
    html = (page / "index.html").read_text()
    (legend,) = set(re.findall(r'<li><svg[^>]*><line [^>]*stroke="(#\w+)"[^>]*/>.*?</svg>theirs</li>', html))
    assert legend in OTHERS  # the colours of names that moegap does not know
    rows = csv.DictReader((page / "summary.csv").read_text().splitlines())
    assert {row["form"] for row in rows} == {"loop", "theirs"}
    assert re.search(r"^\|.*\btheirs\b.*\|$", (page / "report.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("no_such_package:FORM", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("bench.forms.eager:NO_FORM", "AttributeError"),
        ("bench.errors:BenchError", "it is a type, not a Form"),
    ],
)
def test_a_form_that_cannot_be_loaded_says_so_and_stops_no_other(entries, value, words):
    entries(("broken", value))
    config = None
    reason = form("broken").unavailable(config, torch.device("cpu"), torch.float32)
    assert reason.startswith(f"the entry point {value} cannot be loaded: ")
    assert words in reason
    assert form("eager").name == "eager"


def test_a_name_that_is_taken_is_refused(entries):
    entries(("eager", "bench.forms.loop:FORM"))
    with pytest.raises(
        BenchError, match=r"two forms are named 'loop', one in moegap itself and one in package .*; uninstall"
    ):
        forms()
