"""What is measured: the heads, their input rows, and the suites of shapes.

Letters: N rows, D input width, H hidden width of one expert, E experts, k experts per row, C output width.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from bench.errors import BenchError
from bench.forms import Runner, default_forms, form
from bench.subjects.skew import SKEWS, Skew, skewed_rows
from bench.timing.clock import ClockName, clocks
from models import zoo
from models.classifier.checkpoint import load
from models.classifier.classifier import Classifier
from models.config import PAPER_CLASSES, PAPER_FEATURES, BackboneConfig, InputConfig, ModelConfig, head_config
from models.heads.heads import HEAD_KINDS, Head
from models.heads.sparse import SparseMoEHead
from reports.records.record import Cache

Part = Literal["head", "classifier"]
Heads = Literal["zoo", "paper", "public"]
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, eq=False)
class Subject:
    """A model whose head is measured, with what a reader must know about where it comes from.

    `features` are real rows (n, D) to route on, or None where none exist and rows are drawn from a normal
    distribution. `source` says where the sizes of a public model's layer stand, `shrunk` by what they were divided.
    `runners` keeps what forms prepared, with the seconds that took, for as long as the subject lives.
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

    @property
    def head(self) -> Head:
        """The head, in evaluation mode, as it was loaded or made; `on` places it where it runs."""
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

    def _elsewhere(self, device: torch.device, dtype: torch.dtype) -> bool:
        here = torch.empty(0, device=device).device  # with its index, as parameters have it
        return any((value.device, value.dtype) != (here, dtype) for value in self.model.parameters())


@dataclass(frozen=True)
class Shape:
    """What all cases measured together share; `skew` is None for real rows, or drawn ones where there are none."""

    part: Part
    rows: int
    dtype: torch.dtype
    device: torch.device
    skew: Skew | None = None
    cache: Cache = "warm"

    def __str__(self) -> str:
        made = f"-{self.skew}" if self.skew else ""
        cold = "-cold" if self.cache == "cold" else ""
        return f"{self.part}-n{self.rows}-{dtype_name(self.dtype)}-{self.device.type}{made}{cold}"


@dataclass(frozen=True, eq=False)
class Case:
    """A head in a form at a shape, seen by a clock."""

    subject: Subject
    form: str
    shape: Shape
    clock: ClockName

    @property
    def id(self) -> str:
        """The case's name in a result: checkpoint, head, form, shape and clock."""
        return f"{self.subject.name}-{self.subject.head.config.kind}-{self.form}-{self.shape}-{self.clock}"


@dataclass(frozen=True)
class Suite:
    """A named set of shapes, and how long its sampling may go on.

    Where no checkpoints are named it measures those of the zoo, the paper's heads, untrained, or the expert layers of
    public models (`bench.subjects.public_layers`). Heads alone are measured at `head_rows`, there also on rows made for
    each of `skews`, and at `cold_rows` with cold caches. `forms` are those it takes where none are asked for, all
    without any.
    """

    name: str
    summary: str
    head_rows: tuple[int, ...]
    seconds_per_case: float
    heads: Heads = "zoo"
    classifier_rows: tuple[int, ...] = ()
    classifier_forms: tuple[str, ...] = ()
    skews: tuple[Skew, ...] = ()
    cold_rows: tuple[int, ...] = ()
    forms: tuple[str, ...] = ()


SUITES = {
    suite.name: suite
    for suite in (
        Suite("demo", "a first answer in a few minutes", (1, 32, 256, 2048, 8192), 0.5, cold_rows=(256,)),
        Suite(
            "paper",
            "batch 256, the head alone and the whole classifier, with the columns of the paper's efficiency table",
            (256,),
            2.0,
            heads="paper",
            classifier_rows=(256,),
            classifier_forms=("eager",),
            cold_rows=(256,),
        ),
        Suite("batch", "1 to 65,536 rows", (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536), 0.4),
        Suite("routing", "every way of spreading rows over experts", (256, 4096), 0.5, skews=SKEWS[1:]),
        Suite(
            "models",
            "expert layers of public models, without the forms that unroll a hundred experts",
            (16, 1024),
            0.5,
            heads="public",
            forms=("loop", "eager", "grouped_mm", "triton"),
        ),
    )
}


def suite_named(name: str) -> Suite:
    """Return the suite `name`, or raise `BenchError` naming those there are."""
    try:
        return SUITES[name]
    except KeyError:
        raise BenchError(f"unknown suite {name!r}; choose one of {', '.join(SUITES)}") from None


def adapted(suite: Suite, rows: Sequence[int], skews: Sequence[str], cold: bool) -> Suite:
    """Return `suite` at other `rows` of heads alone, where any are given, with more routings, and `cold` at all rows.

    Raises `BenchError` for an unknown routing.
    """
    for name in skews:
        if name not in SKEWS:
            raise BenchError(f"unknown routing {name!r}; choose one of {', '.join(SKEWS)}")
    head_rows = tuple(dict.fromkeys(rows)) or suite.head_rows
    return replace(
        suite,
        head_rows=head_rows,
        skews=tuple(skew for skew in SKEWS if skew in suite.skews or skew in skews),
        cold_rows=head_rows if cold else suite.cold_rows,
    )


def groups(
    suite: Suite,
    subjects: Sequence[Subject],
    form_names: Sequence[str],
    device: torch.device,
    dtypes: Sequence[torch.dtype],
) -> Iterator[list[Case]]:
    """Yield the suite's cases, those measured interleaved together, small shapes first."""
    for dtype in dtypes:
        for shape in _shapes(suite, device, dtype):
            names = [name for name in form_names if shape.part == "head" or name in suite.classifier_forms]
            yield [
                Case(subject, name, shape, clock) for subject in subjects for name in names for clock in clocks(device)
            ]


def _shapes(suite: Suite, device: torch.device, dtype: torch.dtype) -> Iterator[Shape]:
    for rows in suite.head_rows:
        yield Shape("head", rows, dtype, device)
        if rows in suite.cold_rows:
            yield Shape("head", rows, dtype, device, cache="cold")
        yield from (Shape("head", rows, dtype, device, skew) for skew in suite.skews)
    for rows in suite.classifier_rows:
        yield Shape("classifier", rows, dtype, device)


def chosen_forms(names: Sequence[str], suite: Suite | None = None) -> list[str]:
    """Return `names`, without any those of `suite` or the default ones; raises `BenchError` for an unknown one."""
    return [form(name).name for name in dict.fromkeys(names)] or list(suite.forms if suite else ()) or default_forms()


def chosen_subjects(suite: Suite, checkpoints: Sequence[Path]) -> list[Subject]:
    """Return the trained models of `checkpoints`, or what `suite` measures where none are named.

    Raises what `load_subjects` raises.
    """
    if checkpoints:
        return load_subjects(checkpoints)
    return load_subjects(zoo.checkpoints()) if suite.heads == "zoo" else preset_subjects()


def load_subjects(checkpoints: Iterable[Path]) -> list[Subject]:
    """Return the trained models of `checkpoints`, named after their folders.

    Raises `ModelError` for a folder that is no checkpoint and `BenchError` for two of one name.
    """
    subjects = [_trained(path) for path in checkpoints]
    names = [subject.name for subject in subjects]
    if doubled := {name for name in names if names.count(name) > 1}:
        raise BenchError(f"two checkpoints are named {min(doubled)!r}; results are told apart by folder name")
    return subjects


def _trained(path: Path) -> Subject:
    checkpoint = load(path)
    return Subject(
        name=path.resolve().name,
        model=checkpoint.model.requires_grad_(False),
        images=checkpoint.config.input,
        weights="trained",
        data=checkpoint.config.data,
        test_accuracy=checkpoint.metrics["test_accuracy"],
        features=checkpoint.features,
        weights_sha256=checkpoint.config.sha256["model.safetensors"],
    )


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
    """Return rows (N, D) float32 on the CPU: the real ones, resampled by `seed` when N is more, or normal ones."""
    generator = torch.Generator().manual_seed(seed)
    if features is None or len(features) == 0:
        return torch.randn(rows, width, generator=generator)
    if rows <= len(features):
        return features[torch.randperm(len(features), generator=generator)[:rows]]
    return features[torch.randint(len(features), (rows,), generator=generator)]


def input_rows(subject: Subject, shape: Shape, seed: int) -> Tensor:
    """Return the features (N, D), float32 on the CPU, on which `subject` is measured at `shape`.

    Raises `BenchError` where rows cannot be made that route as the shape asks.
    """
    if shape.skew and isinstance(subject.head, SparseMoEHead):
        return skewed_rows(subject.head, shape.skew, shape.rows, seed)
    return feature_rows(subject.features, subject.head.config.features, shape.rows, seed)


def chosen_dtypes(names: Sequence[str]) -> list[torch.dtype]:
    """Return the dtypes of `names`, or float32 when there are none; raises `BenchError` for an unknown one."""
    return [resolve_dtype(name) for name in dict.fromkeys(names)] or [torch.float32]


def resolve_dtype(name: str) -> torch.dtype:
    """Return the dtype named float32, float16 or bfloat16, or raise `BenchError`."""
    try:
        return DTYPES[name]
    except KeyError:
        raise BenchError(f"unknown dtype {name!r}; choose one of {', '.join(DTYPES)}") from None


def dtype_name(dtype: torch.dtype) -> str:
    """Return the name of `dtype` without `torch.`."""
    return str(dtype).removeprefix("torch.")


def working_set(head: Head, rows: int, dtype: torch.dtype) -> int:
    """Return about how many bytes a call may take for N rows that are spread over the experts.

    Inputs, hidden values of all E experts before and after the activation, and outputs, with a copy in float32.
    """
    config = head.config
    values = rows * (3 * config.features + 3 * config.experts * config.hidden + 2 * config.experts * config.classes)
    return values * (dtype.itemsize + 4)
