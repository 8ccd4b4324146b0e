"""One training run in memory: epochs, steps and the losses that are minimised.

Letters: N images, D features, C classes, E experts.
"""

from __future__ import annotations

import math
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.augment import augment
from models.backbones import build_backbone
from models.balance import importance_loss, kl_to_uniform, load_loss
from models.classifier import Classifier
from models.config import HeadKind, InputConfig, ModelConfig, head_config
from models.data import Dataset
from models.errors import ModelError
from models.evaluate import BATCH, evaluate
from models.images import LabelledImages
from models.progress import Progress
from models.recipes import BalanceWeights, TrainConfig, learning_rate
from models.routing import Routing
from models.training_state import TrainingState, best_epoch

KEPT_FEATURES = 1024
"""Test images whose features a checkpoint keeps."""


class DivergedError(ModelError):
    """A loss that is no longer a number."""


class Trainer:
    """A model in training on `device`; `state` is what a file of it holds."""

    def __init__(self, config: TrainConfig, data: Dataset, device: torch.device, progress: Progress) -> None:
        torch.manual_seed(epoch_seed(config.seed, 0))
        self.config, self.data, self.device, self.progress = config, data, device, progress
        self.train, self.val, self.test = (part.to(device) for part in (data.train, data.val, data.test))
        self.images = InputConfig(shape=data.input_shape, mean=data.mean, std=data.std)
        model = Classifier(model_config(config, data), self.images)
        self.model = model.to(device).to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(
            self.model.parameters(),
            lr=config.lr,
            momentum=config.momentum,
            nesterov=config.nesterov,
            weight_decay=config.weight_decay,
        )
        self.state = TrainingState(config.model_dump(mode="json"), data.digest)

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return len(self.state.history)

    def restore(self, state: TrainingState) -> None:
        """Go on from `state`."""
        self.state = state
        self.model.load_state_dict(state.model)
        for name, parameter in self.model.named_parameters():
            if (momentum := state.momentum.get(name)) is not None:
                kept = torch.empty_like(parameter).copy_(momentum)
                self.optimizer.state[parameter]["momentum_buffer"] = kept

    def run_epoch(self) -> None:
        """Train on every image once, evaluate, and bring `state` up to date."""
        started, epoch = time.perf_counter(), self.epoch + 1
        torch.manual_seed(epoch_seed(self.config.seed, epoch))
        learned = self._learn(epoch)
        found = evaluate(self.model, self.val)
        self._check_finite(found["loss"], epoch)
        row = {"epoch": epoch, **learned, "val_loss": found.pop("loss"), "val_accuracy": found.pop("accuracy"), **found}
        self.state.history.append({**row, "seconds": time.perf_counter() - started})
        self.state.model = self.model.state_dict()
        self.state.momentum = {
            name: self.optimizer.state[parameter]["momentum_buffer"]
            for name, parameter in self.model.named_parameters()
            if self.optimizer.state[parameter].get("momentum_buffer") is not None
        }
        if best_epoch(self.state.history) == epoch:
            self.state.best = {name: tensor.clone() for name, tensor in self.state.model.items()}
        self.progress.say(_line(self.state.history[-1], self.config.epochs))

    def _learn(self, epoch: int) -> dict[str, float]:
        """Run the epoch's steps and return learning rate at its start, mean loss and accuracy on the way."""
        self.model.train()
        config, count = self.config, len(self.train)
        batches = torch.randperm(count).to(self.device).tensor_split(batch_count(count, config.batch))
        loss_sum, correct = 0.0, torch.zeros((), device=self.device)
        with self.progress.track(batches, len(batches), f"epoch {epoch}/{config.epochs}") as tracked:
            for step, ids in enumerate(tracked):
                for group in self.optimizer.param_groups:
                    group["lr"] = learning_rate(config, (epoch - 1 + step / len(batches)) / config.epochs)
                loss, logits = self._step(self.train[ids])
                self._check_finite(loss, epoch)
                loss_sum += loss * len(ids)
                correct += (logits.argmax(dim=1) == self.train.labels[ids]).sum()
        return {
            "learning_rate": learning_rate(config, (epoch - 1) / config.epochs),
            "train_loss": loss_sum / count,
            "train_accuracy": correct.item() / count,
        }

    def _step(self, batch: LabelledImages) -> tuple[float, Tensor]:
        """Change the weights once and return the loss and the logits (n, C) before that."""
        config = self.config
        with _precision(self.device):
            logits, routing = self.model.routed(augment(batch.images, config.shift, config.flip))
            loss = F.cross_entropy(logits, batch.labels, label_smoothing=config.label_smoothing)
            loss = loss + balance_loss(config.head, routing, config.balance)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item(), logits.detach()

    def _check_finite(self, loss: float, epoch: int) -> None:
        if not math.isfinite(loss):
            raise DivergedError(
                f"the loss became {loss} in epoch {epoch}; use a lower --lr than {self.config.lr:g}, and another --out"
            )

    @torch.inference_mode()
    def some_features(self) -> Tensor:
        """Return the features (n, D) of test images drawn at random, since a source may sort them by class."""
        generator = torch.Generator().manual_seed(self.config.seed)
        ids = torch.randperm(len(self.test), generator=generator)[:KEPT_FEATURES].to(self.device)
        return torch.cat([self.model.features(images) for images in torch.split(self.test.images[ids], BATCH)])


def batch_count(images: int, batch: int) -> int:
    """Return into how many batches, alike in size to within one, an epoch is cut: of at most `batch`, at least 2."""
    return max(1, min(math.ceil(images / batch), images // 2))  # batch normalisation cannot learn from one image


def epoch_seed(seed: int, epoch: int) -> int:
    """Return the seed of an epoch's whole randomness, of which epoch 0 is the initial weights."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0] >> 1)


def model_config(config: TrainConfig, data: Dataset) -> ModelConfig:
    """Return the model that `config` describes, with the widths that the data and the backbone give."""
    with torch.device("meta"):
        features = build_backbone(config.backbone, data.input_shape).features
    head = head_config(
        config.head, config.head_preset, features=features, classes=len(data.classes), **config.head_changes
    )
    return ModelConfig(backbone=config.backbone, head=head)


def balance_loss(head: HeadKind, routing: Routing | None, weights: BalanceWeights) -> Tensor | float:
    """Return the weighted losses that keep the head's experts in use; 0 for a dense head."""
    if routing is None:
        return 0.0
    if head == "soft":
        return weights.kl * kl_to_uniform(routing.weights)
    return weights.importance * importance_loss(routing) + weights.load * load_loss(routing)


def _precision(device: torch.device) -> AbstractContextManager[Any]:
    """Return bfloat16 products on a GPU; on CPUs float32 is several times faster."""
    return torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else nullcontext()


def _line(row: dict[str, Any], epochs: int) -> str:
    used = f", {row['utilisation']:.0%} of experts in use" if "utilisation" in row else ""
    return (
        f"epoch {row['epoch']}/{epochs}: train {row['train_accuracy']:.1%}, validation {row['val_accuracy']:.1%} "
        f"(loss {row['val_loss']:.3f}){used}, {row['seconds']:.1f} s"
    )
