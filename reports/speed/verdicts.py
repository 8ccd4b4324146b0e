"""The answer in plain words: how much was promised, how much arrived, and where it does not pay."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reports.numbers import units
from reports.numbers.stats import Verdict
from reports.reading.load import Case
from reports.records.record import Status
from reports.speed.analysis import KINDS, MAP_SUITE, Analysis, Comparison, Setting, Speedup
from reports.speed.floors import Floor

_DEVICES = {"cpu": "CPU", "cuda": "GPU"}
ROUTINGS = {
    "balanced": "every expert as often",
    "uniform": "experts drawn evenly",
    "zipf1": "experts drawn as Zipf(1)",
    "zipf2": "experts drawn as Zipf(2)",
    "hot": "one hot expert",
    "one": "all rows on the same experts",
}
_CLOCKS = {"wall": "wall clock", "device": "device clock", "graph": "a CUDA graph's replay"}


@dataclass(frozen=True)
class Answer:
    """What one MoE head reached on one machine, by its best `case`: figures and the sentence that explains them."""

    case: Case
    kind: str
    head: str
    shape: str
    machine: str
    theoretical: str
    attainable: str  # "" where no floors are known
    limit: str  # what bounds the head on this machine
    realised: str
    interval: str
    verdict: Verdict
    matched: bool  # the dense head it is held against has the same size
    summary: str  # the first sentence, fit for a terminal
    sentence: str


def machine(setting: Setting) -> str:
    """Return whose timings they are: a CPU's are called so."""
    threads = f", {units.plural(setting.threads, 'thread')}" if setting.device == "cpu" else ""
    return f"{_DEVICES[setting.device]} timings on {setting.device_name}{threads}"


def title(setting: Setting) -> str:
    """Return a setting in words, the machine apart."""
    part = "Head alone" if setting.part == "head" else "Whole classifier"
    axes = [", cold caches"] if setting.cache == "cold" else []
    axes += [f", {ROUTINGS[setting.routing]}"] if setting.routing else []
    return f"{part}, {setting.dtype}, {_CLOCKS[setting.clock]}{''.join(axes)}, suite {setting.suite}"


def answers(analysis: Analysis) -> list[Answer]:
    """Return an answer for each MoE head and machine, from the head alone and the wall clock where there are such.

    The setting with the greatest speed-up speaks for the head, so that the answer is the best it got. The many heads of
    the suite that draws a map of break-even have theirs in that map.
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
    found = answers(analysis)
    lines = []
    for kind in ("sparse", "soft"):
        own = sorted((answer for answer in found if answer.kind == kind), key=lambda answer: not answer.matched)
        lines.append(own[0].summary if own else f"No {kind} head was measured beside a dense one.")
    return [*lines, tally(analysis)]


def tally(analysis: Analysis) -> str:
    """Return how many cases were measured and what became of the others."""
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
    """Return what the speed-ups of one head in one setting show, in one sentence."""
    best = max((speedup.best for speedup in speedups), key=lambda comparison: comparison.realised.value)
    possible = f", could reach {units.factor(best.attainable)}" if best.attainable is not None else ""
    return (
        f"The {label} promises {units.factor(best.theoretical)}{possible} and reaches at best "
        f"{units.factor(best.realised.value)}, at {_rows(best)} ({best.case.record.form}); {_range(speedups)}."
    )


def _prominence(speedup: Speedup) -> tuple[bool, bool, bool, bool, bool, bool, bool, float]:
    """Return a key by which the answer is chosen: a comparable, paired and clearly faster pair comes first.

    Rows as they are come before those made for a routing, and warm caches before cold ones.
    """
    setting, best = speedup.setting, speedup.best
    return (
        best.matched,
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
    where = f"this {_DEVICES[record.device]}"
    if len({machine(setting) for setting in analysis.settings}) > 1:
        where = f"the {_DEVICES[record.device]} {speedup.setting.device_name}"
    against = f"{record.form} against {best.base.record.form} dense"
    details = f"{against}, {_CLOCKS[record.clock]}, {record.dtype}, n = {units.count(best.realised.samples)}"
    warning = "" if best.matched else " The dense head it is held against has another size, so this says little."
    summary = (
        f"The {label} {_operations(best)}; {_floors(best, floor)}{_realised(best, where)} ({_certainty(best)}) at "
        f"{_rows(best)} ({details})."
        f"{warning}"
    )
    beyond = _range(analysis.of(speedup.setting, speedup.head))
    return Answer(
        case=best.case,
        kind=speedup.head.kind,
        head=label,
        shape="; ".join(filter(None, (speedup.head.shape, record.shrunk))),
        machine=machine(speedup.setting),
        theoretical=units.factor(best.theoretical),
        attainable="" if best.attainable is None else units.factor(best.attainable),
        limit=floor.limit if floor else "",
        realised=units.factor(best.realised.value),
        interval=units.factor_interval(best.realised),
        verdict=best.verdict,
        matched=best.matched,
        summary=summary,
        sentence=f"{summary} {beyond[0].upper()}{beyond[1:]}.",
    )


def _operations(best: Comparison) -> str:
    if best.theoretical > 1.005:
        return f"needs {units.factor(best.theoretical)} fewer operations than the dense head"
    if best.theoretical < 0.995:
        return f"needs {units.factor(1 / best.theoretical)} the operations of the dense head"
    return "needs as many operations as the dense head"


def _floors(best: Comparison, floor: Floor | None) -> str:
    """Return what the machine could give, as a clause, or nothing where it is not known."""
    if best.attainable is None or floor is None:
        return ""
    return f"floors allow {units.factor(best.attainable)}, bounded by {floor.limit}; "


def _realised(best: Comparison, where: str) -> str:
    value = units.factor(best.realised.value)
    return {
        Verdict.FASTER: f"the best it got on {where} was {value} its speed",
        Verdict.SAME: f"on {where} it was at best as fast, {value} its speed",
        Verdict.SLOWER: f"on {where} it reached at best {value} its speed",
        Verdict.UNCLEAR: f"the best it got on {where} was {value} its speed, not clear of noise",
    }[best.verdict]


def _certainty(best: Comparison) -> str:
    interval = units.factor_interval(best.realised)
    return interval if best.realised.low is None else f"{units.INTERVAL} {interval}"


def _range(speedups: Sequence[Speedup]) -> str:
    """Return at which numbers of rows the head is slower, as fast and faster, as a clause."""
    verdicts = {speedup.rows: speedup.best.verdict for speedup in speedups}
    clauses = []
    for verdict, word in ((Verdict.SLOWER, "slower"), (Verdict.SAME, "as fast"), (Verdict.FASTER, "faster")):
        rows = sorted(size for size, found in verdicts.items() if found is verdict)
        if rows:
            clauses.append(f"{word} {_where(rows, sorted(verdicts))}")
    if not clauses:
        return f"no difference is clear ({_span(verdicts)})"
    return f"it is {units.listing(clauses)}"


def _where(rows: list[int], measured: list[int]) -> str:
    if len(rows) == len(measured):
        return f"at every size measured ({_span(rows)})"
    if len(rows) > 1 and rows == measured[: len(rows)]:
        return f"up to {_sizes(rows[-1:])}"
    if len(rows) > 1 and rows == measured[-len(rows) :]:
        return f"from {_sizes(rows[:1])} on"
    return f"at {_sizes(rows)}"


def _sizes(rows: list[int]) -> str:
    return f"{units.listing([units.count(size) for size in rows])} {'row' if rows == [1] else 'rows'}"


def _span(rows: Iterable[int]) -> str:
    sizes = sorted(rows)
    return _sizes(sizes) if len(sizes) < 3 else f"{units.count(sizes[0])} to {_sizes(sizes[-1:])}"


def _rows(comparison: Comparison) -> str:
    return units.plural(comparison.case.record.rows, "row")
