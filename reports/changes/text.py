"""What a comparison of two runs says: sentences, and the cells of its tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from reports.changes.changes import WORST_FIRST, Change, Changes, Mean
from reports.changes.conditions import SIDES
from reports.numbers import units
from reports.numbers.stats import Estimate
from reports.output.blocks import Table, numeric, worded

NAMED = 10
"""How many cases of one run alone are named."""
_SUMMARY = numeric("cases", "speed-up", units.INTERVAL, "time", *WORST_FIRST)
_CASES = (*worded("case"), *numeric("base", "new", "speed-up", units.INTERVAL, "time"), *worded("verdict"))


def between(changes: Changes) -> str:
    """Return which two runs these are, in one sentence."""
    base, new = (f"commit {run.commit}, last measured {run.measured}" for run in changes.runs)
    return f"From {base}, to {new}."


def message(changes: Changes) -> str:
    """Return the outcome in one sentence."""
    overall = changes.overall
    if overall is None:
        return "No case has a time in both runs."
    tally = [f"{units.count(number)} {word}" for word in WORST_FIRST if (number := overall.verdicts[word])]
    total = units.plural(len(changes.changes), "case")
    ends = f", {interval(overall.ratio)}" if overall.ratio.low is not None else ""
    return (
        f"Of {total} with a time in both runs {units.listing(tally)}, by a least effect of "
        f"{units.percent(changes.least)}; over all of them NEW takes {_more(overall.ratio)} time (speed-up "
        f"{units.factor(overall.ratio.value)}, a geometric mean{ends})."
    )


def notes(changes: Changes) -> Iterator[str]:
    """Yield how the cases were compared, and which cases only one run has."""
    total = len(changes.changes)
    paired = sum(change.ratio.paired for change in changes.changes)
    rough = sum(change.by_quartiles for change in changes.changes)
    if paired:
        yield f"Compared block by block, because both files hold the same blocks: {_share(paired, total)}."
    if rough:
        yield (
            "With an interval from quartiles, as if samples were independent, because a file was saved without samples "
            f"(--benchmark-save-data keeps them): {_share(rough, total)}."
        )
    yield from _aside("With a time in NEW and none in BASE, which says why", changes.gained)
    yield from _aside("With a time in BASE and missing from NEW", changes.only_base)
    yield from _aside("With a time in NEW and missing from BASE", changes.only_new)


def lost(changes: Changes) -> list[str]:
    """Return a sentence for each case that lost its time."""
    return [
        f"{each.case} had a time and is now {each.status.upper()}: {each.reason or 'no reason is given'}"
        for each in changes.lost
    ]


def runs(changes: Changes) -> Table:
    """Return which two runs these are."""
    columns = worded("run", "file", "commit", "last measured", "machine")
    rows = tuple(
        (side, run.file, run.commit, run.measured, run.machine) for side, run in zip(SIDES, changes.runs, strict=True)
    )
    return Table("The two runs", columns, rows)


def summary(changes: Changes) -> Table:
    """Return the geometric mean of each family, the worst first, and that of all cases."""
    means = [*changes.families, *([changes.overall] if changes.overall else [])]
    columns = (*worded(changes.kind), *_SUMMARY)
    return Table("Geometric means, the worst first", columns, tuple(_mean_row(each) for each in means))


def cases(caption: str, changes: Iterable[Change]) -> Table:
    """Return `changes` in their order, one per row."""
    return Table(caption, _CASES, tuple(_case_row(change) for change in changes))


def interval(ratio: Estimate, by_quartiles: bool = False) -> str:
    """Return the interval of a ratio, or why there is none."""
    if ratio.low is None and by_quartiles:
        return f"no interval from quartiles of {units.plural(ratio.samples, 'round')}"
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


def _case_row(change: Change) -> tuple[str, ...]:
    return (
        change.case,
        units.seconds(change.base),
        units.seconds(change.new),
        units.factor(change.ratio.value),
        interval(change.ratio, change.by_quartiles),
        time(change.ratio),
        change.verdict,
    )


def _share(part: int, whole: int) -> str:
    return f"{units.count(part)} of {units.plural(whole, 'case')}"


def _aside(what: str, cases: Sequence[str]) -> Iterator[str]:
    if cases:
        yield f"{what}: {units.plural(len(cases), 'case')} ({units.some(cases, NAMED)})."
