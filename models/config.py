"""The configuration of a whole model: its images, its backbone and its head, and the presets of heads.

The base of these classes and the checks are in `models.settings`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, TypeAdapter, model_validator

from models.heads.heads import AnyHead, HeadConfig, config_type, settings_of
from models.routing.policy import SparseConfig
from models.settings import Config, ConfigError, Width, check_choice, validated

BackboneName = Literal["identity", "resnet18", "small", "fast"]


class BackboneConfig(Config):
    """The network from images to features; `models.classifier.backbones` says what each is.

    `small` has `width` features, and `fast` as many as the last of `widths`; for the other two the images or the paper
    decide. If `mirrored`, which only `fast` can be, evaluation averages the features of an image and of its mirror
    image.
    """

    name: BackboneName = "identity"
    width: Annotated[int, Field(ge=8)] = 128
    widths: tuple[Width, Width, Width] = (32, 96, 128)
    mirrored: bool = False

    @model_validator(mode="after")
    def _check_mirrored(self) -> Self:
        if self.mirrored and self.name != "fast":
            raise ValueError(f"backbone {self.name} has no setting mirrored; fast has")
        return self


class InputConfig(Config):
    """The images that a model takes: shape (C, H, W), and mean and standard deviation (C,) of values in [0, 1]."""

    shape: tuple[Width, Width, Width]
    mean: tuple[float, ...]
    std: tuple[Annotated[float, Field(gt=0)], ...]

    @model_validator(mode="after")
    def _check_channels(self) -> Self:
        if not len(self.mean) == len(self.std) == self.shape[0]:
            raise ValueError(f"mean and std need one value for each of the {self.shape[0]} channels")
        return self


class ModelConfig(Config):
    """Everything needed to rebuild a model: `config.json` of a checkpoint holds it under `model`."""

    backbone: BackboneConfig = BackboneConfig()
    head: AnyHead


PAPER_FEATURES, PAPER_CLASSES = 512, 10
_PAPER_MOE = {"hidden": 64, "experts": 8, "activation": "relu", "dropout": 0.1, "temperature": 1.0}
HEAD_PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "paper": {
        "dense": {"hidden": 512, "activation": "relu", "dropout": 0.1},
        "soft": {**_PAPER_MOE, "gate_dropout": 0.1},
        "sparse": {**_PAPER_MOE, "gate_dropout": 0.1, "k": 2, "noise_floor": 0.3},
    }
}
"""Settings of arXiv 2601.15021, section on heads: E = 8 experts of 512 -> 64 -> 10, top-2 with noise floor 0.3."""


def head_config(
    kind: str, preset: str = "paper", *, features: int = PAPER_FEATURES, classes: int = PAPER_CLASSES, **changes: Any
) -> HeadConfig:
    """Return the configuration of the head `kind` of a preset, with D = `features`, C = `classes` and `changes`.

    Raises `ConfigError` for an unknown kind, preset or field, or a value out of range.
    """
    config = config_type(kind, changes.get("policy") if kind == "sparse" else None)
    check_choice("head preset", preset, HEAD_PRESETS)
    known = settings_of(kind)
    if unknown := sorted(changes.keys() - known):
        raise ConfigError(f"the {kind} head has no setting {unknown[0]!r}; it has {', '.join(sorted(known))}")
    settings = {**HEAD_PRESETS[preset][kind], "features": features, "classes": classes, **changes}
    if issubclass(config, SparseConfig) and config.k_is == "limit" and "k" not in changes:
        del settings["k"]  # a preset's k is a number of experts per row, not a limit
    return validated(TypeAdapter(config), settings, f"{kind} head")
