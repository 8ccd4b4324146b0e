"""The parts of a call's time, their order, and how much of the floors lies in each.

A part stands for one work of a call, or for several that no measurement separates; then its name joins theirs. The time
that the floors count is in the floors only: a part holds what its work takes beyond them. Padding of tiles for experts
of unequal load counts as imbalance.
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
class Part:
    """A part of a call in whole picoseconds, with an interval if its blocks allow one.

    It stands for `works`, which are among `WORK`.
    """

    name: str
    picoseconds: int
    low: int | None = None
    high: int | None = None
    works: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, name: str, seconds: float, low: float | None = None, high: float | None = None, works: tuple[str, ...] = ()
    ) -> Part:
        """Return a part of so many `seconds`, with the ends of its interval."""
        least, most = (None if end is None else picoseconds(end) for end in (low, high))
        return cls(name, picoseconds(seconds), least, most, works)

    @property
    def place(self) -> int:
        """Its place among the parts of a call."""
        return min(map((*FLOORS, *WORK, *LAST).index, self.works or (self.name,)))


def picoseconds(seconds: float) -> int:
    """Return whole picoseconds."""
    return round(seconds * 1e12)


def done_by(record: CaseRecord, works: Sequence[str]) -> tuple[str, ...]:
    """Return the `works` that a head of this kind does."""
    return tuple(work for work in works if work in _DONE[record.head])


def name(works: Sequence[str], floor: Floor | None) -> str:
    """Return the name of a part that stands for `works`; without a floor, products keep all their time."""
    names = [PRODUCTS if work == GEMM and floor is None else work for work in sorted(works, key=WORK.index)]
    return names[0] if len(names) == 1 else " + ".join(_SHORT.get(work, work) for work in names)


def floors(floor: Floor | None) -> list[Part]:
    """Return the parts that the machine needs at least."""
    if floor is None:
        return []
    return [Part.of(ARITHMETIC, floor.arithmetic), Part.of(MEMORY, floor.memory), Part.of(LAUNCH, floor.launch)]


def floor_within(works: Sequence[str], record: CaseRecord, floor: Floor | None) -> float:
    """Return the seconds of the floors, without the launch, that lie in the time of `works`.

    The products hold their arithmetic and all that movement adds; the gate and combine hold their arithmetic.
    """
    if floor is None:
        return 0.0
    counted, peak = operations(record), floor.ceilings.flops_per_s
    within = {GEMM: counted.experts / peak + floor.memory, GATE: counted.gate / peak, COMBINE: counted.combine / peak}
    return sum(within.get(work, 0.0) for work in works)
