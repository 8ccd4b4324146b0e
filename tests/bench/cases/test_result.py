"""Result files: whole after every group, readable by pytest-benchmark, refused when they are something else."""

import json
import os
import statistics

import pytest

from bench.cases.result import Outcome, ResultFile
from bench.errors import BenchError
from reports.reading.load import load
from reports.records.files import StorageError
from reports.records.record import NOT_MEASURED_KEY, STEPS_KEY, Status
from tests.bench.records import record


def test_a_result_grows_and_stays_readable(tmp_path):
    path = tmp_path / "result.json"
    result = ResultFile.create(path)
    result.add([Outcome(record("a", blocks=[0, 0, 1]), (3e-6, 1e-6, 2e-6))])
    first = json.loads(path.read_text())
    result.add([Outcome(record("b", status=Status.UNAVAILABLE, reason="no")), Outcome(record("c", blocks=[0]), (1.0,))])
    second = json.loads(path.read_text())
    assert second["benchmarks"][0] == first["benchmarks"][0]
    assert [entry["param"] for entry in second["benchmarks"]] == ["a", "c"]
    assert [entry["reason"] for entry in second[NOT_MEASURED_KEY]] == ["no"]
    stats = second["benchmarks"][0]["stats"]
    assert stats["data"] == [3e-6, 1e-6, 2e-6]
    assert stats["median"] == pytest.approx(2e-6)
    assert stats["stddev"] == pytest.approx(statistics.stdev(stats["data"]))


def test_a_new_try_replaces_a_case_without_a_time(tmp_path):
    path = tmp_path / "result.json"
    result = ResultFile.create(path)
    result.add([Outcome(record("a", status=Status.FAILED, reason="no compiler"))])
    result.add([Outcome(record("a", blocks=[0]), (1.0,))])
    assert [(found.case_id, found.status) for found in result.records()] == [("a", Status.MEASURED)]


def test_a_new_try_replaces_the_steps_that_the_failed_one_left(tmp_path):
    path = tmp_path / "result.json"
    result = ResultFile.create(path)
    step = Outcome(record("a-gated", step="gated", blocks=[0]), (1.0,))
    result.add([Outcome(record("a", status=Status.FAILED, reason="compiled")), step])
    result.add([Outcome(record("a", blocks=[0]), (2.0,)), Outcome(record("a-gated", step="gated", blocks=[0]), (3.0,))])
    assert [(found.record.case_id, found.samples) for found in result.outcomes()] == [
        ("a", (2.0,)),
        ("a-gated", (3.0,)),
    ]
    assert len(result.records()) == 2


def test_steps_are_no_benchmarks_but_in_files_of_older_versions(tmp_path):
    path = tmp_path / "result.json"
    step, later = (Outcome(record("a-gated", step="gated", blocks=[0]), (time,)) for time in (1.0, 3.0))
    ResultFile.create(path).add([Outcome(record("a", blocks=[0]), (2.0,)), step])
    document = json.loads(path.read_text())
    assert [entry["extra_info"]["case_id"] for entry in document["benchmarks"]] == ["a"]
    assert [entry["extra_info"]["case_id"] for entry in document[STEPS_KEY]] == ["a-gated"]
    results = load([path])
    assert ([case.record.case_id for case in results.cases], len(results.steps)) == (["a"], 1)
    old = {**document, "benchmarks": document["benchmarks"] + document.pop(STEPS_KEY)}
    old.pop(STEPS_KEY)
    path.write_text(json.dumps(old))
    again = load([path])
    assert ([case.record.case_id for case in again.cases], len(again.steps)) == (["a"], 1)
    resumed = ResultFile.resume(path)
    assert {each.case_id for each in resumed.records()} == {"a", "a-gated"}
    resumed.add([later])
    assert [each.samples for each in resumed.outcomes()] == [(2.0,), (3.0,)]


def test_resuming_reads_what_is_there(tmp_path):
    path = tmp_path / "result.json"
    ResultFile.create(path).add([Outcome(record("a", blocks=[0]), (1.0,))])
    assert [found.case_id for found in ResultFile.resume(path).records()] == ["a"]
    assert ResultFile.resume(tmp_path / "none.json").records() == []


def test_nothing_already_measured_is_overwritten(tmp_path):
    path = tmp_path / "result.json"
    path.write_text("precious")
    with pytest.raises(BenchError, match="--resume"):
        ResultFile.create(path)
    assert path.read_text() == "precious"


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"benchmarks": [{}], "moegap_not_measured": []}', "null"])
def test_another_file_cannot_be_resumed(tmp_path, content):
    path = tmp_path / "result.json"
    path.write_text(content)
    with pytest.raises(BenchError, match="no result that can be resumed"):
        ResultFile.resume(path)


def test_an_unwritable_place_is_a_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot write"):
        ResultFile(tmp_path / "file" / "result.json", {"benchmarks": [], NOT_MEASURED_KEY: []}).add([])


def test_a_result_without_a_case_leaves_no_file(tmp_path):
    path = tmp_path / "new" / "result.json"
    result = ResultFile.create(path)
    assert not path.exists()
    ResultFile.create(path)  # so a corrected call is not told that it exists
    result.add([Outcome(record("a", blocks=[0]), (1.0,))])
    assert path.exists()


@pytest.mark.parametrize("resume", [False, True])
def test_a_result_is_no_pipe_and_no_device(tmp_path, resume):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/full")
    (tmp_path / "circle").symlink_to("circle")
    for name in ("pipe", "device", "circle"):
        with pytest.raises((BenchError, StorageError), match=f"{name}"):
            (ResultFile.resume if resume else ResultFile.create)(tmp_path / name)
