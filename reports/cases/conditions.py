"""The same cases under two conditions: warm and cold caches, or the head alone and within its classifier."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from reports.numbers import stats, units
from reports.numbers.stats import Estimate
from reports.output.blocks import Table, numeric
from reports.reading.load import Case
from reports.speed.analysis import Analysis, Head, Setting
from reports.speed.settings import CASE, identity, tables


def beside(
    analysis: Analysis,
    condition: str,
    first: str,
    second: str,
    titles: tuple[str, ...],
    compared: Callable[[Case, Case], tuple[str, str]],
) -> list[Table]:
    """Return, for each setting whose `condition` has the `second` value, its cases beside those with the `first`.

    `titles` name the columns: the two medians, and the two cells that `compared` gives for a first and a second case.
    """
    other: dict[str, Any] = {condition: first}
    rows = {
        setting: [
            (*_times(analysis, before, after), *compared(before, after))
            for before, after in _pairs(analysis, replace(setting, **other), setting)
        ]
        for setting in analysis.settings
        if getattr(setting, condition) == second
    }
    return tables((*CASE, *numeric(*titles)), rows)


def ratio(numerator: Case, denominator: Case) -> Estimate:
    """Return the ratio of the medians of two cases from different groups."""
    return stats.ratio_of_medians(
        numerator.samples, numerator.blocks, denominator.samples, denominator.blocks, interleaved=False
    )


def _pairs(analysis: Analysis, first: Setting, second: Setting) -> Iterator[tuple[Case, Case]]:
    """Yield each case of the `second` setting after the same case in the `first`, if that was measured too."""
    known = {_identity(case): case for case in analysis.cases(first)}
    return ((known[_identity(case)], case) for case in analysis.cases(second) if _identity(case) in known)


def _times(analysis: Analysis, first: Case, second: Case) -> tuple[str, ...]:
    """Return the cells that name a case and give its median under each condition."""
    medians = (analysis.latencies[case].value for case in (first, second))
    return (*identity(analysis, second), *map(units.seconds, medians))


def _identity(case: Case) -> tuple[Head, str, int]:
    return (Head.of(case.record), case.record.form, case.record.rows)
