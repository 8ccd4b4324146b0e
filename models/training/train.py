"""Training a classifier: seeded, saved after every epoch, continued by the same call."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from models.classifier import checkpoint
from models.classifier.checkpoint import TRAINING
from models.classifier.evaluate import evaluate
from models.data.data import CACHE, Dataset, load_data
from models.device import pick_device
from models.errors import ResumeError
from models.progress import SILENT, Progress
from models.result_file import check_same
from models.training.recipes import TrainConfig
from models.training.tracking import Tracker
from models.training.trainer import Trainer, training_environment
from models.training.training_state import best_epoch, read_state, write_state
from reports.records.files import alone, make_folder


def train(
    config: TrainConfig,
    out: Path,
    *,
    device: str = "auto",
    progress: Progress = SILENT,
    cache: Path = CACHE,
    command: str = "",
    data: Dataset | None = None,
) -> dict[str, Any]:
    """Train as `config` says, leave a checkpoint in the folder `out`, and return its metrics.

    The state is written below `out` after every epoch. The same call continues from there and, on a CPU with the same
    number of threads, ends with the same weights bit for bit. A finished training is not repeated. Seeds torch's
    default generators. `command` is the command line, kept with the history. `data` is what `config.data` names, if it
    is already loaded. Raises `ModelError` for bad data, an `out` that belongs to another configuration, and a loss that
    is no longer finite, and `StorageError` if `out` cannot be written or another process trains there.
    """
    where = pick_device(device)
    with alone(out):
        if (metrics := _finished(config, out)) is not None:
            progress.reach(config.epochs, config.epochs)
            progress.say(f"the training in {out} is already finished")
            shutil.rmtree(out / TRAINING, ignore_errors=True)
            return metrics
        state = read_state(out)
        if state is not None:
            check_same(f"{out} holds a training", state.config, config.model_dump(mode="json"))
        if data is None:
            data = load_data(
                config.data, val_share=config.val_share, split_seed=config.split_seed, cache=cache, progress=progress
            )
        make_folder(out / TRAINING)
        trainer = Trainer(config, data, where, progress)
        if state is not None:
            if state.data != data.digest:
                raise ResumeError(
                    f"the images of {config.data} changed since training began in {out}; use another --out"
                )
            trainer.restore(state)
            progress.say(f"continuing after epoch {len(state.history)} of {config.epochs}")
        progress.reach(trainer.epoch, config.epochs)
        with Tracker(
            out,
            trainer.state.config,
            data.classes,
            trainer.epoch,
            command=command,
            environment=training_environment(config, where),
        ) as tracker:
            while trainer.epoch < config.epochs:
                trainer.run_epoch()
                progress.reach(trainer.epoch, config.epochs)
                tracker.track(trainer.state.history)  # before the state: an epoch missing there is repeated
                write_state(out, trainer.state)
        metrics = _keep(trainer, out)
        shutil.rmtree(out / TRAINING, ignore_errors=True)
        return metrics


def _finished(config: TrainConfig, out: Path) -> dict[str, Any] | None:
    """Return the metrics of the checkpoint in `out`, or None; raise `ResumeError` if it is of another config."""
    if not (out / checkpoint.CONFIG).exists():
        if (out / checkpoint.WEIGHTS).exists() and not (out / TRAINING).is_dir():
            raise ResumeError(f"{out / checkpoint.WEIGHTS} is not of a training of moegap; use another --out")
        return None
    done = checkpoint.load(out)
    check_same(f"{out} holds a training", done.config.training, config.model_dump(mode="json"))
    match done.metrics:
        case {"test_accuracy": float() | int(), "best_epoch": int(), "history": [dict(), *_]}:
            return done.metrics
    raise ResumeError(f"{out / checkpoint.METRICS} lacks the results of a training; use another --out")


def _keep(trainer: Trainer, out: Path) -> dict[str, Any]:
    """Test the weights of the best epoch, save them as a checkpoint in `out`, and return its metrics."""
    trainer.model.load_state_dict(trainer.state.best)
    tested = evaluate(trainer.model, trainer.test)
    history = trainer.state.history
    features, labels = trainer.some_features()
    metrics = {
        "test_accuracy": tested.pop("accuracy"),
        "test_loss": tested.pop("loss"),
        "best_epoch": best_epoch(history),
        "routing": tested,
        "history": history,
    }
    checkpoint.save(
        out,
        trainer.model,
        images=trainer.images,
        data=trainer.data.name,
        classes=trainer.data.classes,
        training=trainer.state.config,
        metrics=metrics,
        environment=training_environment(trainer.config, trainer.device),
        features=features,
        labels=labels,
    )
    return metrics
