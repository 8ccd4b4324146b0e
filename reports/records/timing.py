"""Target files of older versions: what each case took, or why it has no time.

A case is one peer (a way of computing the layer, or an anchor to compare with) on one layer, number of rows, dtype
and routing, by one clock, with warm or cold caches. `reports.targets.run` turns them into ordinary cases.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, model_validator

from reports.records.fields import Count, no_newer_than
from reports.records.record import SHORTEST, Amount, BlockNumber, Seconds, Status

Kind = Literal["measured", "rehearsal", "predicted"]


class Timing(BaseModel, extra="forbid", frozen=True):
    """One case. Times in seconds, sizes in bytes.

    Attributes:
        group: Name of the group that it is measured in.
        group_id: Cases measured interleaved in one go share it; only these are paired by block.
        layer: Its name; `rows` is N, `rows_per_expert` the mean number of rows of an expert, N k / E.
        routing: How rows spread over experts: evenly, by Zipf's law, or with one expert in every row.
        clock: "graph" is the time between two device events around a CUDA graph's replay, "call" what a caller waits.
        cache: "warm" right after the same work; "cold" after a write that is larger than the L2 cache.
        samples: Seconds, in the order taken; `blocks` the block of each.
        flops: Counted, padding not included. `least_bytes`: the least that must be read and written.
        setup: Seconds for preparing the peer, compilation and tuning included.
        error: Greatest deviation from the reference, relative to each row's largest value.
    """

    group: str
    group_id: str = ""
    layer: str
    rows: Count
    rows_per_expert: Amount
    dtype: Literal["float32", "float16", "bfloat16"]
    routing: Literal["balanced", "zipf", "hot"]
    peer: str
    clock: Literal["graph", "call"]
    cache: Literal["warm", "cold"]
    status: Status | Literal["predicted"]
    reason: str = ""
    samples: list[Annotated[Seconds, Field(ge=SHORTEST)]] = []
    blocks: list[BlockNumber] = []
    flops: Count = 0
    least_bytes: Count = 0
    setup: Seconds | None = None
    error: float | None = None
    tolerance: float | None = None
    runs_on: dict[str, str] = {}
    measured_at: str = ""
    gpu_clock_mhz: float | None = None
    gpu_temperature_c: float | None = None

    @model_validator(mode="after")
    def _check_blocks(self) -> Self:
        if len(self.samples) != len(self.blocks) or self.timed != bool(self.samples):
            raise ValueError("a case has samples, each with its block, if and only if it has a time")
        return self

    @property
    def timed(self) -> bool:
        """Whether there is a time, measured or predicted."""
        return self.status in (Status.MEASURED, "predicted")


class TimingRun(BaseModel, extra="forbid", frozen=True):
    """A file of timings: `kind` says whether they were measured on a GPU, rehearsed on a CPU, or predicted."""

    schema_version: Annotated[Literal[1], no_newer_than(1)] = 1
    kind: Kind
    command: str
    environment: dict[str, Any]
    notes: list[str]
    timings: list[Timing]
