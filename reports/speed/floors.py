"""Floors: the least time a machine could take for a case, from ceilings measured on it and from counted work.

    floor = max(FLOPs / peak, least bytes / rate) + one launch

The peak is that of the best large product. The rate is that of a copy whose working set holds the least bytes: the
greatest measured at any working set that does, since what a larger set reaches a smaller one can, and small copies are
slowed by their launch. After cold caches it is the rate of the largest set, which lies in memory.

A copy reads as much as it writes. Work that mostly reads may pass its rate, so the movement in a floor is no strict
bound of it.

Letters: N rows, D input width, E experts, C output width, M assignments of a row to an expert.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from reports.reading.validated import moment
from reports.records.record import CaseRecord, Ceilings

RESIDENT = 1.25
"""Times the rate of memory from which on a rate is that of a cache."""

Limit = Literal["arithmetic", "bandwidth", "launches"]


@dataclass(frozen=True)
class Floor:
    """The least time of a case in seconds, by resource; `rate` is the bytes per second that it can move."""

    arithmetic: float
    bandwidth: float
    launch: float
    rate: float
    cached: bool  # all it must move fits a cache that is faster than memory
    ceilings: Ceilings

    @property
    def seconds(self) -> float:
        """The floor itself: arithmetic and movement overlap, and one launch precedes them."""
        return max(self.arithmetic, self.bandwidth) + self.launch

    @property
    def memory(self) -> float:
        """What movement adds to the arithmetic."""
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
    held = [copy.bytes_per_s for copy in ceilings.copies if copy.working_set >= record.least_bytes]
    rate = max(held, default=memory) if record.cache == "warm" else memory
    return Floor(
        arithmetic=record.flops / ceilings.flops_per_s,
        bandwidth=record.least_bytes / rate,
        launch=ceilings.launch,
        rate=rate,
        cached=rate >= RESIDENT * memory,
        ceilings=ceilings,
    )


def fitting(record: CaseRecord, measured: Sequence[Ceilings]) -> Ceilings | None:
    """Return the ceilings of the case's machine, threads and dtype; of several, those measured last before the case.

    Where none were measured before it, the first ones after it count; ceilings of threads that wait otherwise count
    only where there are no others.
    """
    case = (record.device, record.device_name, record.cpu, record.threads, record.dtype)
    own = [
        found for found in measured if (found.device, found.device_name, found.cpu, found.threads, found.dtype) == case
    ]
    alike = [found for found in own if found.thread_wait == record.thread_wait] or own
    before = [found for found in alike if moment(found.measured_at) <= moment(record.measured_at)]
    if before:
        return max(before, key=lambda found: moment(found.measured_at))
    return min(alike, key=lambda found: moment(found.measured_at), default=None)


def operations(record: CaseRecord) -> Operations:
    """Return what the operations of a head alone are for: 2 D E N for the gate, 2 C M to combine, the rest experts."""
    if record.head == "dense":
        return Operations(experts=record.flops, gate=0, combine=0)
    assignments = record.rows * record.k if record.assignments is None else record.assignments
    gate = 2 * record.features * record.experts * record.rows
    combine = 2 * record.classes * assignments
    return Operations(experts=record.flops - gate - combine, gate=gate, combine=combine)
