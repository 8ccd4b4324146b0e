"""`pytest bench` as pytest-benchmark's users know it."""

import json
import os
import subprocess
import sys

import pytest

from bench.rooms import ROOT
from reports.page import build
from reports.records.record import NOT_MEASURED_KEY, CaseRecord

SELECTION = "n32- and not compile and not onnxruntime"


def pytest_bench(*arguments, cwd=ROOT):
    ours = ("TRITON_INTERPRET", "PYTEST_XDIST_WORKER")  # a worker of xdist would write no results
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "tests.quick", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def run(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    checkpoints = [f"--checkpoint={path}" for path in trained.values()]
    done = pytest_bench(
        "bench", "--suite=demo", *checkpoints, "--seconds=0.02", "-k", SELECTION,
        f"--benchmark-json={folder / 'result.json'}", f"--benchmark-histogram={folder / 'histogram'}",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


def test_the_json_holds_raw_samples_and_records(run):
    folder, _ = run
    document = json.loads((folder / "result.json").read_text())
    assert {entry["group"] for entry in document["benchmarks"]} == {"head-n32-float32-cpu-wall"}
    for entry in document["benchmarks"]:
        record = CaseRecord.model_validate(entry["extra_info"])
        assert entry["name"] == f"bench_head[{record.case_id}]"
        assert len(entry["stats"]["data"]) == len(record.blocks) == entry["stats"]["rounds"]
        assert 1e-7 < entry["stats"]["median"] < 1
    forms = {(entry["extra_info"]["head"], entry["extra_info"]["form"]) for entry in document["benchmarks"]}
    assert forms == {
        ("dense", "eager"), ("dense", "native"), ("soft", "loop"), ("soft", "eager"), ("soft", "native"),
        ("sparse", "loop"), ("sparse", "eager"), ("sparse", "grouped_mm"), ("sparse", "native"),
    }  # fmt: skip
    assert len({entry["extra_info"]["group_id"] for entry in document["benchmarks"]}) == 1
    assert {record["form"] for record in document[NOT_MEASURED_KEY]} == {"loop", "grouped_mm", "triton"}


def test_what_cannot_run_is_skipped_with_its_reason(run):
    _, output = run
    assert "Triton kernels need a CUDA device" in output


def test_compare_and_histogram_work(run):
    folder, _ = run
    assert list(folder.glob("histogram*.svg"))
    compared = subprocess.run(
        [sys.executable, "-m", "pytest_benchmark", "compare", str(folder / "result.json")],
        capture_output=True, text=True,
    )  # fmt: skip
    assert compared.returncode == 0, compared.stderr
    assert "sparse-sparse-grouped_mm-head-n32-float32-cpu-wall" in compared.stdout + compared.stderr


def test_the_report_reads_it(run, tmp_path):
    folder, _ = run
    assert build([folder / "result.json"], tmp_path / "report").index.exists()
