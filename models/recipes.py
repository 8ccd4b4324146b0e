"""What decides a training run, validated, and the presets that name whole recipes."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import Field, TypeAdapter, model_validator

from models.config import (
    HEAD_KINDS,
    BackboneConfig,
    Config,
    ConfigError,
    HeadKind,
    Share,
    Width,
    check_choice,
    head_config,
    validated,
)

Weight = Annotated[float, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Schedule = Literal["constant", "step", "triangle"]


class BalanceWeights(Config):
    """Weights of the losses that keep experts in use: `kl` of the soft head, the other two of the sparse head."""

    kl: Weight = 0.2
    importance: Weight = 0.2
    load: Weight = 0.2


class TrainConfig(Config):
    """Everything that decides a trained model, given the data.

    `head_changes` are single fields of the head's configuration changed from `head_preset`; widths of features and
    classes come from the data. `shift` is in pixels. `seed` decides weights, order, noise and augmentation,
    `split_seed` alone which images validate, so that runs of other seeds stay comparable.
    """

    preset: str
    data: str
    head: HeadKind
    head_preset: str = "paper"
    head_changes: dict[str, Any] = Field(default_factory=dict)
    backbone: BackboneConfig
    epochs: Width
    batch: Annotated[int, Field(ge=2)]
    lr: Annotated[float, Field(gt=0)]
    momentum: Share = 0.9
    nesterov: bool = False
    weight_decay: Weight = 5e-4
    schedule: Schedule
    label_smoothing: Share = 0.0
    shift: Annotated[int, Field(ge=0)] = 0
    flip: bool = False
    balance: BalanceWeights = BalanceWeights()
    seed: Seed = 42
    split_seed: Seed = 42
    val_share: Annotated[float, Field(gt=0, lt=1)] = 0.1

    @model_validator(mode="after")
    def _check_head(self) -> Self:
        try:
            head_config(self.head, self.head_preset, **self.head_changes)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs momentum above 0")
        return self


_PAPER = {"backbone": {"name": "resnet18"}, "epochs": 50, "batch": 128, "lr": 0.1, "schedule": "step"}
PRESETS: dict[str, dict[str, Any]] = {
    "paper": _PAPER,
    "paper-fixed": {**_PAPER, "shift": 4, "flip": True},
    "quick": {
        "backbone": {"name": "small"},
        "epochs": 8,
        "batch": 500,
        "lr": 0.2,
        "nesterov": True,
        "schedule": "triangle",
        "label_smoothing": 0.1,
        "shift": 2,
        "flip": True,
    },
    "demo": {
        "backbone": {"name": "identity"},
        "epochs": 16,
        "batch": 48,
        "lr": 0.2,
        "nesterov": True,
        "schedule": "triangle",
    },
}
"""Whole recipes. `paper` is arXiv 2601.15021 as its code ran, without augmentation; `paper-fixed` has the
augmentation that the paper describes; `quick` trains a small network on a CPU; `demo` trains the head alone."""


def train_config(data: str, head: str, preset: str | None = None, **changes: Any) -> TrainConfig:
    """Return the recipe `preset`, by default `demo` for digits and `quick` for anything else, with fields changed.

    Digits are never mirrored unless `flip` is asked for. Raises `ConfigError` for an unknown preset or a bad value.
    """
    digits = data == "digits"
    preset = preset or ("demo" if digits else "quick")
    check_choice("preset", preset, PRESETS)
    check_choice("head", head, HEAD_KINDS)
    settings = {**PRESETS[preset], **({"flip": False} if digits else {}), **changes}
    return validated(TypeAdapter(TrainConfig), {"preset": preset, "data": data, "head": head, **settings}, "training")


def learning_rate(config: TrainConfig, done: float) -> float:
    """Return the learning rate when the share `done`, 0 to 1, of the training lies behind.

    `step` divides it by 10 at 60 % and again at 80 %: at epochs 30 and 40 of 50. `triangle` rises from a fifth of
    it during the first 20 % and falls towards zero.
    """
    match config.schedule:
        case "constant":
            return config.lr
        case "step":
            drops = sum(done >= share - 1e-9 for share in (0.6, 0.8))  # 30 / 50 and 0.6 may differ in the last bit
            return config.lr * math.pow(0.1, drops)
        case "triangle":
            return config.lr * min(0.2 + 4 * done, (1 - done) / 0.8)
