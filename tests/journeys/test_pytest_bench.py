"""`pytest bench` as pytest-benchmark's users know it."""

import json
import os
import subprocess
import sys
import tomllib

import pytest

from bench.rooms import ROOT
from reports.errors import ReportError
from reports.page import build
from reports.reading.load import load
from reports.records.record import NOT_MEASURED_KEY, STEPS_KEY, CaseRecord

SELECTION = "n32- and not compile and not onnxruntime"


def pytest_bench(*arguments, cwd=ROOT, path=""):
    ours = ("TRITON_INTERPRET", "PYTEST_XDIST_WORKER")  # a worker of xdist would write no results
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    environment |= {"PYTHONPATH": str(path)} if path else {}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "tests.quick", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def run(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    checkpoints = [f"--checkpoint={path}" for path in trained.values()]
    done = pytest_bench(
        "bench", "--suite=demo", *checkpoints, "--seconds=0.02", "-k", SELECTION, "--benchmark-only",
        "--benchmark-group-by=param:head,param:form,param:rows", "--benchmark-cprofile=cumtime",
        f"--benchmark-json={folder / 'result.json'}", f"--benchmark-histogram={folder / 'histogram'}",
        "--benchmark-save=short", f"--benchmark-storage=file://{folder / 'saved'}",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


def test_the_json_holds_raw_samples_and_records(run):
    folder, _ = run
    document = json.loads((folder / "result.json").read_text())
    assert {entry["group"] for entry in document["benchmarks"]} == {"head-n32-float32-cpu-wall"}
    for entry in document["benchmarks"]:
        record = CaseRecord.model_validate(entry["extra_info"])
        assert entry["name"] == f"bench_head[{record.checkpoint} {record.form} n32]"
        assert entry["fullname"] == f"bench/bench_heads.py::bench_head[{record.case_id}]"
        assert entry["params"] == {
            "case": record.case_id, "head": record.head, "form": record.form, "rows": 32, "dtype": "float32",
            "routing": record.routing, "cache": "warm",
        }  # fmt: skip
        assert not record.step
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
    pictures = list(folder.glob("histogram*.svg"))
    assert pictures
    assert any(
        f"{trained} eager n32]" in picture.read_text() for picture in pictures for trained in ("sparse", "dense")
    )
    compared = subprocess.run(
        [sys.executable, "-m", "pytest_benchmark", "compare", str(folder / "result.json")],
        capture_output=True, text=True,
    )  # fmt: skip
    assert compared.returncode == 0, compared.stderr
    assert "grouped_mm n32]" in compared.stdout + compared.stderr


def test_steps_stand_apart_from_benchmarks(run):
    folder, _ = run
    steps = json.loads((folder / "result.json").read_text())[STEPS_KEY]
    assert {entry["extra_info"]["step"] for entry in steps} > {"balanced", "products"}
    assert len(load([folder / "result.json"]).steps) == len(steps)


def test_options_that_show_something_else_say_so(run):
    _, output = run
    assert "cProfile sees the replay of samples, not the calls; `moegap profile` shows" in output
    assert "benchmark 'head=sparse form=loop rows=32': 1 tests" in output


def test_a_result_saved_without_samples_is_compared_and_not_reported(run, in_process, tmp_path):
    folder, _ = run
    (saved,) = (folder / "saved").rglob("*_short.json")
    status, out, _ = in_process("compare", saved, saved, "--fail-on", "SLOWER", "--allow-undecided")
    assert status == 0
    assert "With an interval from quartiles" in out
    status, out, _ = in_process("compare", folder / "result.json", saved)
    assert status == 0
    assert "With an interval from quartiles" in out
    with pytest.raises(ReportError, match=r"was saved without samples: measure again with --benchmark-save-data or"):
        build([saved], tmp_path / "report")


@pytest.mark.parametrize("option", ["--benchmark-json=result.json", "--benchmark-autosave", "--benchmark-save=a"])
def test_workers_that_would_keep_nothing_are_refused(option, tmp_path):
    done = pytest_bench("bench", "--suite=demo", "-n", "2", option, f"--benchmark-storage=file://{tmp_path}")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "would keep nothing: parallel workers (-n, --dist) disturb each other" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("option", "said"),
    [("--suite=none", "--suite takes demo"), ("--device=tpu", "--device takes"), ("--seconds=0", "above 0")],
)
def test_bad_options_are_one_sentence(option, said):
    done = pytest_bench("bench", option, "--collect-only", "-q")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_only_cases_that_cannot_run_end_without_a_traceback(tmp_path):
    done = pytest_bench(
        "bench", "--suite=demo", "-k", "n32- and fast-dense and loop", "--benchmark-only", "--seconds=0.02",
        f"--benchmark-json={tmp_path / 'result.json'}",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 skipped" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


CONFTEST = """
from dataclasses import replace

def pytest_moegap_forms():
    from bench.forms.loop import FORM
    return replace(FORM, name="mine")
"""


def test_a_project_measures_a_suite_with_a_form_of_its_own(tmp_path):
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_theirs.py").write_text("def test_theirs():\n    pass\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    done = pytest_bench(
        "--moegap-suite=demo", "--moegap-seconds=0.02", "--benchmark-json=result.json",
        "-k", "theirs or (n32- and fast-sparse and (mine or loop))",
        cwd=tmp_path, path=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout
    document = json.loads((tmp_path / "result.json").read_text())
    names = {entry["params"]["form"]: entry["fullname"] for entry in document["benchmarks"]}
    assert names == {
        form: f"bench/bench_heads.py::bench_head[fast-sparse-sparse-{form}-head-n32-float32-cpu-wall]"
        for form in ("mine", "loop")
    }
    assert len({entry["extra_info"]["group_id"] for entry in document["benchmarks"]}) == 1


def test_the_plugin_stays_out_of_the_way(tmp_path):
    """It is loaded into every run of pytest, so it imports nothing heavy and adds nothing unless asked."""
    (tmp_path / "test_theirs.py").write_text(
        "import sys\n\ndef test_theirs(pytestconfig):\n"
        "    assert pytestconfig.pluginmanager.has_plugin('moegap')\n"
        "    assert not {'torch', 'numpy', 'pydantic', 'typer'} & set(sys.modules)\n"
    )
    words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q"]
    done = subprocess.run(
        words, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_pytest_finds_the_plugin_by_its_entry_point():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]
    assert declared == {"moegap": "bench.pytest_plugin"}


def test_the_report_reads_it(run, tmp_path):
    folder, _ = run
    assert build([folder / "result.json"], tmp_path / "report").index.exists()
