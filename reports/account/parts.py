"""The parts that a call's time is divided into, their order, and what of the floors lies in each.

A part stands for one thing that a call does, or for several that no measurement tells apart; then it carries all their
names in short. What the floors count stands in the floors alone: a part holds what its work takes beyond them. Tiles
padded for experts of unequal load count as imbalance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reports.records.record import CaseRecord
from reports.speed.floors import Floor, operations

ARITHMETIC, MEMORY, LAUNCH = "arithmetic at peak", "memory floor", "launch floor"
IMBALANCE, GEMM, PRODUCTS = "expert imbalance", "GEMM inefficiency", "expert products"
GATE, CHOICE, DISPATCH, COMBINE = "gate", "top-k", "dispatch", "combine"
FUSED, OUTSIDE, HOST, UNATTRIBUTED = "fused kernel", "outside all stages", "launch and host", "unattributed"
FLOORS = (ARITHMETIC, MEMORY, LAUNCH)
WORK = (IMBALANCE, GEMM, GATE, CHOICE, DISPATCH, COMBINE)
LAST = (FUSED, OUTSIDE, HOST, UNATTRIBUTED)

_SHORT = {IMBALANCE: "imbalance", GEMM: "GEMM", PRODUCTS: "products"}
_DONE = {
    "dense": {GEMM},
    "soft": {GEMM, GATE, CHOICE, COMBINE},  # every expert serves every row: nothing to balance, nothing to send
    "sparse": set(WORK),
}


@dataclass(frozen=True)
class Draft:
    """A part in seconds, with an interval where its blocks allow one; `works` are those of `WORK` it stands for."""

    name: str
    seconds: float
    low: float | None = None
    high: float | None = None
    works: tuple[str, ...] = ()

    @property
    def place(self) -> int:
        """Where it stands among the parts of a call."""
        return min(map((*FLOORS, *WORK, *LAST).index, self.works or (self.name,)))


def done_by(record: CaseRecord, works: Sequence[str]) -> tuple[str, ...]:
    """Return those of `works` that a head of this kind does."""
    return tuple(work for work in works if work in _DONE[record.head])


def name(works: Sequence[str], floor: Floor | None) -> str:
    """Return what a part that stands for `works` is called; without a floor, its products hold all their time."""
    called = [PRODUCTS if work == GEMM and floor is None else work for work in sorted(works, key=WORK.index)]
    return called[0] if len(called) == 1 else " + ".join(_SHORT.get(work, work) for work in called)


def floors(floor: Floor | None) -> list[Draft]:
    """Return the parts that a machine needs at least."""
    if floor is None:
        return []
    return [Draft(ARITHMETIC, floor.arithmetic), Draft(MEMORY, floor.memory), Draft(LAUNCH, floor.launch)]


def floor_within(works: Sequence[str], record: CaseRecord, floor: Floor | None) -> float:
    """Return the seconds of the floors, the launch apart, that lie in the time of `works`.

    Products hold their arithmetic and all that movement adds, the gate and the combination their own arithmetic.
    """
    if floor is None:
        return 0.0
    counted, peak = operations(record), floor.ceilings.flops_per_s
    within = {
        GEMM: counted.experts / peak + floor.memory,
        GATE: counted.gate / peak,
        COMBINE: counted.combine / peak,
    }
    return sum(within.get(work, 0.0) for work in works)
