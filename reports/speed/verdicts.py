"""The answer in words: at which sizes a head is faster, as fast, slower or neither clearly, and by how much at best."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reports.numbers import units
from reports.numbers.groups import grouped
from reports.numbers.stats import Verdict
from reports.output.blocks import Clause
from reports.records.record import Status
from reports.speed.analysis import KINDS, MAP_SUITE, Analysis, Comparison, Setting, Speedup
from reports.speed.floors import Floor
from reports.speed.settings import CLOCKS, DEVICES, machine

_WORDS = {
    Verdict.FASTER: "faster",
    Verdict.SAME: "as fast",
    Verdict.SLOWER: "slower",
    Verdict.UNCLEAR: "unclear",
}


@dataclass(frozen=True)
class Answer:
    """What one MoE head reached on one machine: the verdicts by range of rows, and a sentence on its `best`.

    `speedups` are those of the head in the setting of its best, fewest rows first.
    """

    best: Comparison
    speedups: Sequence[Speedup]
    head: str
    shape: str
    machine: str
    ranges: Sequence[tuple[Verdict, str]]
    sentence: str

    @property
    def setting(self) -> Setting:
        """What all its cases share."""
        return self.speedups[0].setting

    @property
    def clauses(self) -> list[Clause]:
        """The verdicts by range of rows, as a sentence."""
        stated = [Clause(f"{_WORDS[verdict]} {where}", verdict) for verdict, where in self.ranges]
        joints = [*[", "] * (len(stated) - 2), *[" and "] * (len(stated) > 1), "."]
        pairs = zip(stated, map(Clause, joints), strict=True)
        return [Clause(f"The {self.head} is "), *(clause for pair in pairs for clause in pair)]

    @property
    def reach(self) -> str:
        """The verdicts by range of rows, in words."""
        return units.listing([f"{_WORDS[verdict]} {where}" for verdict, where in self.ranges])

    @property
    def summary(self) -> str:
        """That sentence as plain text."""
        return f"The {self.head} is {self.reach}."


def answers(analysis: Analysis) -> list[Answer]:
    """Return an answer for each MoE head and machine, from the head alone and the wall clock if both were measured.

    The setting with the greatest speed-up speaks for the head, at all of its numbers of rows. The many heads of a
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
    """Return lines for a terminal: two on the sparse head, two on the soft one, and what was measured."""
    matched_first = sorted(answers(analysis), key=lambda answer: not answer.best.matched)
    lines = []
    for kind in ("sparse", "soft"):
        first = next((answer for answer in matched_first if answer.best.case.record.head == kind), None)
        lines += [first.summary, first.sentence] if first else [f"No {kind} head was measured beside a dense one."]
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
        f"{units.factor(best.realised.value)}, at {_rows(best)} ({best.case.record.form}); it is "
        f"{units.listing([f'{_WORDS[verdict]} {where}' for verdict, where in ranges(speedups)])}."
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
    speedups = analysis.of(speedup.setting, speedup.head)
    return Answer(
        best=best,
        speedups=speedups,
        head=label,
        shape="; ".join(filter(None, (speedup.head.shape, record.shrunk))),
        machine=machine(speedup.setting),
        ranges=ranges(speedups),
        sentence=f"It {_operations(best)}; {_floors(best, floor)}{_realised(best, where)} ({_certainty(best)}) at "
        f"{_rows(best)} ({details}).{warning}",
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


def ranges(speedups: Sequence[Speedup]) -> list[tuple[Verdict, str]]:
    """Return each verdict on a head and the numbers of rows that have it, in words; that of the fewest rows first."""
    verdicts = {speedup.rows: speedup.best.verdict for speedup in speedups}
    same = grouped(sorted(verdicts), verdicts.__getitem__)
    return [(verdict, _where(rows, sorted(verdicts))) for verdict, rows in same.items()]


def _where(rows: list[int], measured: list[int]) -> str:
    if len(rows) == len(measured):
        return f"at every size measured ({_span(rows)})"
    if len(rows) > 1 and rows == measured[: len(rows)]:
        return f"up to {units.row_counts(rows[-1:])}"
    if len(rows) > 1 and rows == measured[-len(rows) :]:
        return f"from {units.row_counts(rows[:1])} on"
    if len(rows) > 2 and measured[measured.index(rows[0]) :][: len(rows)] == rows:
        return f"from {_span(rows)}"
    return f"at {units.row_counts(rows)}"


def _span(rows: Iterable[int]) -> str:
    sizes = sorted(rows)
    return units.row_counts(sizes) if len(sizes) < 3 else f"{units.count(sizes[0])} to {units.row_counts(sizes[-1:])}"


def _rows(comparison: Comparison) -> str:
    return units.plural(comparison.case.record.rows, "row")
