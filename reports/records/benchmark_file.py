"""A whole result: a pytest-benchmark file, with what `reports.records.record` says of its cases beside it.

Benchmarks of others in the same file are passed over.
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from reports.records.fields import Schema, check_moment
from reports.records.record import (
    CEILINGS_KEY,
    COMMAND_KEY,
    GROUPS_KEY,
    NOT_MEASURED_KEY,
    SHORTEST,
    CaseRecord,
    Ceilings,
    Group,
    Seconds,
    Status,
)


def is_record(entry: object) -> bool:
    """Return whether a benchmark is a case of moegap."""
    extra_info = entry.get("extra_info") if isinstance(entry, dict) else None
    return isinstance(extra_info, dict) and "case_id" in extra_info


def _check_record(record: CaseRecord) -> CaseRecord:
    check_moment(record.measured_at)
    if record.rows_per_expert and len(record.rows_per_expert) != record.experts:
        counts = f"{len(record.rows_per_expert)} numbers of rows for {record.experts} experts"
        raise ValueError(f"{counts}, one for each is needed")
    return record


def _check_without_time(record: CaseRecord) -> CaseRecord:
    if record.status is Status.MEASURED:
        raise ValueError("it is called measured but has no samples")
    return record


def _check_ceilings(ceilings: Ceilings) -> Ceilings:
    check_moment(ceilings.measured_at)
    sizes = [copy.working_set for copy in ceilings.copies]
    if not sizes or sizes != sorted(set(sizes)):
        raise ValueError("it needs copies of growing working sets")
    return ceilings


def _check_group(group: Group) -> Group:
    if not all(0 <= block < len(group.anchor) for block in group.throttled):
        raise ValueError("it marks a block it has not")
    return group


Record = Annotated[CaseRecord, AfterValidator(_check_record)]
Samples = Annotated[tuple[Annotated[Seconds, Field(ge=SHORTEST)], ...], Field(min_length=1)]


class Statistics(Schema):
    """What is read of pytest-benchmark's statistics: the raw samples, which `--benchmark-disable` leaves out."""

    data: Samples


class TimedCase(Schema):
    """A benchmark of a case."""

    extra_info: Record
    stats: Statistics

    @model_validator(mode="after")
    def _check_samples(self) -> Self:
        record, samples = self.extra_info, len(self.stats.data)
        if record.status is not Status.MEASURED:
            raise ValueError(f"it has samples though it is {record.status}")
        if samples != len(record.blocks):
            raise ValueError(f"{samples} samples and {len(record.blocks)} block numbers, one for each is needed")
        return self


class BenchmarkFile(Schema):
    """A result; files of record version 1 have no ceilings and no groups."""

    benchmarks: list[Annotated[TimedCase | None, BeforeValidator(lambda entry: entry if is_record(entry) else None)]]
    not_measured: list[Annotated[Record, AfterValidator(_check_without_time)]] = Field(
        [], validation_alias=NOT_MEASURED_KEY
    )
    ceilings: list[Annotated[Ceilings, AfterValidator(_check_ceilings)]] = Field([], validation_alias=CEILINGS_KEY)
    groups: list[Annotated[Group, AfterValidator(_check_group)]] = Field([], validation_alias=GROUPS_KEY)
    command: str = Field("", validation_alias=COMMAND_KEY, max_length=100_000, pattern=r"^[^\p{C}\p{Zl}\p{Zp}]*$")

    @property
    def timed(self) -> list[TimedCase]:
        """The cases that have a time."""
        return [entry for entry in self.benchmarks if entry is not None]

    @model_validator(mode="after")
    def _check_once(self) -> Self:
        records = [*(entry.extra_info for entry in self.timed), *self.not_measured]
        cases = Counter(record.identity for record in records)
        groups = Counter(group.group_id for group in self.groups)
        twice = [f"the case {identity[0]}" for identity, times in cases.items() if times > 1]
        twice += [f"the group {name}" for name, times in groups.items() if times > 1]
        if twice:
            raise ValueError(f"it holds {twice[0]} twice")
        return self
