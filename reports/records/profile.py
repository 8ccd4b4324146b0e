"""`profile.json` of `moegap profile`: where the time of each form's calls went, in seconds per profiled call.

Profiled calls are slower than timed ones. The stages of a call sum to it, and so do its busy time and its gap; a file
in which they do not is broken.
"""

from __future__ import annotations

from math import isclose
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from reports.records.document import Document, Environment
from reports.records.fields import LARGEST, Count, Name, Prose, Schema, check_moment

PROFILE_FILE = "profile.json"
"""In the folder of the traces."""
SUMS_WITHIN = 1e-6

Stage = Literal["route", "dispatch", "experts", "combine", "fused", "other"]
ToldBy = Literal["ranges", "names"]
Time = Annotated[float, Field(ge=0, le=LARGEST)]  # seconds per call
Mean = Annotated[float, Field(ge=0, le=LARGEST)]  # pieces of work per call


class StagePart(Schema):
    """One stage of a call: its seconds, and how many pieces of work it started.

    On a GPU a piece of work is a kernel, copy or fill, also as a node of a replayed graph; on a CPU it is an operator
    that no other operator called.
    """

    seconds: Time
    launches: Mean


class Operator(Schema):
    """All work of one name: its self time in seconds and its number of executions, per call.

    `where` is `cpu` for torch's operators, `gpu` for kernels, copies and fills, else the provider of a node.
    """

    name: Annotated[str, Field(max_length=50_000)]  # of a kernel, with the arguments of its C++ templates
    where: Name
    seconds: Time
    count: Mean


class ProfiledForm(Schema):
    """A form at N = `rows`; if `graph`, replayed as a CUDA graph."""

    form: Name
    rows: Count
    graph: bool = False

    @property
    def label(self) -> str:
        """The form, and whether it is replayed."""
        return f"{self.form} (graph)" if self.graph else self.form


class Profile(ProfiledForm):
    """One form: means over `calls`, or over replays. The profiler lost kernels of `dropped` further ones.

    `busy` is how long any operator (CPU) or kernel (GPU) runs, `gap` the rest. On a GPU `host` is the time until the
    last launch returns, and `overlap` the part of it in which the device is busy. `nodes` of an engine on a GPU take
    the host's time. `told_by` says how the stages were told apart. `traces` are paths relative to the file.
    """

    calls: Annotated[int, Field(ge=1, le=10**9)]
    dropped: Count = 0
    told_by: ToldBy
    seconds: Annotated[float, Field(gt=0, le=LARGEST)]
    busy: Time
    gap: Time
    host: Time
    overlap: Time
    launches: Mean
    parts: dict[Stage, StagePart]
    operators: Annotated[tuple[Operator, ...], Field(max_length=10_000)]
    nodes: Annotated[tuple[Operator, ...], Field(max_length=10_000)] = ()
    traces: Annotated[tuple[Prose, ...], Field(max_length=100)] = ()

    @model_validator(mode="after")
    def _check_sums(self) -> Self:
        sums = {
            "parts": (sum(part.seconds for part in self.parts.values()), self.seconds),
            "busy and gap": (self.busy + self.gap, self.seconds),
            "operators": (sum(operator.seconds for operator in self.operators), self.busy),
        }
        for name, (total, whole) in sums.items():
            if not isclose(total, whole, rel_tol=SUMS_WITHIN, abs_tol=SUMS_WITHIN * self.seconds):
                raise ValueError(f"{name} do not sum up")
        if self.overlap > min(self.host, self.busy) + SUMS_WITHIN * self.seconds:
            raise ValueError("overlap is longer than host or busy")
        return self

    @property
    def by_its_engine(self) -> bool:
        """Whether the operators are nodes of an engine with a profile of its own."""
        return any(operator.where not in ("cpu", "gpu") for operator in self.operators)

    def share(self, stage: Stage) -> float:
        """Return the share of the call in a stage."""
        return self.parts[stage].seconds / self.seconds if stage in self.parts else 0.0


class LeftOut(ProfiledForm):
    """A form without a profile, and why."""

    reason: Prose


class ProfileFile(Document):
    """The profiles of one head, and what they were taken on."""

    written_by: ClassVar[str] = "profile"

    kind: Literal["profile"]
    checkpoint: Name
    head: Name
    policy: Prose = ""
    dtype: Name
    runs_on: Literal["cpu", "cuda"]
    versions: Environment = Field(default_factory=dict)
    profiles: Annotated[tuple[Profile, ...], Field(min_length=1, max_length=2_000)]
    left_out: Annotated[tuple[LeftOut, ...], Field(max_length=2_000)] = ()

    @model_validator(mode="after")
    def _check_moment(self) -> Self:
        if measured := self.environment.get("measured_at"):
            check_moment(measured)
        return self

    @property
    def title(self) -> str:
        """The head and its dtype."""
        routing = f"{self.policy} routing" if self.policy else ""
        return ", ".join(filter(None, (f"{self.checkpoint} ({self.head} head)", routing, self.dtype)))
