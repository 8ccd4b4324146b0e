"""The settings of a training run, and the presets that name whole recipes."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import Field, TypeAdapter, model_validator

from models.config import BackboneConfig, head_config
from models.data.domains import JOIN
from models.heads.heads import HEAD_KINDS, HeadKind
from models.settings import Config, ConfigError, Share, Width, check_choice, validated
from models.training.balance import BalanceWeights, Weight
from models.training.balance import check as check_balance

Seed = Annotated[int, Field(ge=0, lt=2**63)]
Rate = Annotated[float, Field(gt=0)]
Scale = Annotated[float, Field(gt=0, le=1)]
Schedule = Literal["constant", "step", "triangle"]


class TrainConfig(Config):
    """Everything that decides a trained model, apart from the data.

    - `head_changes` are the fields of the head that differ from `head_preset`; the data decide the widths of features
      and classes
    - `bfloat16_on_cpu` multiplies in bfloat16 on CPUs with instructions for it; GPUs always do, other CPUs never
    - `lr`, `momentum` and `nesterov` are for SGD or Muon; Muon trains convolutions, and AdamW with `adam_lr` all other
      weights; `weight_decay` is for SGD or AdamW
    - `warm_up` is the share of the training in which the rate of a triangle schedule rises
    - `resolutions` are phases (scale, parts) on smaller images; `parts` are their relative lengths
    - `shift` and `cutout` are in pixels: how far an image moves at most, and the side of the square cut out of it
    - `seed` decides weights, order, noise and augmentation; `split_seed` decides the validation images, so that runs
      with different seeds stay comparable
    """

    preset: str
    data: str
    head: HeadKind
    head_preset: str = "paper"
    head_changes: dict[str, Any] = Field(default_factory=dict)
    backbone: BackboneConfig
    epochs: Width
    batch: Annotated[int, Field(ge=2)]
    bfloat16_on_cpu: bool = False
    optimizer: Literal["sgd", "muon"] = "sgd"
    lr: Rate
    momentum: Share = 0.9
    nesterov: bool = False
    adam_lr: Rate | None = None
    weight_decay: Weight = 5e-4
    schedule: Schedule
    warm_up: Share = 0.2
    label_smoothing: Share = 0.0
    resolutions: tuple[tuple[Scale, Width], ...] = ()
    shift: Annotated[int, Field(ge=0)] = 0
    flip: bool = False
    cutout: Annotated[int, Field(ge=0)] = 0
    balance: BalanceWeights = BalanceWeights()
    seed: Seed = 42
    split_seed: Seed = 42
    val_share: Annotated[float, Field(gt=0, lt=1)] = 0.1

    @model_validator(mode="after")
    def _check_fit(self) -> Self:
        try:
            check_balance(self.balance, head_config(self.head, self.head_preset, **self.head_changes))
        except ConfigError as error:
            raise ValueError(str(error)) from None
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs momentum above 0")
        if (self.optimizer == "muon") != (self.adam_lr is not None):
            raise ValueError("optimizer muon needs an adam_lr, and no other optimizer takes one")
        if self.optimizer == "muon" and self.backbone.name == "identity":
            raise ValueError("optimizer muon needs a backbone with convolutions, which identity has not")
        if self.resolutions and self.resolutions[-1][0] != 1:
            raise ValueError(f"the last of the resolutions must have scale 1, not {self.resolutions[-1][0]:g}")
        return self


_PAPER = {"backbone": {"name": "resnet18"}, "epochs": 50, "batch": 128, "lr": 0.1, "schedule": "step"}
PRESETS: dict[str, dict[str, Any]] = {
    "paper": _PAPER,
    "paper-fixed": {**_PAPER, "shift": 4, "flip": True},
    "fast": {
        "backbone": {"name": "fast", "widths": (32, 96, 128), "mirrored": True},
        "epochs": 26,
        "batch": 250,
        "bfloat16_on_cpu": True,
        "optimizer": "muon",
        "lr": 0.08,
        "momentum": 0.6,
        "nesterov": True,
        "adam_lr": 0.005,
        "weight_decay": 1e-4,
        "schedule": "triangle",
        "warm_up": 0.1,
        "label_smoothing": 0.1,
        "resolutions": ((0.75, 3), (1, 10)),
        "shift": 3,
        "flip": True,
        "cutout": 6,
    },
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
"""Whole recipes: `paper` is arXiv 2601.15021 with its defect 1, no augmentation; `paper-fixed` has the augmentation
that the paper describes; `fast` trains a small network well, in minutes on a CPU; `quick` trains a small network
simply; `demo` trains the head alone."""


def train_config(data: str, head: str, preset: str | None = None, **changes: Any) -> TrainConfig:
    """Return the recipe `preset`, by default `demo` for digits and `quick` for anything else, with fields changed.

    Digits, alone or in a mixture, are never mirrored, neither in training nor in evaluation, unless `changes` has
    `flip`. `balance` changes single terms of the head's default. Raises `ConfigError` for an unknown preset or a bad
    value.
    """
    digits = "digits" in data.split(JOIN)
    preset = preset or ("demo" if data == "digits" else "quick")
    check_choice("preset", preset, PRESETS)
    check_choice("head", head, HEAD_KINDS)
    settings = {**PRESETS[preset], **changes}
    if changes.get("backbone") == {"name": PRESETS[preset]["backbone"]["name"]}:
        settings["backbone"] = PRESETS[preset]["backbone"]
    if digits and "flip" not in changes:
        settings["flip"] = False
        settings["backbone"] = {**settings["backbone"], "mirrored": False}
    built = head_config(head, settings.get("head_preset", "paper"), **settings.get("head_changes", {}))
    settings["balance"] = {**built.default_balance, **changes.get("balance", {})}
    return validated(TypeAdapter(TrainConfig), {"preset": preset, "data": data, "head": head, **settings}, "training")


def learning_rate(config: TrainConfig, done: float) -> float:
    """Return the learning rate after the share `done`, 0 to 1, of the training."""
    return config.lr * rate_factor(config, done)


def rate_factor(config: TrainConfig, done: float) -> float:
    """Return the factor on the highest learning rates after the share `done`, 0 to 1, of the training.

    `step` divides it by 10 at 60 % and again at 80 %: at epochs 30 and 40 of 50. `triangle` rises from a fifth
    during the share `warm_up`, then falls towards zero.
    """
    match config.schedule:
        case "constant":
            return 1.0
        case "step":
            drops = sum(done >= share - 1e-9 for share in (0.6, 0.8))  # 30 / 50 and 0.6 may differ in the last bit
            return math.pow(0.1, drops)
        case "triangle":
            rising = 0.2 + 0.8 * done / config.warm_up if config.warm_up else 1.0
            return min(rising, (1 - done) / (1 - config.warm_up))
