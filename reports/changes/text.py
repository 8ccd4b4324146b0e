"""What a comparison of two runs says: sentences, and the cells of its tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import PurePath

from reports.changes.change import Change
from reports.changes.changes import WORST_FIRST, Changes, Mean
from reports.changes.conditions import SIDES
from reports.numbers import units
from reports.numbers.groups import grouped
from reports.numbers.stats import Estimate, Verdict
from reports.output.blocks import Table, numeric, worded

BESIDE = "beside the anchor"
"""The speed-up if the anchor, work that never changes, had taken as long in both runs."""
NAMED = 10
"""How many cases of one run alone are named."""
_SUMMARY = numeric("cases", "speed-up", units.INTERVAL, "time", *WORST_FIRST)
_CASES = (*worded("case"), *numeric("base", "new", "speed-up", units.INTERVAL, "time"), *worded("verdict"))


def between(changes: Changes) -> str:
    """Return which runs these are, in one sentence."""
    base, new = (
        units.listing(
            [f"commit {run.commit}, last measured {run.measured}" for run in changes.runs if run.side == side]
        )
        for side in SIDES
    )
    return f"From {base}, to {new}."


def message(changes: Changes) -> str:
    """Return the outcome in one sentence."""
    if not changes.changes:
        return "No case has a time in both runs."
    tally = [f"{units.count(number)} {word}" for word in WORST_FIRST if (number := len(changes.of(word)))]
    total = units.plural(len(changes.changes), "case")
    least = units.percent(changes.least)
    verdicts = f"Of {total} with a time in both runs {units.listing(tally)}, by a least effect of {least}"
    overall = changes.overall
    if overall is None:
        return f"{verdicts}; all of them are in doubt."
    ends = f", {interval(overall.ratio)}" if overall.ratio.low is not None else ""
    over = "all of them" if len(changes.sound) == len(changes.changes) else "those not in doubt"
    speed_up = f"speed-up {units.factor(overall.ratio.value)}, a geometric mean{ends}"
    return f"{verdicts}; over {over} NEW takes {_more(overall.ratio)} time ({speed_up})."


def notes(changes: Changes) -> Iterator[str]:
    """Yield how the cases were compared, and which cases only one run has."""
    total = len(changes.changes)
    paired = sum(change.ratio.paired for change in changes.changes)
    rough = sum(change.by_quartiles for change in changes.changes)
    if paired:
        yield f"Compared block by block, because both files hold the same blocks: {_share(paired, total)}."
    if rough:
        yield (
            "With an interval from quartiles, or least and greatest of few rounds, as if samples were independent, "
            f"because a file was saved without samples (--benchmark-save-data keeps them): {_share(rough, total)}."
        )
    if several(changes):
        yield (
            f"From several runs a side: speed-ups are those of mean medians, and a {units.INTERVAL} holds what runs of "
            "one side differ by."
        )
    for doubt, cases in grouped((each for each in changes.changes if each.doubt), lambda each: each.doubt).items():
        verdicts = "UNCLEAR" if all(case.verdict is Verdict.UNCLEAR for case in cases) else "judged all the same"
        names = units.some([case.case for case in cases], NAMED)
        yield f"In doubt and {verdicts}, because {doubt}: {_share(len(cases), total)} ({names})."
    yield from _aside("With a time in NEW and none in BASE, which says why", changes.gained)
    yield from _aside("With a time in BASE and missing from NEW", changes.only_base)
    yield from _aside("With a time in NEW and missing from BASE", changes.only_new)


def lost(changes: Changes) -> list[str]:
    """Return a sentence for each case that lost its time."""
    return [
        f"{each.case} had a time and is now {each.status.upper()}: {each.reason or 'no reason is given'}"
        for each in changes.lost
    ]


def side_by_side(comparisons: Sequence[Changes], *, same: bool = True) -> Table:
    """Return all cases of several runs compared with one, a column each: the ratio to the first run, and the verdict.

    Without `same`, cases that are SAME in every run are left out. The last row has the geometric means.
    """
    names = _short([changes.runs[-1].file for changes in comparisons])
    columns = (*worded("case"), *numeric("first"), *numeric(*names))
    found = [{each.case: each for each in changes.changes} for changes in comparisons]
    lost = [{each.case: each.status.upper() for each in changes.lost} for changes in comparisons]
    cases = dict.fromkeys([*chain.from_iterable(found), *chain.from_iterable(lost)])
    shown = [case for case in cases if same or any(_verdict(run, case) is not Verdict.SAME for run in found)]
    rows = [
        (
            case,
            next((units.seconds(run[case].base) for run in found if case in run), ""),
            *(_cell(run.get(case), gone.get(case, "missing")) for run, gone in zip(found, lost, strict=True)),
        )
        for case in shown
    ]
    means = [changes.overall for changes in comparisons]
    total = ("all cases", "", *(units.factor(mean.ratio.value) if mean else "in doubt" for mean in means))
    return Table("Speed-up over the first run", columns, (*rows, total))


def _verdict(run: Mapping[str, Change], case: str) -> Verdict | None:
    return run[case].verdict if case in run else None


def _cell(change: Change | None, without: str) -> str:
    return f"{units.factor(change.ratio.value)} {change.verdict}" if change else without


def _short(files: Sequence[str]) -> list[str]:
    """Return the names of files without their folders, or whole if two are alike."""
    names = [PurePath(file).name for file in files]
    return names if len(set(names)) == len(names) else list(files)


def several(changes: Changes) -> bool:
    """Return whether a side has several runs."""
    return len(changes.runs) > len(SIDES)


def untimed(changes: Changes) -> list[str]:
    """Return a sentence for each case without a ratio."""
    return [f"{each.case} has no ratio: {each.reason}." for each in changes.untimed]


def runs(changes: Changes) -> Table:
    """Return which runs these are."""
    columns = worded("run", "file", "commit", "last measured", "machine")
    rows = tuple((run.side, run.file, run.commit, run.measured, run.machine) for run in changes.runs)
    return Table("The runs", columns, rows)


def summary(changes: Changes) -> Table:
    """Return the geometric mean of each family, the worst first, and that of all cases."""
    means = [*changes.families, *([changes.overall] if changes.overall else [])]
    columns = (*worded(changes.kind), *_SUMMARY)
    without = "" if len(changes.sound) == len(changes.changes) else " of cases not in doubt"
    return Table(f"Geometric means{without}, the worst first", columns, tuple(_mean_row(each) for each in means))


def cases(caption: str, changes: Sequence[Change]) -> Table:
    """Return `changes` in their order, one per row; beside the raw speed-up that by the anchor, if any is known."""
    anchored = any(change.anchor is not None for change in changes)
    columns = (*_CASES[:5], *(numeric(BESIDE) if anchored else ()), *_CASES[5:])
    return Table(caption, columns, tuple(_case_row(change, anchored) for change in changes))


def interval(ratio: Estimate, by_quartiles: bool = False) -> str:
    """Return the interval of a ratio, or why there is none."""
    if ratio.low is None and by_quartiles:
        return f"no interval from the summary of {units.plural(ratio.samples, 'round')}"
    return units.factor_interval(ratio)


def time(ratio: Estimate) -> str:
    """Return how much more time NEW takes than BASE, such as +5.0 %."""
    percent = round(100 * (1 / ratio.value - 1), 1) + 0.0  # no minus before zero
    return f"{percent:+,.1f} %".replace("-", units.MINUS)


def _more(ratio: Estimate) -> str:
    words = time(ratio)
    if words == "+0.0 %":
        return "as much"
    return f"{words[1:]} {'less' if words.startswith(units.MINUS) else 'more'}"


def _mean_row(mean: Mean) -> tuple[str, ...]:
    return (
        mean.name,
        units.count(mean.verdicts.total()),
        units.factor(mean.ratio.value),
        "" if mean.ratio.low is None else interval(mean.ratio),
        time(mean.ratio),
        *(units.count(mean.verdicts[word]) for word in WORST_FIRST),
    )


def _case_row(change: Change, anchored: bool) -> tuple[str, ...]:
    normalised = change.normalised
    return (
        change.case,
        units.seconds(change.base),
        units.seconds(change.new),
        units.factor(change.ratio.value),
        interval(change.ratio, change.by_quartiles),
        *([units.factor(normalised.value) if normalised else ""] if anchored else []),
        time(change.ratio),
        change.verdict,
    )


def _share(part: int, whole: int) -> str:
    return f"{units.count(part)} of {units.plural(whole, 'case')}"


def _aside(what: str, cases: Sequence[str]) -> Iterator[str]:
    if cases:
        yield f"{what}: {units.plural(len(cases), 'case')} ({units.some(cases, NAMED)})."
