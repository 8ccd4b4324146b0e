"""The base and checks of every configuration, and the settings that all heads share.

`models.config` puts the configuration of a whole model together from these.

Letters: D input width, H hidden width of one expert, E experts, C output width.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from models.errors import ModelError

Activation = Literal["relu", "gelu", "silu", "swiglu"]
Width = Annotated[int, Field(ge=1, le=2**31 - 1)]
Share = Annotated[float, Field(ge=0, lt=1)]
T = TypeVar("T")


class ConfigError(ModelError):
    """A configuration that cannot be built."""


class Config(BaseModel):
    """The base of every configuration: frozen, without unknown fields, without infinities or NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ExpertsConfig(Config):
    """Two-layer perceptrons D -> H -> C; every head is made of these.

    Whatever differs between heads is a property here, so that no caller asks for the type of a configuration.
    """

    features: Width
    hidden: Width
    classes: Width
    activation: Activation = "relu"
    dropout: Share = 0.0

    gated: ClassVar[bool] = True
    """Whether a gate (D -> E) weighs the experts."""
    noisy: ClassVar[bool] = False
    """Whether a second layer (D -> E) decides how much noise the routing has in training."""
    batch_coupled: ClassVar[bool] = False
    """Whether a row's experts depend on the other rows of its batch."""

    @property
    def most_experts(self) -> int:
        """How many experts a row has at most."""
        return 1

    def most_assignments(self, rows: int) -> int:
        """Return the most assignments that N = `rows` can have; under most heads they have exactly that many."""
        return rows * self.most_experts


class MixtureConfig(ExpertsConfig):
    """E experts D -> H -> C behind a gate."""

    experts: Width
    gate_dropout: Share = 0.0
    temperature: Annotated[float, Field(gt=0)] = 1.0

    even_load: ClassVar[bool] = False
    """Whether every expert serves the same number of rows, whatever the scores."""

    def refusal(self, term: str) -> str | None:
        """Return why the head cannot have the balance loss `term`, or None if it can."""
        match term:
            case "switch" if self.even_load:
                return "every expert of this head has as many rows as any other"
            case "load":
                return "the smooth load needs noise and a fixed number of wanted experts per row"
            case "correction":
                return "the head has no correction to move, which a sparse head has with bias_correction"
        return None


def halves(activation: Activation) -> int:
    """Return how many blocks of H columns make the hidden values: 2 for swiglu (gate, then value), else 1."""
    return 2 if activation == "swiglu" else 1


def check_choice(what: str, value: str, choices: Iterable[str]) -> None:
    """Raise `ConfigError` naming the choices if `value` is not among them."""
    if value not in (known := tuple(choices)):
        raise ConfigError(f"unknown {what} {value!r}; choose one of {', '.join(known)}")


def validated(adapter: TypeAdapter[T], data: Any, what: str) -> T:
    """Return `data` validated, or raise `ConfigError` with the first problem as one sentence about `what`."""
    try:
        return adapter.validate_python(data)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        message = first["msg"].removeprefix("Value error, ")
        value = f", not {first['input']!r}" if isinstance(first["input"], str | int | float) else ""
        raise ConfigError(f"{what}: {field + ': ' if field else ''}{message}{value}") from None
