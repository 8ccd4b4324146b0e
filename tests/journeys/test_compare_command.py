"""`moegap compare` as a workflow runs it: what it prints, what it writes, and the status that it ends with."""

import json
import os
import shlex
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from bench.rooms import ROOT
from reports.output.markdown import text
from reports.records.record import NOT_MEASURED_KEY, SCHEMA_VERSION
from tests.reports.changes.test_changes_section import NAMES

DEMO = ROOT / "reports/published/cpu-amd-epyc-2-threads/demo.json"
GATE = ("--fail-on", "SLOWER", "--least", "5%")


@pytest.fixture
def compared(in_process):
    """Run `moegap compare` here and return its status and what it said."""
    return partial(in_process, "compare")


@pytest.fixture(scope="module")
def demo():
    return json.loads(DEMO.read_text())


def saved(path, document):
    path.write_text(json.dumps(document))
    return path


def slowed(document, factor):
    """Return a copy of a result in which every sample took `factor` times as long."""
    copy = json.loads(json.dumps(document))
    for entry in copy["benchmarks"]:
        entry["stats"]["data"] = [factor * time for time in entry["stats"]["data"]]
    return copy


def test_a_run_against_itself_passes(tmp_path, compared):
    status, out, errors = compared(DEMO, DEMO, *GATE, "--out", tmp_path / "out")
    assert (status, errors) == (0, "")
    assert "Of 90 cases with a time in both runs 90 SAME" in out
    assert out.splitlines()[-1].startswith("Gate passed: no case is SLOWER")
    assert "warning" not in out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["compare.md", "index.html"]


def test_a_planted_regression_fails_the_gate_and_names_cases(demo, tmp_path, compared):
    new = saved(tmp_path / "new.json", slowed(demo, 1.05))
    status, out, _ = compared(DEMO, new, *GATE, "--out", tmp_path / "out")
    assert status == 1
    last = out.splitlines()[-1]
    assert last.startswith("Gate failed: 90 cases are SLOWER (")
    named = [entry["extra_info"]["case_id"] for entry in demo["benchmarks"] if not entry["extra_info"]["step"]]
    assert sum(name in last for name in named) == 5
    assert all(name in out for name in named)
    assert "+5.0 %" in out
    assert text(last) in (tmp_path / "out" / "compare.md").read_text()


@pytest.mark.parametrize(
    ("factor", "options", "status"),
    [
        (1.05, (), 0),
        (1.05, ("--fail-on", "faster"), 0),
        (1.05, ("--fail-on", "faster", "--fail-on", "slower"), 1),
        (1.05, ("--fail-on", "slower"), 1),
        (1.05, ("--fail-on", "slower", "--least", "0.06"), 0),
        (1.049, GATE, 0),
        (0.9, ("--fail-on", "FASTER"), 1),
        (0.9, ("--fail-on", "SLOWER", "--fail-on", "UNCLEAR"), 0),
    ],
)
def test_the_status_follows_what_was_asked(demo, tmp_path, compared, factor, options, status):
    few = demo | {"benchmarks": demo["benchmarks"][:4]}
    base, new = saved(tmp_path / "base.json", few), saved(tmp_path / "new.json", slowed(few, factor))
    assert compared(base, new, *options)[0] == status


def test_a_case_that_is_wrong_now_fails_the_gate(demo, tmp_path, compared):
    lost = demo["benchmarks"][0]["extra_info"] | {
        "status": "wrong",
        "reason": "The logits deviate by 0.3.",
        "blocks": [],
    }
    new = saved(
        tmp_path / "new.json",
        demo | {"benchmarks": demo["benchmarks"][1:], NOT_MEASURED_KEY: [*demo[NOT_MEASURED_KEY], lost]},
    )
    status, out, _ = compared(DEMO, new, *GATE)
    assert status == 1
    assert out.splitlines()[-1] == f"Gate failed: 1 case is WRONG and had a time in BASE ({lost['case_id']})."
    assert "The logits deviate by 0.3." in out
    assert compared(DEMO, new)[0] == 0


def test_only_what_changed_is_shown_unless_all_is_asked_for(demo, tmp_path, compared):
    few = demo | {"benchmarks": demo["benchmarks"][:2]}
    base, name = saved(tmp_path / "base.json", few), few["benchmarks"][0]["extra_info"]["case_id"]
    hidden, shown = compared(base, base)[1], compared(base, base, "--all")[1]
    assert name not in hidden
    assert "SAME; --all shows them" in hidden
    assert name in shown


def newer(document):
    entry = document["benchmarks"][0]
    record = entry["extra_info"] | {"schema_version": SCHEMA_VERSION + 1}
    return document | {"benchmarks": [entry | {"extra_info": record}]}


def plain(document):
    return document["benchmarks"][0] | {"extra_info": {}}


BAD = {
    "truncated": (lambda demo: json.dumps(demo)[:5000], "not JSON, or was cut off"),
    "foreign": (lambda demo: '{"results": [{"command": "sleep 1", "mean": 1.0}]}', "holds no benchmarks to compare"),
    "array": (lambda demo: "[1, 2]", "holds no result"),
    "newer": (lambda demo: json.dumps(newer(demo)), "newer moegap"),
    "empty": (lambda demo: '{"benchmarks": []}', "holds no benchmark"),
    "plain": (lambda demo: json.dumps({"benchmarks": [plain(demo)]}), "compare two files of one kind"),
    "other": (lambda demo: json.dumps(demo | {"benchmarks": demo["benchmarks"][-1:]}), "no case in common"),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("turned", [False, True])
def test_a_bad_file_is_one_sentence_and_a_status_of_its_own(demo, tmp_path, compared, kind, turned):
    write, said = BAD[kind]
    path, base = tmp_path / f"{kind}.json", saved(tmp_path / "base.json", demo | {"benchmarks": demo["benchmarks"][:1]})
    path.write_text(write(demo))
    status, out, err = compared(*([path, base] if turned else [base, path]), *GATE)
    assert (status, out) == (2, "")
    assert err.startswith("moegap: ")
    assert err.count("\n") == 1
    assert said in err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--fail-on", "slow"), "--fail-on takes SLOWER, FASTER, UNCLEAR and MISSING, not 'slow'"),
        (("--least", "5"), "--least takes a share such as 5%, 150% or 0.05, not '5'"),
        (("--doubtful", "maybe"), "--doubtful takes unclear, raw and normalised, not 'maybe'"),
        (("--base", DEMO, "--new", DEMO), "not "),
        (("--least", "nan"), "not 'nan'"),
        (("--out", DEMO), "is not a folder"),
        (("--out", DEMO / "in" / "it"), "demo.json"),
        (("extra",), "extra does not exist"),
    ],
)
def test_bad_options_are_one_sentence_and_a_status_of_its_own(compared, options, said):
    status, _, err = compared(DEMO, DEMO, *options)
    assert status == 2
    assert said in err
    assert err.count("\n") == 1


FIELD = ROOT / "tests/reports/changes/field"
FACTORS = {"slow": 1.25, "same": 1.0, "slower": 2.0}
RUNS = [FIELD / f"pb_same_commit_run{number}.json" for number in range(1, 6)]


def test_several_runs_a_side_as_a_shell_gives_them(tmp_path, compared):
    status, out, errors = compared("--base", *RUNS[:3], "--new", *RUNS[3:], *GATE, "--out", tmp_path / "out")
    assert (status, errors) == (1, "")
    assert "Gate failed: nothing was decided: there are only 5 UNCLEAR cases" in out
    assert all(run.name in out for run in RUNS)
    assert "what runs of one side differ by" in " ".join(out.split())
    assert compared("--new", *RUNS[3:], "--allow-undecided", *GATE, "--base", *RUNS[:3])[0] == 0


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (("--base", *RUNS[:2], "--new", RUNS[2]), "2 and 1 runs: give two or more a side"),
        (("--base", *RUNS[:2], "--new", RUNS[2], RUNS[2]), "name one file twice"),
        (("--base", *RUNS[:2]), "2 files after --base and 0 after --new"),
        ((), "not no file without an option"),
    ],
)
def test_runs_on_one_side_alone_are_one_sentence(compared, files, said):
    status, _, err = compared(*files)
    assert (status, err.count("\n")) == (2, 1)
    assert said in err


@pytest.mark.parametrize(("new", "status"), [("pb_rootdir_new.json", 0), ("pb_five_rounds_new.json", 1)])
@pytest.mark.parametrize("reader", ["true", "head -1"])
def test_a_closed_pipe_is_no_regression(new, status, reader):
    """The reader leaves before the first line or after it; the status is still that of the gate."""
    base = new.replace("new", "base")
    words = [sys.executable, "-m", "bench.cli", "compare", str(FIELD / base), str(FIELD / new), *GATE]
    command = f"set -o pipefail; {shlex.join(words)} | {reader} >/dev/null"
    for unbuffered in ("", "1"):
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=ROOT, env=os.environ | {"PYTHONUNBUFFERED": unbuffered}, capture_output=True, text=True,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (status, "")


def test_several_results_stand_side_by_side(demo, tmp_path, compared):
    few = demo | {"benchmarks": demo["benchmarks"][:3]}
    base = saved(tmp_path / "base.json", few)
    slow, same, slower = (saved(tmp_path / f"{name}.json", slowed(few, factor)) for name, factor in FACTORS.items())
    status, out, errors = compared(base, slow, same, slower, *GATE, "--out", tmp_path / "out")
    assert (status, errors) == (1, "")
    rows = [line.split() for line in out[out.index("Speed-up over the first run") :].splitlines()]
    assert rows[1] == ["case", "first", "slow.json", "same.json", "slower.json"]
    name = few["benchmarks"][0]["extra_info"]["case_id"]
    (row,) = [row for row in rows if row[:1] == [name]]
    assert row[3:] == ["0.80×", "SLOWER", "1.00×", "SAME", "0.50×", "SLOWER"]
    assert ["all", "cases", "0.80×", "1.00×", "0.50×"] in rows
    assert [line.split(":")[0] for line in out.splitlines() if line.startswith("Gate")] == [
        "Gate failed", "Gate passed", "Gate failed",
    ]  # fmt: skip
    page = (tmp_path / "out" / "index.html").read_text()
    assert all(f'id="{section}"' in page for section in ("side-by-side", "changes-1", "changes-2", "changes-3"))
    assert "0.50×" in (tmp_path / "out" / "compare.md").read_text()
    assert compared(base, same, same, *GATE)[0] == 0


def test_a_missing_file_is_one_sentence(compared, tmp_path):
    status, _, err = compared(DEMO, tmp_path / "none.json")
    assert status == 2
    assert "none.json does not exist" in err


def test_names_in_files_are_text_on_a_terminal(demo, tmp_path, compared):
    entries = []
    for name in NAMES:
        entry = json.loads(json.dumps(demo["benchmarks"][0]))
        entry["extra_info"] |= {"case_id": name, "form": name[:300], "checkpoint": name[:300]}
        entries.append(entry)
    base = saved(tmp_path / "base.json", demo | {"benchmarks": entries})
    status, out, _ = compared(base, saved(tmp_path / "new.json", slowed(json.loads(base.read_text()), 2)), *GATE)
    assert status == 1
    assert not any(letter in out for letter in "\x1b\x07\u202e")
    assert "[bold red]markup[/]" in out
    assert max(map(len, out.splitlines()[:-1])) <= 140


BENCHMARKS = """
import pytest

@pytest.mark.parametrize("size", [100, 1000])
def test_sum(benchmark, size):
    benchmark.pedantic(sum, args=(range(size),), rounds=200, iterations=20)

@pytest.mark.benchmark(group="sorting")
def test_sort(benchmark):
    benchmark.pedantic(sorted, args=(range(500),), rounds=200, iterations=20)
"""


@pytest.fixture(scope="module")
def plain_files(tmp_path_factory):
    """Files that pytest-benchmark itself wrote: one with samples, one saved on its own without."""
    folder = tmp_path_factory.mktemp("plain")
    (folder / "test_speed.py").write_text(BENCHMARKS)
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_XDIST_WORKER"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--benchmark-autosave",
         "--benchmark-json=kept.json", "--benchmark-storage=storage"],
        cwd=folder, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (saved_alone,) = (folder / "storage").rglob("*.json")
    return {"kept": folder / "kept.json", "autosaved": saved_alone}


def slowed_stats(path, to, factor):
    """Write a copy of a plain file in which everything took `factor` times as long."""
    document = slowed_if_kept(json.loads(Path(path).read_text()), factor)
    for entry in document["benchmarks"]:
        for name in ("median", "iqr", "q1", "q3", "min", "max", "mean"):
            entry["stats"][name] *= factor
    return saved(to, document)


def slowed_if_kept(document, factor):
    return slowed(document, factor) if "data" in document["benchmarks"][0]["stats"] else document


def test_files_of_pytest_benchmark_itself(plain_files, tmp_path, compared):
    kept = plain_files["kept"]
    assert "data" in json.loads(kept.read_text())["benchmarks"][0]["stats"]
    status, out, _ = compared(kept, kept, *GATE, "--all", "--out", tmp_path / "out")
    assert status == 0
    assert "3 SAME" in out
    assert "test_speed.py::test_sum[100]" in out
    assert {"sorting", "test_speed.py"} <= set(out.split())
    status, out, _ = compared(kept, slowed_stats(kept, tmp_path / "slow.json", 1.05), *GATE)
    assert status == 1
    assert "3 cases are SLOWER" in out.splitlines()[-1]


def test_files_saved_without_samples(plain_files, tmp_path, compared):
    autosaved = plain_files["autosaved"]
    assert "data" not in json.loads(autosaved.read_text())["benchmarks"][0]["stats"]
    status, out, _ = compared(autosaved, slowed_stats(autosaved, tmp_path / "slow.json", 3.0), *GATE)
    assert status == 1
    assert "With an interval from quartiles" in " ".join(out.split())
    assert compared(plain_files["kept"], autosaved, "--fail-on", "SLOWER")[0] == 0


def test_a_plain_file_beside_one_of_moegap_is_one_sentence(plain_files, compared):
    status, _, err = compared(DEMO, plain_files["kept"])
    assert status == 2
    assert "compare two files of one kind" in err
