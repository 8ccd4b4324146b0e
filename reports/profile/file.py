"""What `moegap profile` leaves, read into immutable values and held to bounds.

The parts of a call sum to it, and so do its busy time and its gap; a file whose numbers do not is broken.
"""

from __future__ import annotations

from math import isclose
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from reports.errors import ReportError
from reports.reading.files import Content
from reports.reading.studies import LARGEST, Count, Line, Name, Part, StudyFile, check_format
from reports.records.validated import check_moment, validated

KIND = "profile"
ROUNDING = 1e-6

Stage = Literal["route", "dispatch", "experts", "combine", "fused", "other"]
Time = Annotated[float, Field(ge=0, le=LARGEST)]  # seconds per call
Mean = Annotated[float, Field(ge=0, le=LARGEST)]  # pieces of work per call


class StagePart(Part):
    """One stage of a call."""

    seconds: Time
    launches: Mean


class Work(Part):
    """All operators, kernels or nodes of one name; `where` is cpu, gpu or the provider of a node."""

    name: Annotated[str, Field(max_length=50_000)]  # of a kernel, with the arguments of its C++ templates
    where: Name
    seconds: Time
    count: Mean


class Profile(Part):
    """One form at one number of rows: means over `calls`, or over replays of a CUDA graph for `graph`.

    `busy` is the seconds in which any operator runs (CPU) or any kernel (GPU), `gap` the others. `host` is on a GPU the
    seconds until the last launch returns, `overlap` of them while the device is busy. `nodes` of an engine on a GPU
    take the host's time. `traces` lie beside the file.
    """

    form: Name
    rows: Count
    graph: bool = False
    calls: Annotated[int, Field(ge=1, le=10**9)]
    told_by: Literal["ranges", "names"]
    seconds: Annotated[float, Field(gt=0, le=LARGEST)]
    busy: Time
    gap: Time
    host: Time
    overlap: Time
    launches: Mean
    parts: dict[Stage, StagePart]
    operators: Annotated[tuple[Work, ...], Field(max_length=10_000)]
    nodes: Annotated[tuple[Work, ...], Field(max_length=10_000)] = ()
    traces: Annotated[tuple[Line, ...], Field(max_length=100)] = ()

    @model_validator(mode="after")
    def _check_sums(self) -> Self:
        sums = {
            "parts": (sum(part.seconds for part in self.parts.values()), self.seconds),
            "busy and gap": (self.busy + self.gap, self.seconds),
            "operators": (sum(work.seconds for work in self.operators), self.busy),
        }
        for name, (found, whole) in sums.items():
            if not isclose(found, whole, rel_tol=ROUNDING, abs_tol=ROUNDING * self.seconds):
                raise ValueError(f"{name} do not sum up")
        if self.overlap > min(self.host, self.busy) + ROUNDING * self.seconds:
            raise ValueError("overlap is longer than what overlaps")
        return self

    @property
    def label(self) -> str:
        """The form, and whether it is replayed."""
        return _label(self.form, self.graph)

    @property
    def by_its_engine(self) -> bool:
        """Whether the operators are nodes of an engine with a profile of its own."""
        return any(work.where not in ("cpu", "gpu") for work in self.operators)

    def share(self, stage: Stage) -> float:
        """Return the share of the call in a stage."""
        return self.parts[stage].seconds / self.seconds if stage in self.parts else 0.0


class LeftOut(Part):
    """A form without a profile, and why."""

    form: Name
    rows: Count
    graph: bool = False
    reason: Line

    @property
    def label(self) -> str:
        """The form, and whether it is replayed."""
        return _label(self.form, self.graph)


class ProfileFile(StudyFile):
    """`profile.json`: the profiles of one head."""

    kind: Literal["profile"]
    checkpoint: Name
    head: Name
    policy: Line = ""
    dtype: Name
    runs_on: Literal["cpu", "cuda"]
    versions: dict[Name, Line] = Field(default_factory=dict)
    profiles: Annotated[tuple[Profile, ...], Field(min_length=1, max_length=2_000)]
    left_out: Annotated[tuple[LeftOut, ...], Field(max_length=2_000)] = ()

    @property
    def title(self) -> str:
        """The head and its dtype."""
        routing = f"{self.policy} routing" if self.policy else ""
        return ", ".join(filter(None, (f"{self.checkpoint} ({self.head} head)", routing, self.dtype)))


def is_profile(content: Content) -> bool:
    """Return whether a file's content says that it is a profile."""
    return content.get("kind") == KIND


def parsed(source: Path, content: Content) -> ProfileFile:
    """Return the profile that the file `source` holds; raises `ReportError` where it is none or broken."""
    if not is_profile(content):
        raise ReportError(f"{source} is no profile: give a file written by `moegap profile`.")
    check_format(source, content)
    found = validated(ProfileFile, content, source, "the profile")
    if taken := found.environment.get("measured_at"):
        check_moment(taken, source, "the profile")
    return found


def _label(form: str, graph: bool) -> str:
    return f"{form} (graph)" if graph else form
