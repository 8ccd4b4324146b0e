"""What is read, and what is refused, with one sentence that names the file and the fix."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reports.errors import ReportError
from reports.reading.load import load
from reports.records.record import CEILINGS_KEY, COMMAND_KEY, GROUPS_KEY, NOT_MEASURED_KEY, Group
from tests.reports.synthetic import accounted, benchmark, ceilings, record, samples, unmeasured, write


def one() -> dict[str, Any]:
    return benchmark(record(), samples(1e-3))


def edited(path: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """Write a good file with one case and let `change` spoil its content."""
    group = Group(group_id="a", anchor=[1e-3], wall=3, sampling=2, cold_start=1)
    content = json.loads(write(path, [one()], unmeasured(), [ceilings()], [group]).read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


def first(content: dict[str, Any]) -> dict[str, Any]:
    return content["benchmarks"][0]


def test_cases_keep_their_samples_blocks_and_source(tmp_path: Path) -> None:
    times = samples(1e-3)
    path = write(tmp_path / "a.json", [benchmark(record(), times)], unmeasured())
    results = load([path])
    (case,) = results.cases
    np.testing.assert_array_equal(case.samples, times)
    np.testing.assert_array_equal(case.blocks, np.repeat(np.arange(20), 2))
    assert case.record.form == "eager"
    assert case.source == path
    assert len(results.not_measured) == len(unmeasured())
    with pytest.raises(ValueError, match="read-only"):
        case.samples[0] = 0


def test_a_file_named_twice_is_read_once(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", [one()])
    results = load([path, tmp_path / "." / "a.json"])
    assert len(results.cases) == 1
    assert not results.replaced


@pytest.mark.parametrize("order", [("old", "new"), ("new", "old")])
def test_of_a_case_in_two_files_the_latest_measurement_counts(tmp_path: Path, order: tuple[str, str]) -> None:
    times = {"old": "2026-11-03T13:30:00+02:00", "new": "2026-11-03T12:00:00Z"}
    for name, measured_at in times.items():
        write(tmp_path / name, [benchmark(record(measured_at=measured_at), samples(1e-3))])
    results = load([tmp_path / name for name in order])
    (case,) = results.cases
    assert case.source.name == "new"
    assert [replaced.measured_at for replaced in results.replaced] == [times["old"]]


def test_cases_of_different_machines_all_count(tmp_path: Path) -> None:
    machines: list[dict[str, Any]] = [{}, {"threads": 8}, {"cpu": "other", "device_name": "other"}]
    paths = [
        write(tmp_path / f"{place}.json", [benchmark(record(**machine), samples(1e-3))])
        for place, machine in enumerate(machines)
    ]
    assert len(load(paths).cases) == 3


def test_cases_of_other_benchmarks_in_the_file_are_passed_over(tmp_path: Path) -> None:
    path = edited(tmp_path / "a.json", lambda content: content["benchmarks"].append({"name": "x", "extra_info": {}}))
    assert len(load([path]).cases) == 1


def test_the_measuring_command_is_kept(tmp_path: Path) -> None:
    path = edited(tmp_path / "a.json", lambda content: content.update({COMMAND_KEY: "moegap bench"}))
    assert load([path]).commands == ("moegap bench",)


def test_results_without_any_time_are_read(tmp_path: Path) -> None:
    results = load([write(tmp_path / "a.json", [], unmeasured())])
    assert not results.cases
    assert results.records == results.not_measured


def test_steps_are_kept_apart_from_cases(tmp_path: Path) -> None:
    failed = record(step="gated", case_id="gated", status="failed", reason="It raised.")
    whole = accounted(record(), 1e-3)
    results = load([write(tmp_path / "a.json", whole, [failed])])
    (case,) = results.cases
    assert case.record.step == ""
    assert [step.record.step for step in results.steps] == [
        "balanced",
        "products",
        "dispatched",
        "gated",
        "routed",
        "combined",
    ]
    assert all(step.interleaved_with(case) for step in results.steps)
    assert results.records == (case.record,)
    assert [record.step for record in results.steps_not_measured] == ["gated"]


def test_a_step_measured_again_replaces_no_case(tmp_path: Path) -> None:
    paths = [write(tmp_path / name, accounted(record(), 1e-3)) for name in ("a.json", "b.json")]
    results = load(paths)
    assert len(results.replaced) == 1
    assert {step.source for step in results.steps} == {case.source for case in results.cases}


def test_ceilings_and_the_groups_of_what_counts_are_read(tmp_path: Path) -> None:
    case = record()
    groups = [
        Group(group_id=name, anchor=[1e-3, 2e-3], throttled=[1], wall=3, sampling=2, cold_start=1)
        for name in (case.group_id, "a group of no case")
    ]
    results = load([write(tmp_path / "a.json", [benchmark(case, samples(1e-3))], [], [ceilings()], groups)])
    assert results.ceilings == (ceilings(),)
    assert results.groups == (groups[0],)


def test_files_of_version_1_have_neither(tmp_path: Path) -> None:
    def older(content: dict[str, Any]) -> None:
        first(content)["extra_info"] = {
            name: value for name, value in first(content)["extra_info"].items() if name not in NEW_FIELDS
        } | {"schema_version": 1}
        del content[CEILINGS_KEY], content[GROUPS_KEY]

    results = load([edited(tmp_path / "a.json", older)])
    assert len(results.cases) == 1
    assert results.steps == results.ceilings == results.groups == ()


NEW_FIELDS = (
    "step",
    "cache",
    "source",
    "shrunk",
    "load_cv",
    "distinct_experts",
    "operators",
    "traced",
    "stopped_by",
    "joules_per_thousand_rows",
)


SPOILED = {
    "newer": (lambda content: first(content)["extra_info"].update(schema_version=3), "newer moegap.*upgrade"),
    "newer unmeasured": (lambda content: content[NOT_MEASURED_KEY][0].update(schema_version=99), "newer moegap"),
    "unknown field": (lambda content: first(content)["extra_info"].update(speed="high"), "broken at `speed`"),
    "bad device": (lambda content: first(content)["extra_info"].update(device="tpu"), "broken at `device`"),
    "bad accuracy": (lambda content: first(content)["extra_info"].update(test_accuracy=float("nan")), "test_accuracy"),
    "bad time": (lambda content: first(content)["extra_info"].update(measured_at="noon"), "ISO 8601"),
    "surrogate": (lambda content: first(content)["extra_info"].update(reason="\ud800"), "text that is no Unicode"),
    "name of a surrogate": (lambda content: first(content)["extra_info"].update(form="\ud800"), "broken at `form`"),
    "no samples": (
        lambda content: first(content)["stats"].pop("data"),
        r"the record .* is broken at `stats\.summary\.iqr`",
    ),
    "no stats": (lambda content: first(content).pop("stats"), "the record .* is broken at `stats`"),
    "text samples": (lambda content: first(content)["stats"].update(data=["fast"]), r"at `stats\.data\.0` .*number"),
    "lost sample": (lambda content: first(content)["stats"]["data"].pop(), "39 samples and 40 block numbers"),
    "empty": (
        lambda content: (first(content)["stats"].update(data=[]), first(content)["extra_info"].update(blocks=[])),
        r"at `stats\.data` .*at least 1 item",
    ),
    "NaN": (lambda content: first(content)["stats"]["data"].__setitem__(3, float("nan")), r"at `stats\.data\.3`"),
    "infinite": (lambda content: first(content)["stats"]["data"].__setitem__(3, float("inf")), r"at `stats\.data\.3`"),
    "negative": (
        lambda content: first(content)["stats"]["data"].__setitem__(3, -1e-3),
        r"at `stats\.data\.3` .*greater than",
    ),
    "zero": (
        lambda content: first(content)["stats"]["data"].__setitem__(3, 0),
        r"at `stats\.data\.3` .*greater than or equal to 0.000000000001",
    ),
    "endless": (
        lambda content: first(content)["stats"]["data"].__setitem__(3, 10**400),
        r"at `stats\.data\.3` .*number",
    ),
    "timed though wrong": (
        lambda content: first(content)["extra_info"].update(status="wrong", reason="Off."),
        "has samples though it is wrong",
    ),
    "measured without samples": (
        lambda content: content[NOT_MEASURED_KEY][0].update(status="measured"),
        "called measured but has no samples",
    ),
    "twice": (lambda content: content["benchmarks"].append(first(content)), "twice"),
    "no records": (
        lambda content: (first(content).update(extra_info={}), content.pop(NOT_MEASURED_KEY)),
        "without moegap records",
    ),
    "no cases": (lambda content: (content["benchmarks"].clear(), content[NOT_MEASURED_KEY].clear()), "holds no case"),
    "no benchmarks": (lambda content: content.pop("benchmarks"), "holds no result"),
    "benchmarks of text": (lambda content: content.update(benchmarks=["x"]), "holds no result"),
    "unmeasured of text": (lambda content: content.update({NOT_MEASURED_KEY: "x"}), NOT_MEASURED_KEY),
    "ceilings of text": (lambda content: content.update({CEILINGS_KEY: ["x"]}), CEILINGS_KEY),
    "no peak": (
        lambda content: content[CEILINGS_KEY][0].update(flops_per_s=0),
        "the ceiling of AMD EPYC.* is broken at `flops_per_s`",
    ),
    "no copies": (lambda content: content[CEILINGS_KEY][0].update(copies=[]), "copies of growing working sets"),
    "copies in disorder": (lambda content: content[CEILINGS_KEY][0]["copies"].reverse(), "growing working sets"),
    "ceiling's time": (lambda content: content[CEILINGS_KEY][0].update(measured_at="noon"), "AMD EPYC.*ISO 8601"),
    "ceiling's text": (lambda content: content[CEILINGS_KEY][0].update(product="\ud800"), "broken at `product`"),
    "groups of text": (lambda content: content.update({GROUPS_KEY: {}}), GROUPS_KEY),
    "group": (lambda content: content[GROUPS_KEY][0].update(wall=-1), "the group a is broken at `wall`"),
    "group twice": (lambda content: content[GROUPS_KEY].append(content[GROUPS_KEY][0]), "the group a twice"),
    "marked block": (lambda content: content[GROUPS_KEY][0].update(throttled=[1]), "marks a block it has not"),
    "step": (lambda content: first(content)["extra_info"].update(step="all"), "broken at `step`"),
    "command": (lambda content: content.update({COMMAND_KEY: "one\ntwo"}), COMMAND_KEY),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_spoiled_file_is_refused(tmp_path: Path, name: str) -> None:
    change, expected = SPOILED[name]
    path = edited(tmp_path / "run.json", change)
    with pytest.raises(ReportError, match=expected) as refusal:
        load([path])
    message = str(refusal.value)
    assert str(path) in message
    assert message.count("\n") == 0
    assert message.endswith(".")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, "does not exist"),
        ("", "not JSON, or was cut off"),
        ("not JSON", "not JSON, or was cut off"),
        ("[" * 100_000, "not JSON, or was cut off"),
        ("[]", "holds no result"),
        ("3", "holds no result"),
        (b"\xff\xfe\x00", "not JSON"),
    ],
)
def test_a_file_that_is_no_result_is_refused(tmp_path: Path, text: str | bytes | None, expected: str) -> None:
    path = tmp_path / "run.json"
    if text is not None:
        path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ReportError, match=expected):
        load([path])


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "run.json", [one()])
    path.write_text(path.read_text()[:-100])
    with pytest.raises(ReportError, match="cut off"):
        load([path])


def test_a_folder_and_no_file_at_all_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="cannot be read"):
        load([tmp_path])
    with pytest.raises(ReportError, match="No result file"):
        load([])
