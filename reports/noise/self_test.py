"""The self-test: how often the verdicts are wrong where the answer is known, from the samples of `moegap self-test`.

Side b of a comparison is the code of side a, or takes a known share longer, so the true ratio of their times is known.
UNCLEAR is never wrong. FASTER and SLOWER are wrong of identical code; FASTER and SAME are wrong of code that is slower
by more than the least effect.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from reports.numbers import stats, units
from reports.numbers.stats import LEAST_EFFECT, Estimate, Verdict
from reports.output.blocks import Table, numeric, worded
from reports.records.self_test import SelfComparison, SelfTest

MOST_WRONG = 0.05
LEAST_COVERED = 0.95

_COLUMNS = (
    *worded("side b"),
    *numeric(
        "comparisons",
        "FASTER",
        "SLOWER",
        "SAME",
        "UNCLEAR",
        "wrong",
        "interval holds the truth",
        "width of the interval, median",
    ),
)


@dataclass(frozen=True)
class Outcome:
    """What was said of comparisons with one slowdown. `failed` have no ratio and count in nothing else.

    `covered` is how many intervals hold the truth, `width` the median width of an interval over its ratio; an interval
    that too few blocks did not allow holds nothing and has no width.
    """

    slowdown: float
    verdicts: tuple[Verdict, ...]
    covered: int
    width: float | None
    failed: int

    @property
    def wrong(self) -> int:
        """How many verdicts contradict the truth."""
        return sum(self.verdicts.count(verdict) for verdict in _contradicting(self.slowdown))


def ratio(comparison: SelfComparison) -> Estimate:
    """Return the ratio a / b of the times of both sides as a report would estimate it."""
    a, b = (np.array(samples, dtype=np.float64) for samples in (comparison.samples_a, comparison.samples_b))
    blocks_a, blocks_b = (np.array(blocks, dtype=np.int64) for blocks in (comparison.blocks_a, comparison.blocks_b))
    return stats.ratio_of_medians(a, blocks_a, b, blocks_b, interleaved=True)


def outcomes(test: SelfTest) -> list[Outcome]:
    """Return what was said of the comparisons, by slowdown, identical code first."""
    slowdowns = sorted({comparison.slowdown for comparison in test.comparisons})
    return [
        _outcome(slowdown, [each for each in test.comparisons if each.slowdown == slowdown]) for slowdown in slowdowns
    ]


def table(found: Iterable[Outcome]) -> Table:
    """Return the outcomes, one row for each slowdown."""
    caption = f"Verdicts on code whose answer is known; {units.INTERVAL}s"
    return Table(caption, _COLUMNS, tuple(_row(each) for each in found))


def sentences(found: Sequence[Outcome], neighbour: bool) -> list[str]:
    """Return what the outcomes say: of identical code, and of code slowed beyond the least effect."""
    identical, slowed = _identical(found), _slowed(found)
    beside = "beside a neighbour busy on one core" if neighbour else "without a busy neighbour"
    said: list[str] = []
    if _counted(identical):
        said.append(
            f"Measured {beside}, identical code under two names was called FASTER or SLOWER in "
            f"{_share(sum(each.wrong for each in identical), _counted(identical))} comparisons."
        )
    if _counted(slowed):
        known = units.listing([f"{100 * each.slowdown:g}" for each in slowed])
        said.append(
            f"Of code slower by a known {known} % the interval held the true ratio in "
            f"{_share(sum(each.covered for each in slowed), _counted(slowed))} comparisons; the verdict was SLOWER in "
            f"{_share(_said(slowed, Verdict.SLOWER), _counted(slowed))} and wrong in "
            f"{_share(sum(each.wrong for each in slowed), _counted(slowed))}."
        )
    if failed := sum(each.failed for each in found):
        said.append(f"{units.plural(failed, 'comparison')} failed and {'has' if failed == 1 else 'have'} no verdict.")
    return said


def holds(found: Sequence[Outcome]) -> bool:
    """Return whether the method keeps its word here.

    At most `MOST_WRONG` of the verdicts on identical code are wrong, and of the intervals of code slowed beyond the
    least effect at least `LEAST_COVERED` hold the truth.
    """
    identical, slowed = _identical(found), _slowed(found)
    few_wrong = sum(each.wrong for each in identical) <= MOST_WRONG * _counted(identical)
    return few_wrong and sum(each.covered for each in slowed) >= LEAST_COVERED * _counted(slowed)


def in_brief(test: SelfTest) -> str:
    """Return whether the method keeps its word, and the numbers that say so, as one fact about a machine."""
    found = outcomes(test)
    identical, slowed = _identical(found), _slowed(found)
    said: list[str] = []
    if _counted(identical):
        said.append(f"wrong on identical code in {_share(sum(each.wrong for each in identical), _counted(identical))}")
    if _counted(slowed):
        held = _share(sum(each.covered for each in slowed), _counted(slowed))
        said.append(f"intervals of slowed code hold the truth in {held}")
    return f"{'passed' if holds(found) else 'not passed'}: {', '.join(said) or 'no comparison counts'}"


def _outcome(slowdown: float, comparisons: Sequence[SelfComparison]) -> Outcome:
    measured = [comparison for comparison in comparisons if not comparison.failure]
    ratios = [ratio(comparison) for comparison in measured]
    ends = [(each, each.low, each.high) for each in ratios if each.low is not None and each.high is not None]
    truth = 1 / (1 + slowdown)
    return Outcome(
        slowdown=slowdown,
        verdicts=tuple(map(stats.verdict, ratios)),
        covered=sum(low <= truth <= high for _, low, high in ends),
        width=float(np.median([(high - low) / each.value for each, low, high in ends])) if ends else None,
        failed=len(comparisons) - len(measured),
    )


def _contradicting(slowdown: float) -> tuple[Verdict, ...]:
    if not slowdown:
        return (Verdict.FASTER, Verdict.SLOWER)
    return (Verdict.FASTER, Verdict.SAME) if slowdown > LEAST_EFFECT else (Verdict.FASTER,)


def _identical(found: Iterable[Outcome]) -> list[Outcome]:
    return [each for each in found if not each.slowdown]


def _slowed(found: Iterable[Outcome]) -> list[Outcome]:
    return [each for each in found if each.slowdown > LEAST_EFFECT]


def _counted(found: Iterable[Outcome]) -> int:
    return sum(len(each.verdicts) for each in found)


def _said(found: Iterable[Outcome], verdict: Verdict) -> int:
    return sum(each.verdicts.count(verdict) for each in found)


def _share(part: int, whole: int) -> str:
    return f"{units.count(part)} of {units.count(whole)} ({units.percent(part / whole)})"


def _row(found: Outcome) -> tuple[str, ...]:
    counted = len(found.verdicts)
    return (
        f"slower by {100 * found.slowdown:g} %" if found.slowdown else "the same code",
        units.count(counted),
        *(units.count(found.verdicts.count(verdict)) for verdict in Verdict),
        units.percent(found.wrong / counted) if counted else "",
        units.percent(found.covered / counted) if counted else "",
        "" if found.width is None else units.percent(found.width),
    )


def lines(test: SelfTest) -> Iterator[str]:
    """Yield the outcomes as lines for a terminal: a line for each slowdown, then the sentences."""
    found = outcomes(test)
    for row in table(found).rows:
        yield "; ".join(f"{column.title} {cell}" for column, cell in zip(_COLUMNS, row, strict=True) if cell)
    yield from sentences(found, test.neighbour)
