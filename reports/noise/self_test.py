"""The self-test: how often the verdicts are wrong if the answer is known, from the samples of `moegap self-test`.

Side b of a comparison is the code of side a, or takes a known share longer, so the true ratio of their times is known.
UNCLEAR is never wrong. For identical code FASTER and SLOWER are wrong; for code that is slower by more than the least
effect, FASTER and SAME are wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from reports.numbers import stats, units
from reports.numbers.stats import LEAST_EFFECT, Estimate, Verdict
from reports.output.blocks import Table, numeric, worded
from reports.records.record import CaseRecord
from reports.records.self_test import SelfComparison, SelfTest

MOST_WRONG = 0.05
LEAST_COVERED = 0.95

_COLUMNS = (
    *worded("side b"),
    *numeric("comparisons", *Verdict, "wrong", "interval holds the truth", "width of the interval, median"),
)


@dataclass(frozen=True)
class KnownAnswer:
    """The verdicts on the comparisons with one slowdown; `failed` ones have no ratio and count nowhere else.

    `covered` is how many intervals hold the truth, `width` the median width of an interval over its ratio. With too few
    blocks there is no interval: it holds nothing and has no width.
    """

    slowdown: float
    verdicts: tuple[Verdict, ...]
    covered: int
    width: float | None
    failed: int

    @property
    def wrong(self) -> int:
        """How many verdicts contradict the truth."""
        contradicting = {Verdict.FASTER}
        if not self.slowdown:
            contradicting = {Verdict.FASTER, Verdict.SLOWER}
        elif self.slowdown > LEAST_EFFECT:
            contradicting = {Verdict.FASTER, Verdict.SAME}
        return sum(verdict in contradicting for verdict in self.verdicts)


def ratio(comparison: SelfComparison) -> Estimate:
    """Return the ratio a / b of the times of both sides, estimated as in a report."""
    a, b = (np.array(samples, dtype=np.float64) for samples in (comparison.samples_a, comparison.samples_b))
    blocks_a, blocks_b = (np.array(blocks, dtype=np.int64) for blocks in (comparison.blocks_a, comparison.blocks_b))
    return stats.ratio_of_medians(a, blocks_a, b, blocks_b, interleaved=True)


def answers(test: SelfTest) -> list[KnownAnswer]:
    """Return what became of each slowdown, identical code first."""
    slowdowns = sorted({comparison.slowdown for comparison in test.comparisons})
    return [
        _answer(slowdown, [each for each in test.comparisons if each.slowdown == slowdown]) for slowdown in slowdowns
    ]


def _answer(slowdown: float, comparisons: Sequence[SelfComparison]) -> KnownAnswer:
    ratios = [ratio(comparison) for comparison in comparisons if not comparison.failure]
    ends = [(each, each.low, each.high) for each in ratios if each.low is not None and each.high is not None]
    truth = 1 / (1 + slowdown)
    return KnownAnswer(
        slowdown=slowdown,
        verdicts=tuple(map(stats.verdict, ratios)),
        covered=sum(low <= truth <= high for _, low, high in ends),
        width=float(np.median([(high - low) / each.value for each, low, high in ends])) if ends else None,
        failed=len(comparisons) - len(ratios),
    )


def table(answers: Iterable[KnownAnswer]) -> Table:
    """Return the verdicts, one row for each slowdown."""
    caption = f"Verdicts on code whose answer is known; {units.INTERVAL}s"
    return Table(caption, _COLUMNS, tuple(map(_row, answers)))


def _row(answer: KnownAnswer) -> tuple[str, ...]:
    counted = len(answer.verdicts)
    return (
        f"slower by {100 * answer.slowdown:g} %" if answer.slowdown else "the same code",
        units.count(counted),
        *(units.count(answer.verdicts.count(verdict)) for verdict in Verdict),
        units.percent(answer.wrong / counted) if counted else "",
        units.percent(answer.covered / counted) if counted else "",
        "" if answer.width is None else units.percent(answer.width),
    )


@dataclass(frozen=True)
class _Pool:
    """Several slowdowns together: all verdicts, how many are wrong, and how many intervals hold the truth."""

    verdicts: tuple[Verdict, ...]
    wrong: int
    covered: int

    def share(self, number: int) -> str:
        """Return a number of comparisons as a share of all."""
        whole = len(self.verdicts)
        return f"{units.count(number)} of {units.count(whole)} ({units.percent(number / whole)})"


def _pools(answers: Sequence[KnownAnswer]) -> tuple[_Pool, _Pool]:
    """Return what became of identical code, and of code slowed beyond the least effect."""
    identical = [answer for answer in answers if not answer.slowdown]
    return _pool(identical), _pool([answer for answer in answers if answer.slowdown > LEAST_EFFECT])


def _pool(answers: Sequence[KnownAnswer]) -> _Pool:
    verdicts = tuple(verdict for answer in answers for verdict in answer.verdicts)
    return _Pool(verdicts, sum(answer.wrong for answer in answers), sum(answer.covered for answer in answers))


def sentences(answers: Sequence[KnownAnswer], neighbour: bool) -> list[str]:
    """Say what the verdicts show: of identical code, and of code slowed beyond the least effect."""
    identical, slowed = _pools(answers)
    beside = "beside a neighbour busy on one core" if neighbour else "without a busy neighbour"
    said: list[str] = []
    if identical.verdicts:
        said.append(
            f"Measured {beside}, identical code under two names was called FASTER or SLOWER in "
            f"{identical.share(identical.wrong)} comparisons."
        )
    if slowed.verdicts:
        known = units.listing([f"{100 * each.slowdown:g}" for each in answers if each.slowdown > LEAST_EFFECT])
        said.append(
            f"Of code slower by a known {known} % the interval held the true ratio in "
            f"{slowed.share(slowed.covered)} comparisons; the verdict was SLOWER in "
            f"{slowed.share(slowed.verdicts.count(Verdict.SLOWER))} and wrong in {slowed.share(slowed.wrong)}."
        )
    if failed := sum(each.failed for each in answers):
        said.append(f"{units.plural(failed, 'comparison')} failed and {'has' if failed == 1 else 'have'} no verdict.")
    return said


def holds(answers: Sequence[KnownAnswer]) -> bool:
    """Return whether the method keeps its word here.

    At most `MOST_WRONG` of the verdicts on identical code are wrong, and at least `LEAST_COVERED` of the intervals on
    code slowed beyond the least effect hold the truth.
    """
    identical, slowed = _pools(answers)
    few_wrong = identical.wrong <= MOST_WRONG * len(identical.verdicts)
    return few_wrong and slowed.covered >= LEAST_COVERED * len(slowed.verdicts)


def is_of(test: SelfTest, record: CaseRecord) -> bool:
    """Return whether a self-test was measured on the machine of a record, with as many threads."""
    environment = test.environment
    device = environment.get("device_name") or environment.get("device")
    return (device, environment.get("threads")) == (record.device_name, str(record.threads))


def in_brief(test: SelfTest) -> str:
    """Return whether the method keeps its word, and the numbers that show it, as one fact about a machine."""
    results = answers(test)
    identical, slowed = _pools(results)
    said: list[str] = []
    if identical.verdicts:
        said.append(f"wrong on identical code in {identical.share(identical.wrong)}")
    if slowed.verdicts:
        said.append(f"intervals of slowed code hold the truth in {slowed.share(slowed.covered)}")
    return f"{'passed' if holds(results) else 'not passed'}: {', '.join(said) or 'no comparison counts'}"


def lines(test: SelfTest) -> Iterator[str]:
    """Yield the answers as lines for a terminal: a line for each slowdown, then the sentences."""
    results = answers(test)
    for row in table(results).rows:
        yield "; ".join(f"{column.title} {cell}" for column, cell in zip(_COLUMNS, row, strict=True) if cell)
    yield from sentences(results, test.neighbour)
