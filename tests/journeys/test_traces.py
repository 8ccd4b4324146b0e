"""`moegap traces`: every route of the plugin answers for traces of torch and an engine, and nothing is left running."""

import gzip
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import psutil
import pytest
import torch
from typer import Typer
from typer.testing import CliRunner

from bench.commands.profile import profile
from bench.execution.stages import CALL, STAGES
from bench.profile.breakdown import breakdown
from bench.profile.trace import STEPS, WAIT, WARMUP
from bench.rooms import ROOT
from reports.page import build
from reports.reading import inputs
from reports.reading.files import read
from reports.records.profile import ProfileFile
from tests.bench.checkpoints import sparse_checkpoint
from tests.bench.chrome import check, problems
from tests.bench.gpu_trace import KERNEL, KERNEL_US, write_gpu_trace

FORMS = ("loop", "onnxruntime")  # tests/bench/profile/test_trace.py has a compiled one
ROWS = 32
CUT_OFF, ON_A_GPU = "cut-off", "on-a-gpu"
SHOWS = {  # an operator that the plugin must name
    "loop": "aten::mm",
    "onnxruntime": "aten::empty",  # torch runs no more of it; its nodes stand in a trace of its own
}


def run_of(form: str) -> str:
    return f"sparse-{form}-n{ROWS}-float32-cpu"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Profiles of every form, the trace of a GPU, and a run whose trace was cut off."""
    out = tmp_path_factory.mktemp("profile")
    checkpoint = sparse_checkpoint(tmp_path_factory.mktemp("runs") / "sparse")
    app = Typer()
    app.command()(profile)
    forms = [word for form in (*FORMS, "triton") for word in ("--form", form)]
    options = ["--rows", str(ROWS), "--device", "cpu", "--out", str(out), *forms]
    done = CliRunner().invoke(app, [str(checkpoint), *options])
    assert done.exit_code == 0, done.output
    (whole,) = (out / run_of("loop")).glob("*.pt.trace.json.gz")
    (out / CUT_OFF).mkdir()
    (out / CUT_OFF / whole.name).write_bytes(whole.read_bytes()[:999])
    (out / ON_A_GPU).mkdir()
    write_gpu_trace(out / ON_A_GPU / "host_1.2.pt.trace.json.gz", STEPS)
    return out


@pytest.fixture(scope="module")
def file(folder: Path) -> ProfileFile:
    """What those profiles say."""
    path = folder / "profile.json"
    (file,) = inputs.gather(read([path])).profiles
    return file


@dataclass
class Served:
    """A running `moegap traces`: its URL and what it said."""

    url: str
    said: str

    def get(self, route: str, **arguments: object) -> Any:
        """Return what a route of the plugin answers."""
        base = self.url.partition("#")[0]
        with urlopen(f"{base}data/plugin/pytorch_profiler/{route}?{urlencode(arguments)}", timeout=300) as answer:
            content = answer.read()
            return json.loads(gzip.decompress(content) if answer.headers["Content-Encoding"] == "gzip" else content)


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[Served]:
    """`moegap traces` on the profiles in a process of its own; SIGTERM ends it and all that it started."""
    command = [sys.executable, "-m", "bench.cli", "traces", str(folder)]
    process = subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if "Without a network" in line:
            break
    (url,) = re.findall(r"^http://127\.0\.0\.1:\d+/#pytorch_profiler", "".join(said), re.MULTILINE)
    yield Served(url, "".join(said))
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=300)
    assert (process.returncode, errors) == (0, "")
    assert not psutil.wait_procs(children, timeout=300)[1]


def test_the_file_says_what_the_traces_do(folder: Path, file: ProfileFile) -> None:
    assert (file.checkpoint, file.head, file.policy, file.dtype) == ("sparse", "sparse", "top_k", "float32")
    assert file.runs_on == "cpu"
    assert "torch" in file.versions
    assert int(file.environment["threads"]) == torch.get_num_threads()
    assert {"commit", "measured_at", "cpu", "device"} <= file.environment.keys()
    profiled = {found.form: found for found in file.profiles}
    assert set(profiled) == set(FORMS)
    loop, onnx = profiled["loop"], profiled["onnxruntime"]
    assert (loop.rows, loop.calls, loop.told_by) == (ROWS, STEPS, "ranges")
    assert onnx.told_by == "names"
    assert {node.where for node in onnx.operators} == {"CPUExecutionProvider"}
    for found in profiled.values():
        seen = breakdown(folder / found.traces[-1])
        assert found.seconds == pytest.approx(seen.seconds)
        assert found.busy == pytest.approx(seen.busy)
        assert {work.name for work in found.operators} == {work.name for work in seen.operators}
    assert [(left.form, left.rows) for left in file.left_out] == [("triton", ROWS)]
    assert file.left_out[0].reason.startswith("Triton")


def test_it_says_what_it_shows(served: Served) -> None:
    assert f"shows {len(FORMS) + 1} of {len(FORMS) + 2} runs" in served.said
    assert f"{CUT_OFF} (not shown: its trace cannot be read)" in served.said
    assert all(f"  {run_of(form)}\n" in served.said for form in FORMS)
    assert {*map(run_of, FORMS)} <= {*served.get("runs")["runs"]}
    assert "loads its chart library from the web" in served.said
    assert "moegap report" in served.said


@pytest.mark.parametrize("form", FORMS)
def test_every_route_answers(served: Served, file: ProfileFile, form: str) -> None:
    run = run_of(form)
    views = served.get("views", run=run)
    assert {"Overview", "Operator", "Trace"} <= set(views)
    for view in views:
        assert len(served.get("workers", run=run, view=view)) == 1
    (worker,) = served.get("workers", run=run, view="Operator")
    assert served.get("spans", run=run, worker=worker) == ["1"]
    place = {"run": run, "worker": worker, "span": "1"}

    overview = served.get("overview", **place)
    steps = [row[0] for row in overview["steps"]["rows"]]
    assert steps == [str(number) for number in range(WAIT + WARMUP, WAIT + WARMUP + STEPS)]
    assert {fact["title"]: fact["value"] for fact in overview["environments"]}["Device Type"] == "CPU"

    for grouped in ("Operation", "OperationAndInputShape"):
        table = served.get("operation/table", **place, group_by=grouped)["data"]
        assert SHOWS[form] in {row["name"] for row in table}
        assert served.get("operation", **place, group_by=grouped)
    counts = {row["name"]: row["calls"] for row in served.get("operation/table", **place, group_by="Operation")["data"]}
    (found,) = (profile for profile in file.profiles if profile.form == form)
    if form != "onnxruntime":
        ours = {work.name: work.count * STEPS for work in found.operators}
        assert ours.keys() <= counts.keys()
        assert ours[SHOWS[form]] == counts[SHOWS[form]]

    trace = served.get("trace", **place)
    assert problems(json.dumps(trace).encode()) == []
    names = [event["name"] for event in trace["traceEvents"]]
    assert names.count(CALL) == STEPS
    assert {f"moegap::{stage}" for stage in STAGES if found.told_by == "ranges" and found.parts[stage].seconds} <= {
        *names
    }
    assert isinstance(served.get("tree", **place), dict)


def test_kernels_have_routes_of_their_own(served: Served, folder: Path) -> None:
    (worker,) = served.get("workers", run=ON_A_GPU, view="Kernel")
    place = {"run": ON_A_GPU, "worker": worker, "span": "1"}
    assert served.get("kernel", **place)["total"]["rows"] == [[KERNEL, STEPS * KERNEL_US]]
    table = served.get("kernel/table", **place, group_by="Kernel")["data"]
    titles = [column["name"] for column in table["columns"]]
    (row,) = (dict(zip(titles, values, strict=True)) for values in table["rows"])
    seen = breakdown(next((folder / ON_A_GPU).iterdir()))
    assert (row["Name"], row["Calls"], row["Total Duration (us)"]) == (KERNEL, STEPS, STEPS * KERNEL_US)
    assert seen.busy * STEPS == pytest.approx(row["Total Duration (us)"] * 1e-6)
    assert served.get("kernel/tc_pie", **place)
    environment = {fact["title"]: fact["value"] for fact in served.get("overview", **place)["environments"]}
    assert environment["Device Type"] == "GPU"


def test_every_trace_is_one_that_perfetto_imports(folder: Path) -> None:
    traces = [trace for trace in folder.rglob("*.trace.json.gz") if trace.parent.name != CUT_OFF]
    assert len(traces) == len(FORMS) + 2  # ONNX Runtime's own, and that of a GPU
    for trace in traces:
        check(trace)


def test_the_report_takes_the_file(folder: Path, tmp_path: Path) -> None:
    page = build([folder / "profile.json"], tmp_path).index.read_text()
    assert 'id="profile"' in page
    assert all(form in page for form in FORMS)
    assert "CPUExecutionProvider" in page
