"""The account of one case: where each picosecond of its measured median went.

Parts are whole picoseconds and sum to the measured median exactly: `unattributed` is what the others leave, and it is
always shown, also below zero. The floors come first. The other parts come from steps (`reports.account.steps`) if the
form was measured in steps, else from a trace (`reports.account.traced`), and then the replay of the call as a CUDA
graph may give the cost of launching. Without any of these, all beyond the floors is unattributed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from reports.account import parts
from reports.account.parts import UNATTRIBUTED, Part, picoseconds
from reports.account.steps import Added, BySteps, by_steps
from reports.account.traced import ANOTHER_STATE, by_trace, stages, tells
from reports.numbers import units
from reports.reading.load import MeasuredCase
from reports.records.record import CaseRecord
from reports.speed.floors import Floor

LARGE = 0.1
"""What is unattributed needs a reason if it is this share of the call or more."""

Basis = Literal["steps", "graph and trace", "graph", "trace", "floors"]


@dataclass(frozen=True)
class Waterfall:
    """A case's parts, whose picoseconds sum to `total` exactly; the last one is `unattributed`.

    `theoretical` is what the case would take if all of the counted saving over the best dense form were realised, None
    without a dense form. `added` is what each step added. `notes` say that the case undercuts its floor and
    why much is unattributed.
    """

    case: MeasuredCase
    basis: Basis
    total: int
    parts: tuple[Part, ...]
    theoretical: int | None
    added: tuple[Added, ...]
    notes: tuple[str, ...]

    @property
    def unattributed(self) -> float:
        """Its share of the call; 0 if the call takes no picosecond."""
        return self.parts[-1].picoseconds / max(self.total, 1)

    @property
    def below(self) -> list[Part]:
        """The parts below zero, of steps or stages that make the call faster."""
        return [part for part in self.parts if part.picoseconds < 0]

    @property
    def losses(self) -> list[Part]:
        """The parts above zero that come on top of the floors, the largest first."""
        on_top = [part for part in self.parts if part.picoseconds > 0 and part.name not in parts.FLOORS]
        return sorted(on_top, key=lambda part: -part.picoseconds)

    def share(self, picoseconds: int) -> float:
        """Return the share that a part has of all parts above zero, whose shares sum to 1."""
        return picoseconds / max(sum(part.picoseconds for part in self.parts if part.picoseconds > 0), 1)


@dataclass(frozen=True)
class Shown:
    """The times of a waterfall as text in one `unit`: its `parts` by name, which add up to the `call` as shown.

    `theoretical` and `dense`, the best dense form's time, are "" if they are not known.
    """

    unit: str
    call: str
    parts: Mapping[str, str]
    theoretical: str
    dense: str


def waterfall(
    case: MeasuredCase,
    median: float,
    floor: Floor | None,
    steps: Sequence[MeasuredCase] = (),
    theoretical: float | None = None,
) -> Waterfall:
    """Return the account of `case`, whose parts sum to its measured `median` in seconds.

    Of its `steps` only those measured in the same blocks count; `theoretical` is in seconds.
    """
    split = by_steps(case, {step.record.step: step for step in steps if step.interleaved_with(case)}, floor)
    basis = _basis(split, tells(case.record, median))
    known = [*parts.floors(floor), *(split.parts if split else ())]
    if basis in ("graph and trace", "trace"):
        known += by_trace(case.record, floor, launch=floor.launch if floor and not split else 0.0)
    total = picoseconds(median)
    rest = total - sum(part.picoseconds for part in known)
    interval = split.rest if split and basis != "graph and trace" else (None, None)
    left = replace(Part.of(UNATTRIBUTED, 0, *interval), picoseconds=rest)
    return Waterfall(
        case=case,
        basis=basis,
        total=total,
        parts=(*sorted(known, key=lambda part: part.place), left),
        theoretical=None if theoretical is None else picoseconds(theoretical),
        added=split.added if split else (),
        notes=tuple(_notes(case, median, floor, left, split)),
    )


def shown(fall: Waterfall, dense: float | None = None, unit_of: int | None = None) -> Shown:
    """Return the times of a waterfall as text, with the best dense form's median `dense` in seconds.

    Four digits are shown of the call, or of the time `unit_of` in picoseconds.
    """
    call, texts, unit = units.seconds_adding_up(fall.total, [part.picoseconds for part in fall.parts], unit_of)
    decimals = len(call.partition(".")[2])
    others = (fall.theoretical, None if dense is None else picoseconds(dense))
    theoretical, base = ("" if time is None else units.seconds_in(time, unit, decimals) for time in others)
    return Shown(unit, call, dict(zip((part.name for part in fall.parts), texts, strict=True)), theoretical, base)


def _basis(split: BySteps | None, traced: bool) -> Basis:
    """Return what the parts come from; a `split` case to which nothing is added has only its replay."""
    if split and split.added:
        return "steps"
    if split:
        return "graph and trace" if traced else "graph"
    return "trace" if traced else "floors"


def _notes(case: MeasuredCase, call: float, floor: Floor | None, left: Part, split: BySteps | None) -> Iterator[str]:
    if floor is not None and floor.seconds > call:
        reading = ", and work that mostly reads may pass the rate of a copy" if floor.limit == "bandwidth" else ""
        yield f"It undercuts its floor of {units.seconds(floor.seconds)}: a ceiling lies too low for it{reading}."
    if abs(left.picoseconds) >= LARGE * picoseconds(call):
        if split and split.added:
            yield _beside_steps(case.record, left, split)
        else:
            yield _beside_trace(case.record, call, left, replayed=split is not None)


def _beside_trace(record: CaseRecord, call: float, left: Part, replayed: bool) -> str:
    """Say why a trace, or its absence, leaves much unattributed; `replayed` says that the form was, as a graph."""
    traced, size = sum(stages(record).values()), units.signed_picoseconds(abs(left.picoseconds))
    seen, gpu = units.seconds(traced), record.device == "cuda"
    beyond = f"all beyond the floors{' and the host' if replayed else ''} is unattributed"
    if not record.traced:
        return f"The form was neither measured in steps nor traced, so {beyond}."
    if traced >= ANOTHER_STATE * call:
        done = "kernels" if gpu else "call"
        return f"The profiled {done} took {seen}, so its stages say nothing about this one and are in no part."
    if not tells(record, call):
        return f"The form hides its stages in one whole, so {beyond}."
    if gpu:
        rest = f"{size} beyond what is left of the call" if left.picoseconds < 0 else f"so {size} lie outside them"
        return f"The kernels of its stages take {seen} when profiled, {rest}."
    if left.picoseconds < 0:
        return f"A profiled call is slower than a timed one: its stages take {seen}, {size} beyond the call."
    return f"Even slowed by the profiler the stages take {seen} only, so {size} lie outside them."


def _beside_steps(record: CaseRecord, left: Part, split: BySteps) -> str:
    """Say why steps leave much unattributed."""
    done = {work for added in split.added for work in added.works}
    missing = [work for work in parts.done_by(record, parts.WORK) if work not in done]
    if missing:
        return f"No step that includes {units.listing(missing)} was measured, so that is unattributed."
    if left.low is not None and left.high is not None and left.low <= 0 <= left.high:
        low, high = map(units.signed_picoseconds, (left.low, left.high))
        return f"The call differs from its last step by no more than noise, {low} to {high}."
    size, slower = units.signed_picoseconds(abs(left.picoseconds)), "longer" if left.picoseconds > 0 else "less"
    return f"The call takes {size} {slower} than the steps that do all of its work, and nothing measured says why."
