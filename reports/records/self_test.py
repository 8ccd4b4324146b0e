"""`self-test.json` of `moegap self-test`: raw samples of code whose answer is known."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from reports.records.document import Document, Environment
from reports.records.fields import Count, Name, Schema
from reports.records.record import SHORTEST, BlockNumber, ClockName, Seconds

Samples = Annotated[tuple[Seconds, ...], Field(max_length=100_000)]
Blocks = Annotated[tuple[BlockNumber, ...], Field(max_length=100_000)]


class SelfComparison(Schema):
    """Samples of two sides in seconds, each with its block; side b takes 1 + `slowdown` times as long as side a."""

    slowdown: Annotated[float, Field(ge=0, le=10)]
    head: Name
    form: Name
    rows: Count
    clock: ClockName
    stopped_by: str
    samples_a: Samples
    blocks_a: Blocks
    samples_b: Samples
    blocks_b: Blocks
    failure: str = ""

    @model_validator(mode="after")
    def _check_sides(self) -> Self:
        sides = ((self.samples_a, self.blocks_a), (self.samples_b, self.blocks_b))
        if any(len(samples) != len(blocks) for samples, blocks in sides):
            raise ValueError("every sample needs its block")
        if not self.failure and not all(samples and min(samples) >= SHORTEST for samples, _ in sides):
            raise ValueError("a comparison without a failure needs samples of a picosecond or more on both sides")
        return self


class SelfTest(Document):
    """All comparisons; `seconds` is the sampling time per side, `neighbour` says whether another process was busy."""

    written_by: ClassVar[str] = "self-test"

    kind: Literal["self-test"]
    versions: Environment = Field(default_factory=dict)
    neighbour: bool
    seconds: Seconds
    seed: int
    comparisons: Annotated[tuple[SelfComparison, ...], Field(min_length=1, max_length=100_000)]
