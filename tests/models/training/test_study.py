"""Studies: finished, killed and continued, extended, refused, and their tables."""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from models.classifier import checkpoint
from models.config import head_config
from models.data.images import DataError
from models.errors import ResumeError
from models.heads.cost import parameters
from models.heads.heads import HEAD_KINDS
from models.progress import StudyProgress
from models.settings import ConfigError
from models.training import study as module
from models.training.balance import BalanceWeights
from models.training.recipes import TrainConfig
from models.training.study import FILE, finished, run_study, study_configs
from models.training.trainer import DivergedError
from reports.records.files import StorageError
from reports.records.training_study import TrainingStudy
from tests.killed import Killed

HEADS = ("dense", "sparse")
FOLDERS = ["dense-seed0", "sparse-seed0", "dense-seed1", "sparse-seed1"]


def configs(heads: Sequence[str] = HEADS, seeds: int = 2, **changes: Any) -> list[TrainConfig]:
    return study_configs("digits", heads, range(seeds), **{"epochs": 2, "batch": 300, **changes})


def document(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / FILE).read_text())
    return content


def written(out: Path) -> TrainingStudy:
    return TrainingStudy.model_validate_json((out / FILE).read_bytes())


def weights(out: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in out.glob(f"*/{checkpoint.WEIGHTS}")}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a study that nothing disturbed; do not write into it."""
    out = tmp_path_factory.mktemp("study")
    rows, failures = run_study(configs(), out, device="cpu", command="moegap train --head all")
    assert (rows, failures) == (list(written(out).runs), {})
    return out


def test_a_study_leaves_its_trainings_and_a_file_of_them(study: Path) -> None:
    content = document(study)
    about = {name: content[name] for name in ("format", "kind", "command", "preset", "data", "epochs")}
    assert about == {
        "format": 1,
        "kind": "training",
        "command": "moegap train --head all",
        "preset": "demo",
        "data": "digits",
        "epochs": 2,
    }
    assert [run["folder"] for run in content["runs"]] == FOLDERS
    for run in content["runs"]:
        result = checkpoint.load(study / run["folder"])
        head = result.config.model.head
        assert (run["head"], run["policy"]) == (head.kind, "top_k" if head.kind == "sparse" else None)
        assert run["seed"] == result.config.training["seed"]
        assert run["parameters"] == parameters(head) == sum(p.numel() for p in result.model.head.parameters())
        assert run["history"] == result.metrics["history"]
        best = run["history"][run["best_epoch"] - 1]
        assert run["val_accuracy"] == best["val_accuracy"] == max(row["val_accuracy"] for row in run["history"])
        assert run["test_accuracy"] == result.metrics["test_accuracy"]
        assert run["train_accuracy"] == best["train_accuracy"]
        assert run["seconds"] == pytest.approx(sum(row["seconds"] for row in run["history"]))


@contextmanager
def deadly(self: StudyProgress, items: Iterable[Any], total: int, description: str) -> Iterator[Iterable[Any]]:
    if (self.run, description) == (3, "epoch 2/2"):
        raise Killed
    yield items


def test_a_killed_study_continues_to_the_same_bits(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(StudyProgress, "track", deadly)
        with pytest.raises(Killed):
            run_study(configs(), tmp_path, device="cpu")
    assert [run["folder"] for run in document(tmp_path)["runs"]] == FOLDERS[:2]
    epochs: list[str] = []

    def counted(trainer: Any) -> None:
        epochs.append(f"{trainer.config.head}-seed{trainer.config.seed}")
        real(trainer)

    real = module.train.__globals__["Trainer"].run_epoch
    monkeypatch.setattr("models.training.trainer.Trainer.run_epoch", counted)
    rows, failures = run_study(configs(), tmp_path, device="cpu")
    assert epochs == ["dense-seed1", "sparse-seed1", "sparse-seed1"]
    assert failures == {}
    assert rows == list(written(tmp_path).runs)
    assert [row.folder for row in rows] == FOLDERS
    assert weights(tmp_path) == weights(study)


def test_a_study_is_extended_by_heads_and_seeds(tmp_path: Path) -> None:
    run_study(configs(["sparse"], 1), tmp_path, device="cpu")
    before = weights(tmp_path)
    rows, _ = run_study(configs(["dense"], 2), tmp_path, device="cpu")
    assert [row.folder for row in rows] == ["dense-seed0", "sparse-seed0", "dense-seed1"]
    assert list(written(tmp_path).runs) == rows
    assert weights(tmp_path).items() >= before.items()


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"epochs": 3}, r"dense-seed0 holds a training with another epochs \(2, now 3\)"),
        ({"heads": ["soft"], "lr": 0.7}, r"dense-seed0 holds a training with another lr \(0.2, now 0.7\)"),
        (
            {"heads": ["sparse"], "head_changes": {"k": 3}},
            r"sparse-seed0 holds a training with another head_changes.k \(None, now 3\)",
        ),
        (
            {"heads": ["sparse"], "head_changes": {"k": 3}, "seeds": 1},
            r"sparse-seed0 holds a training with another head_changes.k \(None, now 3\)",
        ),
        ({"seeds": 3, "balance": {"z": 0.5}}, r"sparse-seed0 holds a training with another balance.z \(0.0, now 0.5\)"),
    ],
)
def test_another_setting_in_the_same_folder_is_refused(study: Path, changes: dict[str, Any], difference: str) -> None:
    before = sorted(study.rglob("*"))
    with pytest.raises(ResumeError, match=f"{difference}; use another --out"):
        run_study(configs(**changes), study, device="cpu")
    assert sorted(study.rglob("*")) == before


def test_a_finished_study_keeps_the_machine_it_was_trained_on(tmp_path: Path) -> None:
    run_study(configs(seeds=1), tmp_path, device="cpu", command="moegap train")
    content = document(tmp_path)
    content["environment"]["device"] = "another machine"
    (tmp_path / FILE).write_text(json.dumps(content))
    rows, _ = run_study(configs(seeds=1), tmp_path, device="cpu", command="again")
    assert [row.folder for row in rows] == FOLDERS[:2]
    assert document(tmp_path) == content
    (tmp_path / FILE).unlink()
    run_study(configs(seeds=1), tmp_path, device="cpu", command="again")
    assert document(tmp_path)["command"] == "again"


def test_a_training_that_fails_is_named_and_the_others_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverges(config: TrainConfig, *arguments: Any, **settings: Any) -> Any:
        if config.head == "dense" and config.seed == 0:
            raise DivergedError("the loss became nan in epoch 1")
        return real(config, *arguments, **settings)

    real = module.train
    monkeypatch.setattr(module, "train", diverges)
    rows, failures = run_study(configs(), tmp_path, device="cpu")
    assert failures == {"dense-seed0": "the loss became nan in epoch 1"}
    assert [row.folder for row in rows] == FOLDERS[1:]
    monkeypatch.undo()
    rows, failures = run_study(configs(), tmp_path, device="cpu")
    assert ([row.folder for row in rows], failures) == (FOLDERS, {})


def test_what_would_fail_every_training_is_raised(tmp_path: Path) -> None:
    nowhere = study_configs("nothing", HEADS, [0])
    with pytest.raises(DataError, match="unknown data 'nothing'"):
        run_study(nowhere, tmp_path / "out", device="cpu")
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot create the folder"):
        run_study(configs(), tmp_path / "file" / "out", device="cpu")


def test_no_study() -> None:
    assert finished(Path("nowhere")) == []


# Recipes


def by_head(**changes: Any) -> dict[str, TrainConfig]:
    return {config.head: config for config in study_configs("digits", HEAD_KINDS, [0], **changes)}


def test_every_head_is_trained_with_every_seed_under_one_recipe() -> None:
    configs = study_configs("cifar10", ["dense", "soft"], [4, 5], "paper", epochs=7)
    assert [(config.head, config.seed) for config in configs] == [("dense", 4), ("soft", 4), ("dense", 5), ("soft", 5)]
    varied = {"head", "seed", "balance"}
    assert len({config.model_dump_json(exclude=varied) for config in configs}) == 1
    assert configs[0].epochs == 7


def test_each_head_takes_what_it_has() -> None:
    changes = {"k": 3, "policy": "capacity", "experts": 4, "hidden": 10, "activation": "gelu"}
    result = by_head(head_changes=changes, balance={"load": 0.5, "importance": 0.0, "kl": 0.1})
    assert result["sparse"].head_changes == changes
    assert result["soft"].head_changes == {"experts": 4, "hidden": 10, "activation": "gelu"}
    assert result["dense"].head_changes == {"hidden": 40, "activation": "gelu"}
    assert result["dense"].balance == BalanceWeights()
    assert result["soft"].balance.kl == 0.1
    assert (result["sparse"].balance.load, result["sparse"].balance.importance) == (0.5, 0.0)


@pytest.mark.parametrize(("changes", "hidden"), [({}, 512), ({"experts": 3}, 192), ({"hidden": 5}, 40)])
def test_the_dense_head_is_as_wide_as_all_experts(changes: dict[str, int], hidden: int) -> None:
    assert head_config("dense", **by_head(head_changes=changes)["dense"].head_changes).hidden == hidden


def test_a_dense_head_alone_has_the_width_asked_for() -> None:
    (config,) = study_configs("digits", ["dense"], [0], head_changes={"hidden": 5})
    assert config.head_changes == {"hidden": 5}


@pytest.mark.parametrize(
    ("heads", "changes", "words"),
    [
        (["dense", "soft"], {"head_changes": {"k": 3}}, "none of the heads dense, soft has a setting 'k'"),
        (["dense", "soft"], {"balance": {"load": 1.0}}, "none of the heads dense, soft has a setting 'load'"),
        (["dense", "sparse"], {"balance": {"spread": 1.0}}, "balance.spread"),
        (["dense", "mixture"], {}, "unknown head 'mixture'"),
        (["dense", "sparse"], {"head_changes": {"k": 9}}, "k = 9 is more than experts = 8"),
    ],
)
def test_bad_settings_are_refused(heads: list[str], changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        study_configs("digits", heads, [0], **changes)
