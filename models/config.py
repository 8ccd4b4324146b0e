"""What decides a model's logits, validated: heads, backbones and their presets.

Letters: N rows, D input width, H hidden width of one expert, E experts, k experts per row, C output width.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from functools import cached_property
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from models.errors import ModelError

Activation = Literal["relu", "gelu", "silu", "swiglu"]
HeadKind = Literal["dense", "soft", "sparse"]
HEAD_KINDS: tuple[HeadKind, ...] = ("dense", "soft", "sparse")
Policy = Literal["top_k", "capacity", "top_p", "threshold", "expert_choice"]
POLICIES: tuple[Policy, ...] = ("top_k", "capacity", "top_p", "threshold", "expert_choice")
POLICY_SETTINGS: dict[Policy, dict[str, Any]] = {
    "top_k": {},
    "capacity": {"capacity_factor": 1.25, "overflow": "drop"},
    "top_p": {"mass": 0.5},
    "threshold": {"threshold": 0.15},
    "expert_choice": {"capacity_factor": 1.0},
}
"""The settings that each routing policy has of its own, with their defaults."""
LIMITED: tuple[Policy, ...] = ("top_p", "threshold")
"""The policies whose `k` is only a limit."""
BackboneName = Literal["identity", "resnet18", "small", "fast"]

Width = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
T = TypeVar("T")


def halves(activation: Activation) -> int:
    """Return how many column blocks of H make one hidden value: 2 for swiglu, gate before value, else 1."""
    return 2 if activation == "swiglu" else 1


class ConfigError(ModelError):
    """A configuration that cannot be built."""


class Config(BaseModel):
    """The base of every configuration: frozen, without unknown fields, without infinities or NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DenseConfig(Config):
    """A two-layer perceptron D -> H -> C."""

    kind: Literal["dense"] = "dense"
    features: Width
    hidden: Width
    classes: Width
    activation: Activation = "relu"
    dropout: Share = 0.0


class _MoEConfig(Config):
    features: Width
    hidden: Width
    classes: Width
    experts: Width
    activation: Activation = "relu"
    dropout: Share = 0.0
    gate_dropout: Share = 0.0
    temperature: Annotated[float, Field(gt=0)] = 1.0


class SoftConfig(_MoEConfig):
    """E experts D -> H -> C, every one weighted by a softmax gate."""

    kind: Literal["soft"] = "soft"


class SparseConfig(_MoEConfig):
    """E experts D -> H -> C, of which a routing policy runs few per row; `models.routing` has a file for each policy.

    `k` is how many experts a row has (`top_k`), wants (`capacity`), has at most (`top_p` and `threshold`, by default
    E) or has on average (`expert_choice`). `mass`, `threshold`, `capacity_factor` and `overflow` belong to the
    policies of `POLICY_SETTINGS` and are None elsewhere. With `bias_correction` a number per expert, moved by the
    load and by no loss, is added to the scores when experts are chosen and not when they are weighed.

    `weights_over` says over which scores the softmax that weighs the experts of a row runs. With `selected` the
    executed weights sum to one; where a row has a single expert that weight is the constant 1 and the gate would
    learn nothing from the task, so k = 1 and the policies that can leave one expert take `all`, the chosen expert's
    share among all E (Fedus et al. 2021). For the same reason two experts' scores are not standardised by default:
    they would always be +-1 / sqrt(2).
    """

    kind: Literal["sparse"] = "sparse"
    k: Width
    policy: Policy = "top_k"
    mass: Annotated[float, Field(gt=0, le=1)] | None = None
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    capacity_factor: Annotated[float, Field(gt=0)] | None = None
    overflow: Literal["drop", "next"] | None = None
    bias_correction: bool = False
    standardise: bool = True
    noise_floor: Annotated[float, Field(ge=0)] = 0.3
    weights_over: Literal["selected", "all"]

    @property
    def batch_coupled(self) -> bool:
        """Whether a row's experts depend on the other rows of its batch."""
        return self.policy in ("capacity", "expert_choice")

    @cached_property
    def exact_factor(self) -> tuple[int, int]:
        """The numerator and denominator of `capacity_factor` as the decimal number it is written as: 1.1 is 11 / 10."""
        return Decimal(repr(self.capacity_factor)).as_integer_ratio()

    def capacity(self, rows: int) -> int:
        """Return ceil(capacity_factor N k / E) for N = `rows`, exactly: in integers, which a symbolic N passes too."""
        numerator, denominator = self.exact_factor
        return (numerator * self.k * rows + denominator * self.experts - 1) // (denominator * self.experts)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with single fields changed, validated as any other head."""
        return self.model_validate({**self.model_dump(), **(update or {})})

    @model_validator(mode="before")
    @classmethod
    def _fill_defaults(cls, data: Any) -> Any:
        if not isinstance(data, dict) or data.get("policy", "top_k") not in POLICIES:
            return data
        policy: Policy = data.get("policy", "top_k")
        given = {name: value for name, value in data.items() if value is not None}
        filled = {**POLICY_SETTINGS[policy], **({"k": data.get("experts")} if policy in LIMITED else {}), **given}
        alone = filled.get("k") == 1 or policy not in ("top_k", "capacity")
        standardise = filled.get("experts") != 2
        return {"weights_over": "all" if alone else "selected", "standardise": standardise, **filled}

    @model_validator(mode="after")
    def _check_routing(self) -> Self:
        if self.k > self.experts:
            raise ValueError(f"k = {self.k} is more than experts = {self.experts}; choose k from 1 to {self.experts}")
        if self.k == 1 < self.experts and self.weights_over == "selected":
            raise ValueError("k = 1 with weights_over = selected gives the gate no gradient; use weights_over = all")
        used = POLICY_SETTINGS[self.policy]
        for name in sorted({name for settings in POLICY_SETTINGS.values() for name in settings} - used.keys()):
            if getattr(self, name) is not None:
                raise ValueError(
                    f"policy {self.policy} has no setting {name}; it has {', '.join(used) or 'none of its own'}"
                )
        if self.bias_correction and self.policy == "expert_choice":
            raise ValueError("expert_choice gives every expert as many rows; leave bias_correction out")
        if self.capacity_factor is not None:
            _ = self.exact_factor  # from here on a stored value, since no compiler traces decimals
        return self


_HEADS: dict[str, type[Config]] = {"dense": DenseConfig, "soft": SoftConfig, "sparse": SparseConfig}
HeadConfig = DenseConfig | SoftConfig | SparseConfig
_AnyHead = Annotated[HeadConfig, Field(discriminator="kind")]


class BackboneConfig(Config):
    """The network from images to features; `models.classifier.backbones` says what each is.

    `width` is the number of features of `small`, the last of `widths` that of `fast`; the others have theirs from
    the images or the paper. With `mirrored`, for `fast` alone, features in evaluation are the mean of those of an image
    and of its mirror image.
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
    """The images a model takes: their shape (C, H, W), and mean and standard deviation (C,) of values in [0, 1]."""

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
    head: _AnyHead


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
    """Return the head `kind` of a preset for D = `features` and C = `classes`, with single fields changed.

    Raises `ConfigError` for an unknown kind, preset or field, or a value out of range.
    """
    check_choice("head", kind, HEAD_KINDS)
    check_choice("head preset", preset, HEAD_PRESETS)
    known = _HEADS[kind].model_fields.keys() - {"kind"}
    if unknown := sorted(changes.keys() - known):
        raise ConfigError(f"the {kind} head has no setting {unknown[0]!r}; it has {', '.join(sorted(known))}")
    settings = {**HEAD_PRESETS[preset][kind], "features": features, "classes": classes, **changes}
    if settings.get("policy") in LIMITED and "k" not in changes:
        settings.pop("k")  # a preset's k is a number of experts per row, not a limit
    return validated(TypeAdapter(_AnyHead), {"kind": kind, **settings}, f"{kind} head")


def check_choice(what: str, value: str, choices: Iterable[str]) -> None:
    """Raise `ConfigError` naming the choices where `value` is not among them."""
    if value not in (known := tuple(choices)):
        raise ConfigError(f"unknown {what} {value!r}; choose one of {', '.join(known)}")


def equal_capacity(moe: SoftConfig | SparseConfig) -> DenseConfig:
    """Return the dense head whose hidden width is E x H: the same expert parameters in one block."""
    return DenseConfig(
        features=moe.features,
        hidden=moe.experts * moe.hidden,
        classes=moe.classes,
        activation=moe.activation,
        dropout=moe.dropout,
    )


def validated(adapter: TypeAdapter[T], data: Any, what: str) -> T:
    """Return `data` validated, or raise `ConfigError` with the first problem as one sentence about `what`."""
    try:
        return adapter.validate_python(data)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"] if part not in HEAD_KINDS)
        message = first["msg"].removeprefix("Value error, ")
        given = f", not {first['input']!r}" if isinstance(first["input"], str | int | float) else ""
        raise ConfigError(f"{what}: {field + ': ' if field else ''}{message}{given}") from None
