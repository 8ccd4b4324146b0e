"""The answer in words: how much faster a head could be in theory, how much it is, and at which sizes it is not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reports.numbers import units
from reports.numbers.stats import Verdict
from reports.records.record import Status
from reports.speed.analysis import KINDS, MAP_SUITE, Analysis, Comparison, Speedup
from reports.speed.floors import Floor
from reports.speed.settings import CLOCKS, DEVICES, machine


@dataclass(frozen=True)
class Answer:
    """What one MoE head reached on one machine, at its `best`: the figures, and sentences that explain them."""

    best: Comparison
    floor: Floor | None
    head: str
    shape: str
    machine: str
    summary: str  # the first sentence, fit for a terminal
    sentence: str


def answers(analysis: Analysis) -> list[Answer]:
    """Return an answer for each MoE head and machine, from the head alone and the wall clock if both were measured.

    The setting with the greatest speed-up speaks for the head, so the answer is the best it got. The many heads of a
    break-even map have their answers in the map.
    """
    chosen: dict[tuple[str, str], Speedup] = {}
    for speedup in (speedup for speedup in analysis.speedups if speedup.setting.suite != MAP_SUITE):
        key = (analysis.labels[speedup.head], machine(speedup.setting))
        if key not in chosen or _prominence(speedup) > _prominence(chosen[key]):
            chosen[key] = speedup
    order = sorted(chosen.items(), key=lambda item: (item[1].setting.rank(), KINDS.index(item[1].head.kind), item[0]))
    return [_answer(analysis, label, speedup) for (label, _), speedup in order]


def headline(analysis: Analysis) -> list[str]:
    """Return three lines for a terminal: the sparse heads' best, the soft heads' best, and what was measured."""
    matched_first = sorted(answers(analysis), key=lambda answer: not answer.best.matched)
    lines = []
    for kind in ("sparse", "soft"):
        summaries = [answer.summary for answer in matched_first if answer.best.case.record.head == kind]
        lines += summaries[:1] or [f"No {kind} head was measured beside a dense one."]
    return [*lines, tally(analysis)]


def tally(analysis: Analysis) -> str:
    """Return how many cases were measured, and what happened to the others."""
    results = analysis.results
    kinds = {
        Status.WRONG: "gave wrong logits",
        Status.FAILED: "failed",
        Status.UNAVAILABLE: "cannot run here",
        Status.SKIPPED: "skipped",
    }
    parts = [f"{units.plural(len(results.cases), 'case')} measured"]
    for status, words in kinds.items():
        number = sum(record.status is status for record in results.not_measured)
        if number:
            parts.append(f"{units.count(number)} {words}")
    return f"{', '.join(parts)}."


def message(speedups: Sequence[Speedup], label: str) -> str:
    """Say in one sentence what the speed-ups of one head in one setting show."""
    best = max((speedup.best for speedup in speedups), key=lambda comparison: comparison.realised.value)
    possible = f", attainable {units.factor(best.attainable)}" if best.attainable is not None else ""
    return (
        f"The {label}: theoretical {units.factor(best.theoretical)}{possible}, realised at best "
        f"{units.factor(best.realised.value)}, at {_rows(best)} ({best.case.record.form}); {_range(speedups)}."
    )


def weaknesses(comparison: Comparison) -> list[str]:
    """Return what weakens a comparison: an `unpaired` or `unmatched` dense case, or stored weights."""
    notes = {
        "unpaired": comparison.realised.paired,
        "unmatched": comparison.matched,
        "lower precision": not comparison.case.record.scheme,
    }
    return [note for note, sound in notes.items() if not sound]


def _prominence(speedup: Speedup) -> tuple[bool, bool, bool, bool, bool, bool, bool, bool, float]:
    """Return a key to choose the answer by: matched, paired and clearly faster pairs rank highest.

    A forward pass ranks above training, rows as they are above rows made for a routing, warm caches above cold ones.
    """
    setting, best = speedup.setting, speedup.best
    return (
        best.matched,
        setting.passes == "forward",
        setting.routing == "",
        setting.cache == "warm",
        setting.part == "head",
        setting.clock == "wall",
        best.realised.paired,
        best.verdict is Verdict.FASTER,
        best.realised.value,
    )


def _answer(analysis: Analysis, label: str, speedup: Speedup) -> Answer:
    best = speedup.best
    record, floor = best.case.record, analysis.floors.get(best.case)
    where = f"this {DEVICES[record.device]}"
    if len({machine(setting) for setting in analysis.settings}) > 1:
        where = f"the {DEVICES[record.device]} {speedup.setting.device_name}"
    against = f"{record.form} against {best.base.record.form} dense"
    passes = ", forward and backward" if record.passes == "training" else ""
    weights = f", weights in {record.scheme}" if record.scheme else ""
    samples = units.count(best.realised.samples)
    details = f"{against}{passes}, {CLOCKS[record.clock]}, {record.dtype}{weights}, n = {samples}"
    warning = "" if best.matched else " The dense head has another size, so this says little."
    summary = (
        f"The {label} {_operations(best)}; {_floors(best, floor)}{_realised(best, where)} ({_certainty(best)}) at "
        f"{_rows(best)} ({details})."
        f"{warning}"
    )
    sizes = _range(analysis.of(speedup.setting, speedup.head))
    return Answer(
        best=best,
        floor=floor,
        head=label,
        shape="; ".join(filter(None, (speedup.head.shape, record.shrunk))),
        machine=machine(speedup.setting),
        summary=summary,
        sentence=f"{summary} {sizes[0].upper()}{sizes[1:]}.",
    )


def _operations(best: Comparison) -> str:
    if best.theoretical > 1.005:
        return f"needs {units.factor(best.theoretical)} fewer operations than the dense head"
    if best.theoretical < 0.995:
        return f"needs {units.factor(1 / best.theoretical)} the operations of the dense head"
    return "needs as many operations as the dense head"


def _floors(best: Comparison, floor: Floor | None) -> str:
    """Return what the machine could give, as a clause; "" if it is not known."""
    if best.attainable is None or floor is None:
        return ""
    return f"the machine allows {units.factor(best.attainable)}, limited by {floor.limit}; "


def _realised(best: Comparison, where: str) -> str:
    sentence = f"on {where} it is at best {units.factor(best.realised.value)} as fast"
    return f"{sentence}, not clear of noise" if best.verdict is Verdict.UNCLEAR else sentence


def _certainty(best: Comparison) -> str:
    interval = units.factor_interval(best.realised)
    return interval if best.realised.low is None else f"{units.INTERVAL} {interval}"


def _range(speedups: Sequence[Speedup]) -> str:
    """Return the numbers of rows at which the head is slower, as fast and faster, as a clause."""
    verdicts = {speedup.rows: speedup.best.verdict for speedup in speedups}
    clauses = []
    for verdict, word in ((Verdict.SLOWER, "slower"), (Verdict.SAME, "as fast"), (Verdict.FASTER, "faster")):
        rows = sorted(size for size, reached in verdicts.items() if reached is verdict)
        if rows:
            clauses.append(f"{word} {_where(rows, sorted(verdicts))}")
    if not clauses:
        return f"no difference is clear ({_span(verdicts)})"
    return f"it is {units.listing(clauses)}"


def _where(rows: list[int], measured: list[int]) -> str:
    if len(rows) == len(measured):
        return f"at every size measured ({_span(rows)})"
    if len(rows) > 1 and rows == measured[: len(rows)]:
        return f"up to {units.row_counts(rows[-1:])}"
    if len(rows) > 1 and rows == measured[-len(rows) :]:
        return f"from {units.row_counts(rows[:1])} on"
    return f"at {units.row_counts(rows)}"


def _span(rows: Iterable[int]) -> str:
    sizes = sorted(rows)
    return units.row_counts(sizes) if len(sizes) < 3 else f"{units.count(sizes[0])} to {units.row_counts(sizes[-1:])}"


def _rows(comparison: Comparison) -> str:
    return units.plural(comparison.case.record.rows, "row")
