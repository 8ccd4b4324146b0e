"""What is measured: a model's head, and its input rows.

Letters: N rows, D input width, H hidden width of one expert, E experts, k experts per row, C output width.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from bench.errors import BenchError
from bench.forms import Runner
from bench.subjects.skew import Skew, skewed_rows
from models.classifier.checkpoint import load
from models.classifier.classifier import Classifier
from models.config import PAPER_CLASSES, PAPER_FEATURES, BackboneConfig, InputConfig, ModelConfig, head_config
from models.heads.cost import parameters
from models.heads.heads import HEAD_KINDS, Head
from models.heads.sparse import SparseMoEHead


@dataclass(frozen=True, eq=False)
class Subject:
    """A model whose head is measured, and where it comes from.

    `features` are real rows (n, D) to route on; without any, rows are drawn from a normal distribution. `source` says
    where the sizes of a public model's layer stand, `shrunk` by what they were divided. `runners` keeps what forms
    prepared, with the seconds that it took, as long as the subject lives.
    """

    name: str
    model: Classifier
    images: InputConfig
    weights: Literal["trained", "initialised"]
    data: str = ""
    test_accuracy: float | None = None
    features: Tensor | None = None
    weights_sha256: str = ""
    source: str = ""
    shrunk: str = ""
    runners: dict[Any, tuple[Runner, float]] = field(default_factory=dict, repr=False)
    _placed: dict[tuple[torch.device, torch.dtype], Classifier] = field(default_factory=dict, repr=False)
    _learning: dict[tuple[torch.device, torch.dtype], Head] = field(default_factory=dict, repr=False)

    @property
    def head(self) -> Head:
        """The head in evaluation mode, as it was loaded or made; `on` moves it to the device where it runs."""
        return self.model.head

    @cached_property
    def backbone_flops(self) -> int:
        """Operations of the backbone for one image, by torch's own counter; a multiply-add counts as two."""
        image = torch.empty(1, *self.images.shape)
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            self.model.features(image)
        return int(counter.get_total_flops())

    def on(self, device: torch.device, dtype: torch.dtype) -> Classifier:
        """Return the model for running: on `device`, in `dtype`, in evaluation mode, without gradients."""
        if (device, dtype) not in self._placed:
            model = copy.deepcopy(self.model).to(device, dtype) if self._elsewhere(device, dtype) else self.model
            self._placed[device, dtype] = model.eval().requires_grad_(False)
        return self._placed[device, dtype]

    def learning(self, device: torch.device, dtype: torch.dtype) -> Head:
        """Return a copy of the head whose parameters have gradients, in evaluation mode: without dropout and noise.

        Parameters that are no part of it have none: those of the noise, and biases that are all zeros, which a public
        model does not have.
        """
        if (device, dtype) not in self._learning:
            with torch.inference_mode(mode=False):
                head = copy.deepcopy(self.on(device, dtype).head)
            for name, value in head.named_parameters():
                value.requires_grad_(not name.startswith("noise.") and bool(value.any()))
            self._learning[device, dtype] = head
        return self._learning[device, dtype]

    def _elsewhere(self, device: torch.device, dtype: torch.dtype) -> bool:
        here = torch.empty(0, device=device).device  # with its index, as parameters have it
        return any((value.device, value.dtype) != (here, dtype) for value in self.model.parameters())


def load_subjects(checkpoints: Iterable[Path]) -> list[Subject]:
    """Return the trained models of `checkpoints`, named after their folders.

    Raises `ModelError` for a folder that is no checkpoint and `BenchError` if two have the same name.
    """
    subjects = []
    for path in checkpoints:
        checkpoint = load(path)
        subject = Subject(
            name=path.resolve().name,
            model=checkpoint.model.requires_grad_(False),
            images=checkpoint.config.input,
            weights="trained",
            data=checkpoint.config.data,
            test_accuracy=checkpoint.metrics.get("test_accuracy"),
            features=checkpoint.features,
            weights_sha256=checkpoint.config.sha256["model.safetensors"],
        )
        subjects.append(subject)
    names = [subject.name for subject in subjects]
    if doubled := {name for name in names if names.count(name) > 1}:
        raise BenchError(f"two checkpoints are named {min(doubled)!r}; results are distinguished by folder name")
    return subjects


def preset_subjects(seed: int = 0) -> list[Subject]:
    """Return the paper's three classifiers with seeded, untrained weights: right for time, not for routing."""
    subjects = []
    images = InputConfig(shape=(3, 32, 32), mean=(0.5,) * 3, std=(0.25,) * 3)
    for kind in HEAD_KINDS:
        torch.manual_seed(seed)
        config = ModelConfig(
            backbone=BackboneConfig(name="resnet18"),
            head=head_config(kind, "paper", features=PAPER_FEATURES, classes=PAPER_CLASSES),
        )
        model = Classifier(config, images).eval().requires_grad_(False)
        subjects.append(Subject(f"paper-{kind}", model, images, "initialised"))
    return subjects


def feature_rows(features: Tensor | None, width: int, rows: int, seed: int = 0) -> Tensor:
    """Return rows (N, D) float32 on the CPU: real ones, resampled by `seed` if N is more, or else normal ones."""
    generator = torch.Generator().manual_seed(seed)
    if features is None or len(features) == 0:
        return torch.randn(rows, width, generator=generator)
    if rows <= len(features):
        return features[torch.randperm(len(features), generator=generator)[:rows]]
    return features[torch.randint(len(features), (rows,), generator=generator)]


def input_rows(subject: Subject, rows: int, skew: Skew | None, seed: int) -> Tensor:
    """Return the features (N, D), float32 on the CPU, on which `subject` is measured at N = `rows`.

    Raises `BenchError` if no rows can be made that route as `skew` asks.
    """
    if skew and isinstance(subject.head, SparseMoEHead):
        return skewed_rows(subject.head, skew, rows, seed)
    return feature_rows(subject.features, subject.head.config.features, rows, seed)


def working_set(head: Head, rows: int, dtype: torch.dtype, *, training: bool = False) -> int:
    """Return about how many bytes a call on N rows may take.

    These are inputs, hidden values of all E experts before and after the activation, and outputs, with float32 copies.
    In `training` each of them has a gradient, and so have the weights, which the float64 reference copies too.
    """
    config = head.config
    values = rows * (3 * config.features + 3 * config.experts * config.hidden + 2 * config.experts * config.classes)
    needed = values * (dtype.itemsize + 4)
    if training:
        needed += needed + parameters(config) * (2 * dtype.itemsize + 2 * torch.float64.itemsize)
    return needed
