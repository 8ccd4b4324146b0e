"""The zoo: small, whole, described, and taken from a study as it is."""

import json
import math
from pathlib import Path

import pytest
import torch

from bench.suites.suite import chosen_subjects, suite_named
from models.classifier import checkpoint
from models.training.study import FILE, run_study, study_configs
from models.zoo import PRESET, ZOO, checkpoints
from models.zoo.keep import MOST_BYTES, ZooError, keep

LEAST_ROWS = 3_000  # of real features, in all


def test_the_zoo_is_small_enough_to_be_cloned() -> None:
    assert sum(path.stat().st_size for path in ZOO.rglob("*") if path.is_file()) <= MOST_BYTES


def test_every_checkpoint_is_whole_trained_and_described() -> None:
    described = json.loads((ZOO / f"{PRESET}.json").read_text())
    readme = (ZOO / "README.md").read_text()
    runs = {run["head"]: run for run in described["runs"]}
    rows = 0
    for path in checkpoints():
        result = checkpoint.load(path)
        run = runs[result.config.model.head.kind]
        assert result.config.training["preset"] == PRESET
        assert result.metrics["test_accuracy"] == run["test_accuracy"]
        assert f"| `{path.name}` |" in readme
        assert f"{100 * run['test_accuracy']:.2f}" in readme
        assert result.features is not None
        rows += len(result.features)
    assert rows >= LEAST_ROWS
    assert described["command"] in readme


@pytest.mark.parametrize("path", checkpoints(), ids=lambda path: path.name)
def test_kept_features_are_classified_as_well_as_the_test_images(path: Path) -> None:
    result = checkpoint.load(path)
    assert result.features is not None
    assert result.labels is not None
    with torch.inference_mode():
        right = (result.model.head(result.features).argmax(dim=1) == result.labels).double().mean().item()
    tested = result.metrics["test_accuracy"]
    assert abs(right - tested) < 4 * math.sqrt(tested * (1 - tested) / len(result.labels))
    assert len(result.labels.unique()) == len(result.config.classes)


def test_benchmarks_use_the_zoo_where_nothing_else_is_named() -> None:
    subjects = chosen_subjects(suite_named("demo"), ())
    assert [subject.name for subject in subjects] == [path.name for path in checkpoints()]
    assert {subject.weights for subject in subjects} == {"trained"}
    assert {subject.weights for subject in chosen_subjects(suite_named("paper"), ())} == {"initialised"}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("study")
    run_study(
        study_configs("digits", ("dense", "sparse"), range(1), epochs=1), out, device="cpu", command="moegap train"
    )
    return out


def test_a_study_is_taken_without_what_training_leaves_beside_its_checkpoints(study: Path, tmp_path: Path) -> None:
    folders = keep(study, tmp_path)
    assert folders == [tmp_path / "demo-dense", tmp_path / "demo-sparse"]
    for folder, source in zip(folders, ("dense-seed0", "sparse-seed0"), strict=True):
        kept = checkpoint.load(folder)
        assert {path.name for path in folder.iterdir()} == {checkpoint.CONFIG, *kept.config.sha256}
        original = checkpoint.load(study / source)
        assert kept.config == original.config
    assert (tmp_path / "demo.json").read_bytes() == (study / FILE).read_bytes()
    readme = (tmp_path / "README.md").read_text()
    assert "| `demo-sparse` | digits | 0 |" in readme
    assert "`moegap train`" in readme


def test_several_seeds_of_a_head_are_refused(study: Path, tmp_path: Path) -> None:
    described = json.loads((study / FILE).read_text())
    described["runs"] *= 2
    (tmp_path / FILE).write_text(json.dumps(described))
    with pytest.raises(ZooError, match=r"several seeds.*--seeds 1"):
        keep(tmp_path, tmp_path / "zoo")


def test_a_folder_without_a_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ZooError, match=r"study\.json.*moegap train --head all"):
        keep(tmp_path, tmp_path / "zoo")


@pytest.mark.parametrize("content", ["{}", "[]", '{"runs": []}', "{"])
def test_a_broken_study_file_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(content)
    with pytest.raises(ZooError, match=r"no readable study\.json"):
        keep(tmp_path, tmp_path / "zoo")


def test_too_large_a_study_is_refused(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.zoo.keep.MOST_BYTES", 1_000)
    with pytest.raises(ZooError, match=r"may take 1,000"):
        keep(study, tmp_path / "zoo")
    assert not (tmp_path / "zoo").exists()


def test_a_damaged_checkpoint_is_not_taken(study: Path, tmp_path: Path) -> None:
    copied = tmp_path / "study"
    for path in study.rglob("*"):
        if path.is_file():
            target = copied / path.relative_to(study)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    weights = copied / "sparse-seed0" / checkpoint.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    with pytest.raises(checkpoint.CheckpointError, match="SHA-256 differs"):
        keep(copied, tmp_path / "zoo")
    assert not (tmp_path / "zoo").exists()
