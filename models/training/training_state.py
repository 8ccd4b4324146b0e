"""The state of a training after an epoch, in one file that is replaced in one step.

All randomness of an epoch comes from its seed (`models.training.trainer.epoch_seed`), so the state has no generators.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from models.classifier.checkpoint import TRAINING
from models.errors import ResumeError
from reports.records.files import check_regular, make_folder, write

FILE = "state.safetensors"
_GROUPS = ("model", "best", "optimizer")

Tensors = dict[str, Tensor]


@dataclass
class TrainingState:
    """Current weights, weights of the best epoch, momenta, and the history of the epochs so far.

    `config` is the dumped `TrainConfig`, `data` the digest of the training images.
    """

    config: dict[str, Any]
    data: str
    history: list[dict[str, Any]] = field(default_factory=list)
    model: Tensors = field(default_factory=dict)
    best: Tensors = field(default_factory=dict)
    optimizer: Tensors = field(default_factory=dict)


def best_epoch(history: list[dict[str, Any]]) -> int:
    """Return the epoch with the highest validation accuracy; ties go to the lowest loss, then to the first epoch."""
    best = max(history, key=lambda row: (row["val_accuracy"], -row["val_loss"], -row["epoch"]))
    return int(best["epoch"])


def write_state(out: Path, state: TrainingState) -> None:
    """Write the state into the folder `out`."""
    tensors = {f"{group}.{name}": tensor for group in _GROUPS for name, tensor in getattr(state, group).items()}
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    record = json.dumps({"config": state.config, "data": state.data, "history": state.history})
    write(make_folder(out / TRAINING) / FILE, save(plain, metadata={"state": record}))


def read_state(out: Path) -> TrainingState | None:
    """Return the state in the folder `out`, or None if there is none.

    Raises `ResumeError` for a damaged file.
    """
    path = out / TRAINING / FILE
    if not path.exists():
        return None
    try:
        check_regular(path)
        with safe_open(path, framework="pt") as file:
            record = json.loads(file.metadata()["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it is no dict)
            model, best, optimizer = (_group(tensors, f"{group}.") for group in _GROUPS)
            return TrainingState(**record, model=model, best=best, optimizer=optimizer)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ResumeError(f"{path} is damaged ({error}); delete {path.parent} to train from the start") from None


def _group(tensors: Tensors, prefix: str) -> Tensors:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
