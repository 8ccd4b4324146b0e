"""The same cases under two conditions: with warm and with cold caches, or the head alone and within its classifier."""

from __future__ import annotations

from collections.abc import Iterator

from reports.numbers import stats, units
from reports.numbers.stats import Estimate
from reports.output.blocks import numeric, worded
from reports.reading.load import Case
from reports.speed.analysis import Analysis, Head, Setting
from reports.speed.settings import name

CASE = (*worded("head", "form"), *numeric("rows"))


def pairs(analysis: Analysis, first: Setting, second: Setting) -> Iterator[tuple[Case, Case]]:
    """Yield the cases of the `second` setting that were measured in the `first` too, those before them."""
    known = {_identity(case): case for case in analysis.cases(first)}
    return ((known[_identity(case)], case) for case in analysis.cases(second) if _identity(case) in known)


def ratio(numerator: Case, denominator: Case) -> Estimate:
    """Return median over median of two cases that were measured in groups of their own."""
    return stats.ratio_of_medians(
        numerator.samples, numerator.blocks, denominator.samples, denominator.blocks, interleaved=False
    )


def times(analysis: Analysis, first: Case, second: Case) -> tuple[str, ...]:
    """Return the cells that name a case and tell its median under either condition."""
    record = second.record
    return (
        name(analysis, Head.of(record)),
        record.form,
        units.count(record.rows),
        units.seconds(analysis.latencies[first].value),
        units.seconds(analysis.latencies[second].value),
    )


def _identity(case: Case) -> tuple[Head, str, int]:
    return (Head.of(case.record), case.record.form, case.record.rows)
