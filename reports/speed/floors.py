"""Floors: the least time a machine could take for a case, from ceilings measured on it and from counted work.

    floor = max(FLOPs / peak, least bytes / rate) + one launch

The peak is that of the best large product. The rate at the working set of a copy is the greatest of that copy and of
all larger ones: a smaller set can be copied as fast as a larger one, but a small copy is slowed by its launch. Between
two working sets the rate is interpolated, logarithm over logarithm, so that it falls from a cache's to memory's without
a cliff: a set that is slightly too large for a cache still finds most of its bytes there. With cold caches it is the
rate of the largest set, which lies in memory.

A copy reads as much as it writes. Work that mostly reads may exceed its rate, so movement is no strict bound.

Letters: N rows, D input width, E experts, C output width, M assignments of a row to an expert.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from operator import attrgetter
from typing import Literal

import numpy as np

from reports.records.record import CaseRecord, Ceilings

RESIDENT = 1.25
"""A rate of at least this many times memory's is a cache's."""

Limit = Literal["arithmetic", "bandwidth", "launches"]


@dataclass(frozen=True)
class Floor:
    """The least time of a case in seconds, by resource; `rate` is in bytes per second."""

    arithmetic: float
    bandwidth: float
    launch: float
    rate: float
    cached: bool  # all that it must move fits a cache that is faster than memory
    ceilings: Ceilings

    @property
    def seconds(self) -> float:
        """The floor: arithmetic and movement overlap, and one launch precedes them."""
        return max(self.arithmetic, self.bandwidth) + self.launch

    @property
    def memory(self) -> float:
        """The seconds that movement adds to the arithmetic."""
        return max(0.0, self.bandwidth - self.arithmetic)

    @property
    def limit(self) -> Limit:
        """The resource that takes longest."""
        terms: dict[Limit, float] = {
            "arithmetic": self.arithmetic,
            "bandwidth": self.bandwidth,
            "launches": self.launch,
        }
        return max(terms, key=terms.__getitem__)


@dataclass(frozen=True)
class Operations:
    """A head's operations by what they are for."""

    experts: int
    gate: int
    combine: int


def floor(record: CaseRecord, measured: Sequence[Ceilings]) -> Floor | None:
    """Return the floor of a case, or None without fitting ceilings, counted bytes or any work."""
    ceilings = fitting(record, measured)
    if ceilings is None or not record.least_bytes or not record.flops:
        return None
    memory = ceilings.copies[-1].bytes_per_s
    rate = _rate(ceilings, record.least_bytes) if record.cache == "warm" else memory
    return Floor(
        arithmetic=record.flops / ceilings.flops_per_s,
        bandwidth=record.least_bytes / rate,
        launch=ceilings.launch,
        rate=rate,
        cached=rate >= RESIDENT * memory,
        ceilings=ceilings,
    )


def _rate(ceilings: Ceilings, working_set: int) -> float:
    """Return the bytes per second at a working set, between those of the copies beside it."""
    sizes = [copy.working_set for copy in ceilings.copies]
    rates = [copy.bytes_per_s for copy in ceilings.copies]
    greatest = np.maximum.accumulate(rates[::-1])[::-1]
    return float(np.exp(np.interp(log(working_set), np.log(sizes), np.log(greatest))))


def of_machine(record: CaseRecord, measured: Sequence[Ceilings]) -> list[Ceilings]:
    """Return the ceilings of the case's machine, threads and dtype.

    Ceilings of threads that wait in another way count only if there are no others.
    """
    machine = attrgetter("device", "device_name", "cpu", "threads", "dtype")
    same_machine = [each for each in measured if machine(each) == machine(record)]
    return [each for each in same_machine if each.thread_wait == record.thread_wait] or same_machine


def fitting(record: CaseRecord, measured: Sequence[Ceilings]) -> Ceilings | None:
    """Return the ceilings `of_machine` that were measured last before the case, or else the first after it."""
    candidates = of_machine(record, measured)
    before = [each for each in candidates if each.moment <= record.moment]
    if before:
        return max(before, key=lambda each: each.moment)
    return min(candidates, key=lambda each: each.moment, default=None)


def operations(record: CaseRecord) -> Operations:
    """Split the operations of a head alone: 2 D E N for the gate, 2 C M to combine, the rest for the experts.

    Training takes three times each.
    """
    if record.head == "dense":
        return Operations(experts=record.flops, gate=0, combine=0)
    assignments = record.rows * record.k if record.assignments is None else record.assignments
    passes = 3 if record.passes == "training" else 1
    gate = 2 * record.features * record.experts * record.rows * passes
    combine = 2 * record.classes * assignments * passes
    return Operations(experts=record.flops - gate - combine, gate=gate, combine=combine)
