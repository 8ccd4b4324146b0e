"""Routing policies trained with the same seeds, data and recipe, and equal numbers of parameters.

OUT/LABEL-seedN/          a training, as `models.training.train` leaves it
OUT/policies.json         the results, written after each training; see `models.policies.results`
OUT/features.safetensors  features of a frozen backbone, if only heads are trained
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.classifier import checkpoint
from models.classifier.checkpoint import WEIGHTS, Checkpoint
from models.classifier.classifier import Classifier
from models.classifier.evaluate import BATCH, joined
from models.data.data import CACHE, Dataset, load_data
from models.data.images import DataError
from models.device import pick_device
from models.errors import ModelError
from models.heads.cost import flops, parameters
from models.policies.contenders import Contender, equal_parameters
from models.policies.frozen_features import frozen_features
from models.policies.information import information
from models.policies.results import PolicyResults
from models.progress import SILENT, Progress, StudyProgress
from models.result_file import environment
from models.routing import Routing
from models.settings import ConfigError
from models.training.recipes import TrainConfig, train_config
from models.training.train import train
from models.training.trainer import model_config
from reports.records.files import StorageError, make_folder
from reports.records.policy_study import PolicyRun

FEATURES = "features.safetensors"
HEAD_ALONE: dict[str, Any] = {"preset": "demo", "batch": 256}
"""How a head is trained on frozen features by default."""
NOT_SHARED = ("data", "preset", "epochs", "head", "head_changes", "balance", "seed")
"""Settings that differ between runs, or that policies.json holds in fields of their own."""
STATISTICS = (
    "experts_per_row_mean",
    "experts_per_row_std",
    "load_cv",
    "dropped",
    "unserved",
    "gate_entropy",
    "class_load",
    "load",
)


@dataclass(frozen=True)
class Plan:
    """A study before it begins.

    `shared` are the settings from which `contenders` were made, `changes` the fields that differ from the preset. With
    `source`, only heads are trained: on the features of its backbone, with its split into training and validation.
    """

    data: str
    contenders: Sequence[Contender]
    seeds: Sequence[int]
    preset: str | None = None
    source: Checkpoint | None = None
    shared: dict[str, Any] = field(default_factory=dict)
    changes: dict[str, Any] = field(default_factory=dict)

    def config(self, contender: Contender, seed: int) -> TrainConfig:
        """Return the recipe of one run. Raises `ConfigError` for a bad value."""
        changes = {**self.changes, "head_changes": contender.changes, "seed": seed}
        if self.source is None:
            return train_config(self.data, contender.head, self.preset, **changes)
        settings = {**HEAD_ALONE, **self.source.config.split, **changes}
        if self.preset is not None:
            settings["preset"] = self.preset
        config = train_config(f"features of {self.source.path} for {self.data}", contender.head, **settings)
        if config.backbone.name != "identity" or config.shift or config.flip:
            raise ConfigError(
                f"preset {config.preset} trains a backbone or varies images, and --features gives neither; leave "
                f"--preset out or choose {HEAD_ALONE['preset']}"
            )
        return config


def run_policies(
    plan: Plan, out: Path, *, device: str = "auto", progress: Progress = SILENT, cache: Path = CACHE, command: str = ""
) -> PolicyResults:
    """Train what `plan` names, seed by seed, and return all results in `out` and the runs that failed.

    A finished run is not repeated, an interrupted one continues, and a failed one stops no other. Raises `ModelError`
    if all would fail: for bad settings, data or device, policies of unequal size, or an `out` that holds another study;
    and `StorageError` if `out` cannot be written or another process trains there.
    """
    where = pick_device(device)
    configs = [(one, plan.config(one, seed)) for seed in plan.seeds for one in plan.contenders]
    first = configs[0][1]
    data = load_data(plan.data, val_share=first.val_share, split_seed=first.split_seed, cache=cache, progress=progress)
    results = PolicyResults(
        make_folder(out), _about(plan, first, data), command=command, environment=environment(where)
    )
    missing = [(one, config) for one, config in configs if not results.has(one.label, config.seed)]
    if missing and plan.source is not None:
        data = frozen_features(plan.source, data, out / FEATURES, where, progress)
    shown = (StudyProgress if plan.source is None else _Bars)(progress, len(missing))
    for one, config in missing:
        folder, name = out / one.folder(config.seed), f"{one.label}, seed {config.seed}"
        shown.begin(name)
        try:
            metrics = train(config, folder, device=device, progress=shown, cache=cache, command=command, data=data)
        except (DataError, StorageError):
            raise
        except (ModelError, torch.OutOfMemoryError) as error:
            results.fail(one.label, config.seed, str(error))
            progress.say(f"{name} failed: {error}")
            continue
        results.add(_run(one, config, folder, metrics, data, where))
        progress.say(f"{shown.headline()}: {name}: test accuracy {metrics['test_accuracy']:.2%}")
    return results


class _Bars(StudyProgress):
    """Only the bars: trainings of seconds need no line for every epoch."""

    def say(self, line: str) -> None:
        """Print nothing."""


def _about(plan: Plan, config: TrainConfig, data: Dataset) -> dict[str, Any]:
    """Return the fields that describe the study as a whole; raise `ConfigError` for policies of unequal size."""
    source = plan.source
    features = model_config(config, data).head.features if source is None else source.config.model.head.features
    common = {name: value for name, value in config.model_dump(mode="json").items() if name not in NOT_SHARED}
    of_features = None if source is None else source.config.sha256[WEIGHTS]
    frozen = "" if source is None else f" on frozen features of {source.path.resolve().name}"
    return {
        "data": data.name,
        "preset": config.preset + frozen,
        "epochs": config.epochs,
        "settings": {**common, "head": plan.shared, "images_sha256": data.digest, "features_sha256": of_features},
        "parameters": equal_parameters(plan.contenders, features, len(data.classes)),
        "domains": list(data.domains) or None,
    }


def _run(
    one: Contender, config: TrainConfig, folder: Path, metrics: dict[str, Any], data: Dataset, device: torch.device
) -> PolicyRun:
    """Return the result of a finished training.

    `flops_per_row` counts the real assignments of the test images, and `seconds` is the sum over epochs.
    """
    model = checkpoint.load(folder).model.to(device)
    head, rows, history = model.head.config, len(data.test), metrics["history"]
    routing = routed(model, data.test.images.to(device))
    assignments = rows if routing is None else len(routing.rows)
    return PolicyRun.model_validate(
        {
            "policy": one.label,
            "seed": config.seed,
            "head": one.head,
            "folder": folder.name,
            "test_accuracy": metrics["test_accuracy"],
            "val_accuracy": history[metrics["best_epoch"] - 1]["val_accuracy"],
            "best_epoch": metrics["best_epoch"],
            **{name: metrics["routing"].get(name) for name in STATISTICS},
            **information(routing, data.test.labels.to(device), len(data.classes), data.domain_of_class),
            "flops_per_row": flops(head, rows, assignments).total / rows,
            "parameters": parameters(head),
            "balance": {name: weight for name, weight in config.balance if weight},
            "seconds": sum(row["seconds"] for row in history),
        }
    )


@torch.inference_mode()
def routed(model: Classifier, images: Tensor) -> Routing | None:
    """Return the routing of images (N, c, H, W), in the batches of an evaluation; None for a dense head."""
    each = (model.routed(batch)[1] for batch in images.split(BATCH))
    routings = [routing for routing in each if routing is not None]
    return joined(routings) if routings else None
