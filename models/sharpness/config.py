"""The settings of a sharpness measurement."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, TypeAdapter, field_validator, model_validator

from models.settings import Config, validated

Subset = Literal["train", "test"]
SUBSETS: tuple[Subset, ...] = ("train", "test")
Dtype = Literal["float32", "float64"]
Count = Annotated[int, Field(ge=1)]

QUICK: dict[str, Any] = {"images": 200, "least_steps": 12, "probes": 16, "relative_error": 0.1, "surface": 5}
"""The settings of `--quick`."""


class SharpnessConfig(Config):
    """Everything that decides the numbers, apart from checkpoint and data.

    - `blocks` to measure, by default all
    - `tolerance`: largest residual of an eigenvalue as a share of the largest one, by default 3e-3 in float32 and 1e-9
      in float64
    - `least_steps`, `most_steps`: products that one run of Lanczos' method takes
    - `probes`: most products for the trace, which stops earlier if its standard error is `relative_error` of it
    - `density_probes`: random vectors, by default enough to draw 20,000 numbers, but at most 8
    - `directions`: number of random ones
    - `surface`: points along a side, 0 for no surface
    - `worst_case`: whether to measure SAM-style and adaptive sharpness
    """

    subsets: tuple[Subset, ...] = SUBSETS
    blocks: tuple[str, ...] | None = None
    images: Count = 1000
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    dtype: Dtype = "float32"
    eigenvalues: Annotated[int, Field(ge=1, le=50)] = 5
    tolerance: Annotated[float, Field(gt=0, lt=1)] | None = None
    least_steps: Annotated[int, Field(ge=2)] = 16
    most_steps: Annotated[int, Field(ge=10, le=1000)] = 120
    probes: Annotated[int, Field(ge=2)] = 100
    relative_error: Annotated[float, Field(gt=0)] = 0.05
    density: bool = True
    density_probes: Count | None = None
    lines: bool = True
    directions: Annotated[int, Field(ge=2)] = 2
    surface: Annotated[int, Field(ge=0, le=101)] = 11
    worst_case: bool = True

    @field_validator("subsets", "blocks")
    @classmethod
    def _check_once(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if names is not None and (not names or len(set(names)) < len(names)):
            raise ValueError("name each at least and at most once")
        return names

    @model_validator(mode="after")
    def _check_steps(self) -> Self:
        if self.most_steps < max(self.eigenvalues, self.least_steps):
            raise ValueError(
                f"most_steps = {self.most_steps} are too few for {self.eigenvalues} eigenvalues in "
                f"at least {self.least_steps} steps"
            )
        return self

    @property
    def largest_residual(self) -> float:
        """`tolerance`, or the default for the dtype."""
        return self.tolerance or (1e-9 if self.dtype == "float64" else 3e-3)


def sharpness_config(**settings: Any) -> SharpnessConfig:
    """Return the configuration with `settings`, else defaults. Raises `ConfigError` for a bad value."""
    return validated(TypeAdapter(SharpnessConfig), settings, "sharpness")
