"""One training run in memory: epochs, steps and the losses that are minimised.

Letters: N images, D features, C classes, E experts.
"""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.classifier.backbones import build_backbone
from models.classifier.classifier import Classifier
from models.classifier.evaluate import BATCH, evaluate
from models.config import InputConfig, ModelConfig, head_config
from models.data.data import Dataset
from models.data.images import LabelledImages
from models.device import multiplies_bfloat16
from models.errors import ModelError
from models.heads.sparse import SparseMoEHead
from models.progress import Progress
from models.result_file import environment
from models.training import balance
from models.training.augment import augment, cut_out, scale_in_epoch, scaled
from models.training.optimizers import Optimizers
from models.training.recipes import TrainConfig, learning_rate, rate_factor
from models.training.training_state import TrainingState, best_epoch

KEPT_FEATURES = 1024
"""Number of test images whose features a checkpoint keeps."""
PREPARING_PIXELS = 2**21
"""Pixels of training images from which a backbone is prepared: 2,048 images of 32 x 32."""
CHECKED_EVERY = 50
"""Steps between two checks of the loss, since each check synchronises the device."""


class DivergedError(ModelError):
    """A loss that is no longer a number."""


class Trainer:
    """A model in training on `device`; `state` is what is saved after an epoch."""

    def __init__(self, config: TrainConfig, data: Dataset, device: torch.device, progress: Progress) -> None:
        torch.manual_seed(epoch_seed(config.seed, 0))
        self.config, self.data, self.device, self.progress = config, data, device, progress
        self.train, self.val, self.test = (part.to(device) for part in (data.train, data.val, data.test))
        self.images = InputConfig(shape=data.input_shape, mean=data.mean, std=data.std)
        self.bfloat16 = product_dtype(config, device) == "bfloat16"
        self.grey = (torch.tensor(data.mean, device=device) * 255).round()  # (C,), the mean colour
        model = Classifier(model_config(config, data), self.images)
        self.model = model.to(device).to(memory_format=torch.channels_last)
        few = max(1, PREPARING_PIXELS // math.prod(data.input_shape[1:]))
        self.model.backbone.prepare(self.model.normalise(self.train.images[:few]))
        self.optimizers = Optimizers(config, self.model)
        self.state = TrainingState(config.model_dump(mode="json"), data.digest)

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return len(self.state.history)

    def restore(self, state: TrainingState) -> None:
        """Continue from `state`."""
        self.state = state
        self.model.load_state_dict(state.model)
        self.optimizers.restore(state.optimizer)

    def run_epoch(self) -> None:
        """Train on every image once, evaluate, and update `state`."""
        started, epoch = time.perf_counter(), self.epoch + 1
        torch.manual_seed(epoch_seed(self.config.seed, epoch))
        learned = self._learn(epoch)
        metrics = evaluate(self.model, self.val)
        val_loss, val_accuracy = metrics.pop("loss"), metrics.pop("accuracy")
        self._check_finite(val_loss, epoch)
        row = {"epoch": epoch, **learned, "val_loss": val_loss, "val_accuracy": val_accuracy, **metrics}
        self.state.history.append({**row, "seconds": time.perf_counter() - started})
        self.state.model = self.model.state_dict()
        self.state.optimizer = self.optimizers.state()
        if best_epoch(self.state.history) == epoch:
            self.state.best = {name: tensor.clone() for name, tensor in self.state.model.items()}
        self.progress.say(_line(self.state.history[-1], self.config.epochs))

    def _learn(self, epoch: int) -> dict[str, float]:
        """Run the steps of the epoch; return its first learning rate, and the mean loss and accuracy over its steps."""
        self.model.train()
        config, count = self.config, len(self.train)
        scale = scale_in_epoch(config.resolutions, epoch, config.epochs)
        batches = torch.randperm(count).to(self.device).tensor_split(batch_count(count, config.batch))
        loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)  # there, not to synchronise
        correct = torch.zeros((), device=self.device)
        with self.progress.track(batches, len(batches), f"epoch {epoch}/{config.epochs}") as tracked:
            for step, ids in enumerate(tracked):
                factor = rate_factor(config, (epoch - 1 + step / len(batches)) / config.epochs)
                batch = self.train[ids]
                loss, logits = self._step(batch, scale, factor)
                loss_sum += loss * len(ids)
                correct += (logits.argmax(dim=1) == batch.labels).sum()
                if step % CHECKED_EVERY == 0:
                    self._check_finite(loss_sum.item(), epoch)
        self._check_finite(loss_sum.item(), epoch)
        return {
            "learning_rate": learning_rate(config, (epoch - 1) / config.epochs),
            "train_loss": loss_sum.item() / count,
            "train_accuracy": correct.item() / count,
        }

    def _step(self, batch: LabelledImages, scale: float, factor: float) -> tuple[Tensor, Tensor]:
        """Take one step; return the loss () and the logits (n, C) before it, on the device."""
        config, head = self.config, self.model.head
        images = cut_out(augment(batch.images, config.shift, config.flip), config.cutout, self.grey)
        images = scaled(images, scale)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            logits, routing = self.model.routed(images)
            loss = F.cross_entropy(logits, batch.labels, label_smoothing=config.label_smoothing)
            loss = loss + balance.total(routing, config.balance, head.config)
        self.optimizers.zero_grad()
        loss.backward()
        self.optimizers.step(factor)
        if routing is not None and isinstance(head, SparseMoEHead):
            head.correct(routing, config.balance.correction)
        return loss.detach(), logits.detach()

    def _check_finite(self, loss: float, epoch: int) -> None:
        if not math.isfinite(loss):
            raise DivergedError(
                f"the loss became {loss} in epoch {epoch}; use a lower --lr than {self.config.lr:g}, and another --out"
            )

    @torch.inference_mode()
    def some_features(self) -> tuple[Tensor, Tensor]:
        """Return features (n, D) and classes (n,) of random test images, since a source may sort them by class."""
        generator = torch.Generator().manual_seed(self.config.seed)
        ids = torch.randperm(len(self.test), generator=generator)[:KEPT_FEATURES].to(self.device)
        some = self.test[ids]
        return torch.cat([self.model.features(images) for images in some.images.split(BATCH)]), some.labels


def product_dtype(config: TrainConfig, device: torch.device) -> str:
    """Return the dtype in which `device` multiplies in training: bfloat16 or float32."""
    fast = device.type == "cuda" or (config.bfloat16_on_cpu and multiplies_bfloat16())
    return "bfloat16" if fast else "float32"


def training_environment(config: TrainConfig, device: torch.device) -> dict[str, Any]:
    """Return what decides a training's times and last digits."""
    return {**environment(device), "products": product_dtype(config, device)}


def batch_count(images: int, batch: int) -> int:
    """Return the number of batches of an epoch: equal in size to within one image, at most `batch` and at least 2."""
    return max(1, min(math.ceil(images / batch), images // 2))  # batch normalisation needs two images


def epoch_seed(seed: int, epoch: int) -> int:
    """Return the seed for all randomness of an epoch; epoch 0 stands for the initial weights."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0] >> 1)


def model_config(config: TrainConfig, data: Dataset) -> ModelConfig:
    """Return the model that `config` describes, with widths from the data and the backbone."""
    with torch.device("meta"):
        features = build_backbone(config.backbone, data.input_shape).features
    head = head_config(
        config.head, config.head_preset, features=features, classes=len(data.classes), **config.head_changes
    )
    return ModelConfig(backbone=config.backbone, head=head)


def _line(row: dict[str, Any], epochs: int) -> str:
    used = f", {row['utilisation']:.0%} of experts in use" if "utilisation" in row else ""
    return (
        f"epoch {row['epoch']}/{epochs}: train {row['train_accuracy']:.1%}, validation {row['val_accuracy']:.1%} "
        f"(loss {row['val_loss']:.3f}){used}, {row['seconds']:.1f} s"
    )
