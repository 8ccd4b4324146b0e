"""What is measured: a subject in a form at a shape, seen by a clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from bench.forms import form
from bench.subjects.skew import Skew
from bench.subjects.subject import Subject
from bench.timing.precision import dtype_name
from reports.records.record import Cache, ClockName, Passes


@dataclass(frozen=True)
class Shape:
    """What compared cases have in common; `skew` is None for the subject's real rows, or drawn ones if it has none."""

    part: Literal["head", "classifier"]
    rows: int
    dtype: torch.dtype
    device: torch.device
    skew: Skew | None = None
    cache: Cache = "warm"
    passes: Passes = "forward"

    def __str__(self) -> str:
        passes = f"-{self.passes}" if self.training else ""
        routing = f"-{self.skew}" if self.skew else ""
        cold = f"-{self.cache}" if self.cache != "warm" else ""
        return f"{self.part}-n{self.rows}-{dtype_name(self.dtype)}-{self.device.type}{passes}{routing}{cold}"

    @property
    def training(self) -> bool:
        """Whether a call is a forward and a backward pass."""
        return self.passes == "training"

    @property
    def in_words(self) -> str:
        """The shape as a line of output names it."""
        words = [self.part, f"{self.rows:,} rows", dtype_name(self.dtype), self.device.type]
        words += ["forward and backward"] * self.training
        routing, cold = [f"{self.skew} routing"] * bool(self.skew), [f"{self.cache} caches"] * (self.cache != "warm")
        return ", ".join([*words, *routing, *cold])


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

    @property
    def refusal(self) -> str | None:
        """Why the form will not be timed on this head here, or None."""
        return self.unavailable or form(self.form).untimeable(self.shape.device)

    @property
    def unavailable(self) -> str | None:
        """Why the form cannot run this head here, or None."""
        chosen, shape = form(self.form), self.shape
        if reason := chosen.unavailable(self.subject.head.config, shape.device, shape.dtype):
            return reason
        if shape.training and chosen.train is None:
            return f"the form {self.form} is for inference alone: it has no backward pass here"
        return None
