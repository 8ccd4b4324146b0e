"""`CHECKPOINT.json` of `moegap sharpness`: the curvature of one checkpoint's loss, and the loss around its weights.

Losses are mean cross-entropies in nats.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from reports.records.document import Document
from reports.records.fields import (
    Count,
    Counts,
    Name,
    NotNegative,
    NullsLeftOut,
    Number,
    Numbers,
    Prose,
    Schema,
    Share,
    check_lengths,
)
from reports.records.record import Seconds


class Eigenvalue(Schema):
    """An eigenvalue of the Hessian and the norm of its residual."""

    value: Number
    residual: NotNegative


class Trace(Schema):
    """The Hessian's trace, estimated from random probes.

    `standard_error` is that of the mean; with few probes it is widened by the ratio of Student's t to the normal
    quantile at 95 %. `stopped_by` says whether the error was small enough or the probes ran out.
    """

    value: Number
    standard_error: NotNegative
    probes: Count
    stopped_by: Literal["error", "cap"]


class BlockCurvature(Schema):
    """The Hessian's block of one group of parameters."""

    block: Name
    parameters: Count | None = None
    eigenvalues: Annotated[tuple[Eigenvalue, ...], Field(max_length=1_000)] = ()
    trace: Trace | None = None
    gradient_norm: NotNegative | None = None
    seconds: Seconds | None = None

    @property
    def largest(self) -> float | None:
        """The largest eigenvalue."""
        return max((eigenvalue.value for eigenvalue in self.eigenvalues), default=None)


class Density(Schema):
    """The spectral density of the whole Hessian on a grid of eigenvalues.

    It comes from `probes` random vectors with `steps` Lanczos steps each.
    """

    grid: Numbers
    density: Numbers
    probes: Count | None = None
    steps: Count | None = None

    @model_validator(mode="after")
    def _check_pairs(self) -> Self:
        check_lengths("grid and density", (len(self.grid), len(self.density)))
        return self


class LossLine(Schema):
    """The loss along one unit direction; `rerouted` rows take another route than at alpha = 0.

    `second_difference` is computed from the losses or slopes, without the Hessian; `curvature` is v^T H v.
    """

    direction: Name
    range: Name
    alphas: Annotated[Numbers, Field(min_length=1)]
    losses: Numbers
    rerouted: Counts | None = None
    second_difference: Number | None = None
    second_difference_from: Literal["losses", "slopes"] | None = None
    curvature: Number | None = None
    relative_error: Number | None = None

    @model_validator(mode="after")
    def _check_pairs(self) -> Self:
        rerouted = self.alphas if self.rerouted is None else self.rerouted
        check_lengths("alphas, losses and rerouted", (len(self.alphas), len(self.losses), len(rerouted)))
        return self


class Surface(Schema):
    """The loss over a plane: `losses` (alphas, betas)."""

    alphas: Annotated[Numbers, Field(min_length=1, max_length=101)]
    betas: Annotated[Numbers, Field(min_length=1, max_length=101)]
    losses: Annotated[tuple[Numbers, ...], Field(max_length=101)]
    rerouted: Annotated[tuple[Counts, ...], Field(max_length=101)] | None = None

    @model_validator(mode="after")
    def _check_rectangle(self) -> Self:
        for name, plane in (("losses", self.losses), ("rerouted", self.rerouted)):
            if plane is not None:
                check_lengths(f"alphas and {name}", (len(self.alphas), len(plane)))
                check_lengths(f"betas and {name}", (len(self.betas), *map(len, plane)))
        return self


class WorstCase(Schema):
    """The largest increase of the loss within `radius`, and how many rows then take another route."""

    radius: NotNegative
    loss_increase: Number
    rerouted: Count


class SharpnessPart(NullsLeftOut):
    """One checkpoint on one subset of images. `agreement`: relative difference of two evaluations of the loss."""

    subset: Name
    images: Count
    loss: Number
    accuracy: Share | None = None
    gradient_norm: NotNegative | None = None
    agreement: NotNegative | None = None
    blocks: Annotated[tuple[BlockCurvature, ...], Field(max_length=2_000)] = ()
    density: Density | None = None
    lines: Annotated[tuple[LossLine, ...], Field(max_length=200)] = ()
    surface: Surface | None = None
    sam: Annotated[tuple[WorstCase, ...], Field(max_length=200)] = ()
    adaptive: Annotated[tuple[WorstCase, ...], Field(max_length=200)] = ()
    notes: Annotated[tuple[Prose, ...], Field(max_length=200)] = ()

    @property
    def whole(self) -> BlockCurvature | None:
        """The block of all parameters."""
        return next((block for block in self.blocks if block.block == "all"), None)

    @property
    def lines_by_range(self) -> dict[str, list[LossLine]]:
        """The lines of each range, in the order measured."""
        lines: dict[str, list[LossLine]] = {}
        for line in self.lines:
            lines.setdefault(line.range, []).append(line)
        return lines


class Sharpness(Document):
    """One checkpoint's curvature. `preset` is that of its training; `settings` holds all that decides the numbers."""

    written_by: ClassVar[str] = "sharpness"

    kind: Literal["sharpness"]
    checkpoint: Name
    head: Name
    policy: Name | None = None
    preset: Name | None = None
    data: Name = "unknown data"
    images: Count | None = None
    loss: str = "cross-entropy"
    dtype: str = ""
    seed: Count | None = None
    notes: Annotated[tuple[Prose, ...], Field(max_length=200)] = ()
    settings: dict[str, Any] | None = None
    parts: Annotated[tuple[SharpnessPart, ...], Field(min_length=1, max_length=20)]
