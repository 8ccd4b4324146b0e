"""What the commands `train`, `policies` and `sharpness` leave, read into immutable values and held to bounds.

Each file is an object that names its `kind` and `format`. Fields that a report does not show are passed over, so a
producer may add some. A number without a value is null in the file and None here, never NaN.

Letters: C classes, E experts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from reports.errors import ReportError
from reports.reading.files import Content
from reports.records.record import SHORTEST, Seconds
from reports.records.validated import check_version
from reports.records.visible import brief

FORMAT = 1
LARGEST = 1e30
ROUNDING = 1e-5  # shares and losses are float32 sums: one may stand a little above 1, a zero a little below 0


def _told_from_zero(value: float) -> float:
    """Return a number, one that is too small for any scale as zero."""
    return value if abs(value) >= 1 / LARGEST else 0.0


Name = Annotated[str, Field(min_length=1, max_length=300, pattern=r"^\P{C}*$")]  # of characters that can be seen
Line = Annotated[str, Field(max_length=5_000)]
Number = Annotated[float, Field(ge=-LARGEST, le=LARGEST), AfterValidator(_told_from_zero)]
NotNegative = Annotated[float, Field(ge=-ROUNDING, le=LARGEST), AfterValidator(_told_from_zero)]
Share = Annotated[float, Field(ge=-ROUNDING, le=1 + ROUNDING)]
Count = Annotated[int, Field(ge=0, le=10**15)]
Numbers = Annotated[tuple[Number, ...], Field(max_length=20_000)]
Counts = Annotated[tuple[Count, ...], Field(max_length=20_000)]
Shares = Annotated[tuple[Share, ...], Field(max_length=4_096)]


def _told(value: object) -> object:
    """Return the facts of an environment as text; what is no single fact is left out."""
    if not isinstance(value, Mapping):
        return value
    return {name: str(fact) for name, fact in value.items() if isinstance(fact, str) or _is_finite(fact)}


def _is_finite(fact: object) -> bool:
    return isinstance(fact, int) or (isinstance(fact, float) and isfinite(fact))


Facts = Annotated[dict[Name, Line], BeforeValidator(_told)]


class Part(BaseModel):
    """A part of a file: immutable; what it does not name is passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Epoch(Part):
    """One row of a training's history. `class_load` (C, E) of a mixture: each row sums to one."""

    epoch: Count
    learning_rate: NotNegative | None = None
    train_loss: Number | None = None
    train_accuracy: Share | None = None
    val_loss: Number | None = None
    val_accuracy: Share | None = None
    seconds: Seconds | None = None
    utilisation: Share | None = None
    gate_entropy: NotNegative | None = None
    load_cv: NotNegative | None = None
    dropped: Share | None = None
    unserved: Share | None = None
    experts_per_row_mean: NotNegative | None = None
    class_load: Annotated[tuple[Shares, ...], Field(max_length=4_096)] | None = None

    @model_validator(mode="after")
    def _check_rectangle(self) -> Self:
        if self.class_load is not None:
            _check_lengths("class_load", (len(row) for row in self.class_load))
        return self


History = Annotated[tuple[Epoch, ...], Field(max_length=100_000)]


class Run(Part):
    """One trained model. Accuracies 0 to 1, `seconds` of the whole training."""

    folder: Name
    head: Name
    policy: Name | None = None
    seed: Count
    parameters: Count | None = None
    best_epoch: Count | None = None
    val_accuracy: Share | None = None
    test_accuracy: Share | None = None
    train_accuracy: Share | None = None
    seconds: Seconds | None = None
    history: History = ()


class StudyFile(Part):
    """What every file says of itself."""

    format: Literal[1]
    kind: str
    command: Line = ""
    environment: Facts = {}

    @property
    def device(self) -> str:
        """What it ran on, in words."""
        device = self.environment.get("device", "")
        cpu = self.environment.get("cpu", "")
        threads = self.environment.get("threads", "")
        if device != cpu and not device.startswith("cpu"):
            return device
        words = f"CPU {cpu}" if cpu and cpu != "cpu" else "CPU"
        return f"{words}, {threads} {'thread' if threads == '1' else 'threads'}" if threads else words


class TrainingStudy(StudyFile):
    """`study.json`: heads trained with one preset on one source of data, over several seeds."""

    kind: Literal["training"]
    preset: Name
    data: Name
    epochs: Count
    runs: Annotated[tuple[Run, ...], Field(min_length=1, max_length=2_000)]


class TrainingHistory(StudyFile):
    """`history.json`: one training, finished or not; what it is stands in its `config`."""

    kind: Literal["history"]
    config: dict[str, Any]
    history: History

    def study(self, source: Path) -> TrainingStudy:
        """Return it as a study of one run without results."""
        changes = self.config.get("head_changes")
        policy = changes.get("policy") if isinstance(changes, dict) else None
        run = {name: self.config.get(name) for name in ("head", "seed")}
        values = {name: self.config.get(name) for name in ("preset", "epochs")}
        values["data"] = PurePath(str(self.config.get("data", ""))).name  # a folder of images goes by its name
        run |= {"folder": source.parent.name or ".", "policy": policy, "history": self.history}
        about = {"format": FORMAT, "kind": "training", "command": self.command, "environment": self.environment}
        return TrainingStudy.model_validate({**about, **values, "runs": [run]})


class PolicyRun(Part):
    """One head trained under one routing policy; `flops_per_row` of the head.

    Entropies and informations in nats; `class_chance` and `domain_chance` are what as many assignments give by chance.
    """

    policy: Name
    seed: Count
    head: Name
    test_accuracy: Share
    val_accuracy: Share | None = None
    experts_per_row_mean: NotNegative | None = None
    experts_per_row_std: NotNegative | None = None
    load_cv: NotNegative | None = None
    dropped: Share | None = None
    unserved: Share | None = None
    balance: dict[Name, NotNegative] = {}
    gate_entropy: NotNegative | None = None
    class_information: NotNegative | None = None
    class_chance: NotNegative | None = None
    domain_information: NotNegative | None = None
    domain_chance: NotNegative | None = None
    flops_per_row: NotNegative | None = None
    parameters: Count | None = None
    seconds: Seconds | None = None


class Failure(Part):
    """A training that ended without a result, and why."""

    policy: Name
    seed: Count
    reason: Line = ""


class Latency(Part):
    """Samples in seconds of one policy in one form, or the reason why there are none."""

    policy: Name
    form: Name
    status: Name
    reason: Line = ""
    seconds: Annotated[tuple[Annotated[Seconds, Field(ge=SHORTEST)], ...], Field(max_length=100_000)] = ()
    rows: Count | None = None

    @model_validator(mode="before")
    @classmethod
    def _fill_blanks(cls, value: Any) -> Any:
        """Take null for what it means: no reason, no sample."""
        if isinstance(value, dict):
            return {name: field for name, field in value.items() if field is not None}
        return value


class PolicyStudy(StudyFile):
    """`policies.json`: routing policies trained side by side, the dense and the soft head beside them."""

    kind: Literal["policies"]
    data: Name
    preset: Name
    epochs: Count
    parameters: Any = None
    rows: Count | None = None
    runs: Annotated[tuple[PolicyRun, ...], Field(min_length=1, max_length=2_000)]
    latency: Annotated[tuple[Latency, ...], Field(max_length=5_000)] = ()
    failed: Annotated[tuple[Failure, ...], Field(max_length=5_000)] = ()
    domains: Annotated[tuple[Name, ...], Field(max_length=1_000)] | None = None


class Eigenvalue(Part):
    """An eigenvalue of the Hessian and the norm of its residual."""

    value: Number
    residual: NotNegative | None = None


class Trace(Part):
    """The Hessian's trace, estimated from random probes."""

    value: Number
    standard_error: NotNegative | None = None
    probes: Count | None = None
    stopped_by: str = ""


class Block(Part):
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


class Density(Part):
    """The spectral density of the whole Hessian on a grid of eigenvalues."""

    grid: Numbers
    density: Numbers
    probes: Count | None = None
    steps: Count | None = None

    @model_validator(mode="after")
    def _check_pairs(self) -> Self:
        _check_lengths("grid and density", (len(self.grid), len(self.density)))
        return self


class LossLine(Part):
    """The loss along one unit direction; `rerouted` rows take another route than at alpha = 0."""

    direction: Name
    range: Name
    alphas: Annotated[Numbers, Field(min_length=1)]
    losses: Numbers
    rerouted: Counts | None = None
    second_difference: Number | None = None
    curvature: Number | None = None
    relative_error: Number | None = None

    @model_validator(mode="after")
    def _check_pairs(self) -> Self:
        rerouted = self.alphas if self.rerouted is None else self.rerouted
        _check_lengths("alphas, losses and rerouted", (len(self.alphas), len(self.losses), len(rerouted)))
        return self


class Surface(Part):
    """The loss over a plane: `losses` (alphas, betas)."""

    alphas: Annotated[Numbers, Field(min_length=1, max_length=101)]
    betas: Annotated[Numbers, Field(min_length=1, max_length=101)]
    losses: Annotated[tuple[Numbers, ...], Field(max_length=101)]
    rerouted: Annotated[tuple[Counts, ...], Field(max_length=101)] | None = None

    @model_validator(mode="after")
    def _check_rectangle(self) -> Self:
        for name, plane in (("losses", self.losses), ("rerouted", self.rerouted)):
            if plane is not None:
                _check_lengths(f"alphas and {name}", (len(self.alphas), len(plane)))
                _check_lengths(f"betas and {name}", (len(self.betas), *map(len, plane)))
        return self


class WorstCase(Part):
    """How much the loss rises at most within a radius, and how many rows then take another route."""

    radius: NotNegative
    loss_increase: Number | None = None
    rerouted: Count | None = None


class SharpnessPart(Part):
    """One checkpoint on one subset of images. `agreement`: relative difference of two evaluations of the loss."""

    subset: Name
    images: Count
    loss: Number
    accuracy: Share | None = None
    gradient_norm: NotNegative | None = None
    agreement: NotNegative | None = None
    blocks: Annotated[tuple[Block, ...], Field(max_length=2_000)] = ()
    density: Density | None = None
    lines: Annotated[tuple[LossLine, ...], Field(max_length=200)] = ()
    surface: Surface | None = None
    sam: Annotated[tuple[WorstCase, ...], Field(max_length=200)] = ()
    adaptive: Annotated[tuple[WorstCase, ...], Field(max_length=200)] = ()
    notes: Annotated[tuple[Line, ...], Field(max_length=200)] = ()

    @model_validator(mode="before")
    @classmethod
    def _fill_blanks(cls, value: Any) -> Any:
        """Take null for what it means: that piece is missing."""
        if isinstance(value, dict):
            return {name: field for name, field in value.items() if field is not None}
        return value

    @property
    def whole(self) -> Block | None:
        """The block of all parameters."""
        return next((block for block in self.blocks if block.block == "all"), None)


class Sharpness(StudyFile):
    """One checkpoint's curvature. `preset` is that of its training, where the file says so."""

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
    parts: Annotated[tuple[SharpnessPart, ...], Field(min_length=1, max_length=20)]
    notes: Annotated[tuple[Line, ...], Field(max_length=200)] = ()


KINDS: dict[str, type[StudyFile]] = {
    "training": TrainingStudy,
    "history": TrainingHistory,
    "policies": PolicyStudy,
    "sharpness": Sharpness,
}
REMADE_BY = {"training": "train", "history": "train", "policies": "policies", "sharpness": "sharpness"}


@dataclass(frozen=True)
class Studies:
    """All study files given, by kind; a lone history is a training study of one run without results."""

    training: tuple[TrainingStudy, ...] = ()
    policies: tuple[PolicyStudy, ...] = ()
    sharpness: tuple[Sharpness, ...] = ()

    @property
    def files(self) -> tuple[TrainingStudy | PolicyStudy | Sharpness, ...]:
        """Every file, in the order that a report shows them."""
        return (*self.training, *self.policies, *self.sharpness)

    def __bool__(self) -> bool:
        return bool(self.files)


def is_study(content: Content) -> bool:
    """Return whether a file's content says that it is a study of a kind read here."""
    kind = content.get("kind")
    return isinstance(kind, str) and kind in KINDS


def gather(contents: Mapping[Path, Content]) -> Studies:
    """Return the studies in these files; `ReportError` where one is broken or was written by a newer moegap."""
    found = [_parsed(source, content) for source, content in contents.items()]
    return Studies(
        training=tuple(study for study in found if isinstance(study, TrainingStudy)),
        policies=tuple(study for study in found if isinstance(study, PolicyStudy)),
        sharpness=tuple(study for study in found if isinstance(study, Sharpness)),
    )


def check_format(source: Path, content: Content) -> None:
    """Raise `ReportError` where the study file `source` is of a format newer than those read here."""
    check_version(content.get("format"), FORMAT, source, "format")


def _parsed(source: Path, content: Content) -> StudyFile:
    kind = content["kind"]
    check_format(source, content)
    again = f"run `moegap {REMADE_BY[kind]}` again, or repair the file"
    try:
        study = KINDS[kind].model_validate(content)
        if isinstance(study, TrainingHistory):
            study = study.study(source)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = brief(".".join(map(str, first["loc"]))) or kind
        reason = first["msg"].removeprefix("Value error, ")
        raise ReportError(f"{source}: this {kind} file is broken at `{field}` ({reason}): {again}.") from None
    try:
        study.model_dump_json()
    except ValueError:
        raise ReportError(f"{source}: this {kind} file holds text that is no Unicode: {again}.") from None
    return study


def _check_lengths(names: str, lengths: Iterable[int]) -> None:
    if len(set(lengths)) > 1:
        raise ValueError(f"{names} differ in length")
