"""Study files: what is read, and what is refused with one sentence that names the file and the fix."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reports.errors import ReportError
from reports.reading.documents import schema_of
from reports.reading.files import read
from reports.reading.inputs import Studies, gather
from reports.records.record import BenchmarkFile
from tests.reports import studies

MAKERS: dict[str, Callable[..., dict[str, Any]]] = {
    "training": studies.training,
    "policies": studies.policies,
    "history": studies.lone_history,
    "sharpness": studies.sharpness,
}


def loaded(*paths: Path) -> Studies:
    return gather(read(paths)).studies


def test_every_kind_is_told_by_its_name(tmp_path: Path) -> None:
    found = loaded(*studies.everything(tmp_path))
    assert [len(group) for group in (found.training, found.policies, found.sharpness)] == [2, 1, 1]
    assert found.training[0].runs[0].test_accuracy == studies.training()["runs"][0]["test_accuracy"]
    assert found.policies[0].latency[0].seconds == tuple(studies.policies()["latency"][0]["seconds"])
    assert found.sharpness[0].parts[0].blocks[0].largest == 20.0


def test_a_result_of_a_benchmark_is_no_study() -> None:
    assert schema_of({"benchmarks": []}) is BenchmarkFile
    assert schema_of({"kind": ["training"]}) is None
    assert schema_of({"kind": "predicted"}) is None


def test_a_lone_history_is_a_training_without_results(tmp_path: Path) -> None:
    changes = {"policy": "top_p"}
    content = studies.lone_history()
    content["config"] |= {"head_changes": changes, "data": "/some/where/cifar10-jpeg"}
    folder = tmp_path / "sparse-seed9"
    folder.mkdir()
    (study,) = loaded(studies.write(folder / "history.json", content)).training
    (run,) = study.runs
    assert (run.folder, run.head, run.policy, run.seed, run.test_accuracy) == (
        "sparse-seed9", "sparse", "top_p", 9, None,
    )  # fmt: skip
    assert study.data == "cifar10-jpeg"
    assert len(run.history) == 5


def test_fields_that_a_report_does_not_show_are_passed_over(tmp_path: Path) -> None:
    content = studies.training(novelty={"a": [1]})
    content["runs"][0]["novelty"] = content["runs"][0]["history"][0]["novelty"] = 3
    assert loaded(studies.write(tmp_path / "study.json", content)).training


def test_missing_pieces_of_a_curvature_are_allowed(tmp_path: Path) -> None:
    empty = {"subset": "train", "images": 9, "loss": 0.1}
    bare = studies.sharpness(parts=[empty | {"density": None, "lines": None, "surface": None, "sam": None}])
    (file,) = loaded(studies.write(tmp_path / "a.json", bare)).sharpness
    assert file.parts[0].whole is None


@pytest.mark.parametrize(
    ("device", "expected"),
    [("cpu", "CPU AMD, 2 threads"), ("AMD", "CPU AMD, 2 threads"), ("NVIDIA H100", "NVIDIA H100")],
)
def test_a_device_is_told_in_words(tmp_path: Path, device: str, expected: str) -> None:
    content = studies.training(environment={"device": device, "cpu": "AMD", "threads": 2, "load": [1]})
    (study,) = loaded(studies.write(tmp_path / "study.json", content)).training
    assert study.device == expected


SPOILED: dict[str, tuple[str, Callable[[dict[str, Any]], Any], str]] = {
    "newer": ("training", lambda c: c.update(format=2), "written by a newer moegap .*upgrade"),
    "newer sharpness": ("sharpness", lambda c: c.update(format=99), "newer moegap"),
    "no format": ("training", lambda c: c.pop("format"), "broken at `format`"),
    "old text format": ("policies", lambda c: c.update(format="one"), "broken at `format`"),
    "no runs": ("training", lambda c: c.update(runs=[]), "broken at `runs`"),
    "runs of text": ("policies", lambda c: c.update(runs="x"), "broken at `runs`"),
    "no head": ("training", lambda c: c["runs"][2].pop("head"), r"broken at `runs\.2\.head`"),
    "NaN": ("training", lambda c: c["runs"][0].update(test_accuracy=float("nan")), r"runs\.0\.test_accuracy"),
    "infinite": ("training", lambda c: c["runs"][0]["history"][1].update(val_loss=float("inf")), "val_loss"),
    "beyond one": ("policies", lambda c: c["runs"][0].update(test_accuracy=1.5), "test_accuracy"),
    "in percent": ("training", lambda c: c["runs"][0].update(val_accuracy=88.1), "val_accuracy"),
    "negative count": ("training", lambda c: c["runs"][0].update(seed=-1), "seed"),
    "ragged classes": (
        "training",
        lambda c: c["runs"][3]["history"][0].update(class_load=[[0.5, 0.5], [1.0]]),
        "class_load differ in length",
    ),
    "negative time": ("policies", lambda c: c["latency"][0].update(seconds=[-1.0]), "seconds"),
    "lost density": ("sharpness", lambda c: c["parts"][0]["density"]["grid"].pop(), "grid and density differ"),
    "lost loss": ("sharpness", lambda c: c["parts"][0]["lines"][0]["losses"].pop(), "losses and rerouted differ"),
    "ragged surface": ("sharpness", lambda c: c["parts"][0]["surface"]["losses"][3].pop(), "betas and losses differ"),
    "huge": ("sharpness", lambda c: c["parts"][0].update(loss=1e300), r"parts\.0\.loss"),
    "vast surface": ("sharpness", lambda c: c["parts"][0]["surface"].update(alphas=[0.0] * 5000), "alphas"),
    "no config": ("history", lambda c: c.update(config=3), "broken at `config`"),
    "config without a head": ("history", lambda c: c["config"].pop("head"), r"runs\.0\.head"),
    "surrogate": ("training", lambda c: c.update(data="\ud800"), "no Unicode|broken at `data`"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_spoiled_study_is_refused(tmp_path: Path, name: str) -> None:
    kind, change, expected = SPOILED[name]
    content = MAKERS[kind]()
    change(content)
    path = studies.write(tmp_path / "study.json", content)
    with pytest.raises(ReportError, match=expected) as refusal:
        loaded(path)
    message = str(refusal.value)
    assert str(path) in message
    assert message.count("\n") == 0
    assert message.endswith(".")


def test_a_truncated_study_is_refused(tmp_path: Path) -> None:
    path = studies.write(tmp_path / "study.json", studies.training())
    path.write_text(path.read_text()[:-40])
    with pytest.raises(ReportError, match="cut off"):
        loaded(path)


@pytest.mark.parametrize("kind", MAKERS)
def test_the_factory_writes_plain_json(kind: str) -> None:
    json.dumps(MAKERS[kind](), allow_nan=False)
