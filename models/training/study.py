"""Trainings of heads over seeds in one folder, each kept when it ends and continued by the same call.

STUDY/HEAD-seedN/   a training, as `models.training.train` leaves it
STUDY/study.json    all finished trainings, written after each
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from models.classifier import checkpoint
from models.config import head_config
from models.data.data import CACHE
from models.data.images import DataError
from models.device import pick_device
from models.errors import ModelError, ResumeError
from models.heads.cost import parameters
from models.heads.heads import HEAD_KINDS, settings_of
from models.progress import SILENT, Progress, StudyProgress
from models.result_file import check_same, write_result
from models.settings import ConfigError
from models.training.recipes import TrainConfig, train_config
from models.training.train import train
from models.training.trainer import training_environment
from models.training.training_state import read_state
from reports.records.files import StorageError, read, read_json
from reports.records.training_study import TrainingRun, TrainingStudy

FILE = "study.json"
HEAD_SETTINGS = ("head", "head_changes", "balance", "seed")
"""Runs of different heads in one study may differ in these settings; runs of one head differ in the seed alone."""


def run_study(
    configs: Sequence[TrainConfig],
    out: Path,
    *,
    device: str = "auto",
    progress: Progress = SILENT,
    cache: Path = CACHE,
    command: str = "",
) -> tuple[list[TrainingRun], dict[str, str]]:
    """Train each of `configs`; return all finished trainings in `out`, and the failures by name of the folder.

    A finished training is not repeated, and a failed one stops no other. Raises `ModelError` if all would fail: for bad
    data or device, or an `out` that holds a study with other settings; and `StorageError` if `out` cannot be written or
    another process trains there.
    """
    where = pick_device(device)
    _check_same(out, configs)
    shown, failures = StudyProgress(progress, len(configs)), {}
    for config in configs:
        folder = folder_name(config)
        shown.begin(f"{config.head} head, seed {config.seed}")
        listed = folder in _listed(out)
        try:
            train(config, out / folder, device=device, progress=shown, cache=cache, command=command)
        except (DataError, StorageError):
            raise
        except (ModelError, torch.OutOfMemoryError) as error:
            failures[folder] = str(error)
            shown.say(f"{folder} failed: {error}")
            continue
        if listed:
            continue  # study.json keeps the environment of the training
        study = TrainingStudy(
            format=1,
            kind="training",
            command=command,
            environment=training_environment(config, where),
            preset=config.preset,
            data=checkpoint.read_config(out / folder).data,
            epochs=config.epochs,
            runs=tuple(finished(out)),
        )
        write_result(out / FILE, study)
    return finished(out), failures


def _listed(out: Path) -> set[str]:
    """Return the folders of the runs in study.json; none if it cannot be read."""
    try:
        study = TrainingStudy.model_validate_json(read(out / FILE))
    except (OSError, ValueError):
        return set()
    return {run.folder for run in study.runs}


def folder_name(config: TrainConfig) -> str:
    """Return the name of the folder of a training."""
    return f"{config.head}-seed{config.seed}"


def finished(out: Path) -> list[TrainingRun]:
    """Return all finished trainings of the study in `out`, seed by seed."""
    runs = [_run(path.parent) for path in out.glob(f"*-seed*/{checkpoint.CONFIG}")]
    return sorted(runs, key=lambda run: (run.seed, HEAD_KINDS.index(run.head)))


def _run(folder: Path) -> TrainingRun:
    config = checkpoint.read_config(folder)
    head = config.model.head
    try:
        metrics = read_json(folder / checkpoint.METRICS)
        history = metrics["history"]
        best = history[metrics["best_epoch"] - 1]
        return TrainingRun(
            folder=folder.name,
            head=head.kind,
            policy=head.policy,
            seed=config.training["seed"],
            parameters=parameters(head),
            best_epoch=metrics["best_epoch"],
            val_accuracy=best["val_accuracy"],
            test_accuracy=metrics["test_accuracy"],
            train_accuracy=best["train_accuracy"],
            seconds=sum(row["seconds"] for row in history),
            history=history,
        )
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        raise ResumeError(f"{folder} holds no results of a training of this study; use another --out") from None


def _check_same(out: Path, configs: Sequence[TrainConfig]) -> None:
    """Raise `ResumeError` if a training in `out` has other settings than `configs`."""
    asked = {config.head: config.model_dump(mode="json") for config in configs}
    shared = {name: value for name, value in next(iter(asked.values())).items() if name not in HEAD_SETTINGS}
    for folder in sorted(out.glob("*-seed*")):
        if (old := _config(folder)) is None:
            continue
        new = {**asked[old["head"]], "seed": old["seed"]} if old["head"] in asked else {**old, **shared}
        check_same(f"{folder} holds a training", old, new)


def _config(folder: Path) -> dict[str, Any] | None:
    """Return the dumped recipe of the training in `folder`, finished or not; None if there is none."""
    if (folder / checkpoint.CONFIG).exists():
        return checkpoint.read_config(folder).training
    state = read_state(folder)
    return None if state is None else state.config


def study_configs(
    data: str,
    heads: Sequence[str],
    seeds: Sequence[int],
    preset: str | None = None,
    *,
    head_changes: dict[str, Any] | None = None,
    balance: dict[str, float] | None = None,
    **changes: Any,
) -> list[TrainConfig]:
    """Return the recipes of all runs, seed by seed.

    Each head takes from `head_changes` and `balance` what it can have. Next to other heads, the dense head is as wide
    as all their experts together, so that capacities stay equal. Raises `ConfigError` for a bad value, and for a
    setting that none of the heads has.
    """
    head_changes, balance = head_changes or {}, balance or {}
    settings = {head: _settings(head, heads, head_changes) for head in heads}
    terms = {head: _terms(head, settings[head], balance) for head in heads}
    for asked, taken in ((head_changes, settings), (balance, terms)):
        for name in asked:
            if not any(name in settings for settings in taken.values()):
                raise ConfigError(f"none of the heads {', '.join(heads)} has a setting {name!r}; leave it out")
    return [
        train_config(data, head, preset, seed=seed, head_changes=settings[head], balance=terms[head], **changes)
        for seed in seeds
        for head in heads
    ]


def _settings(head: str, heads: Sequence[str], changes: dict[str, Any]) -> dict[str, Any]:
    """Return those of `changes` that `head` can have, next to the other `heads`."""
    settings = {name: value for name, value in changes.items() if name in settings_of(head)}
    sizes = {name: changes[name] for name in ("experts", "hidden") if name in changes}
    if head == "dense" and set(heads) != {"dense"} and sizes:
        moe = head_config("soft", **sizes).model_dump()
        settings["hidden"] = moe["experts"] * moe["hidden"]
    return settings


def _terms(head: str, settings: dict[str, Any], balance: dict[str, float]) -> dict[str, float]:
    """Return the balance terms that the head can have; unknown terms stay, so that they are reported."""
    config = head_config(head, **settings)
    return {term: weight for term, weight in balance.items() if config.refusal(term) is None}
