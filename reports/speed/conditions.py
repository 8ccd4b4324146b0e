"""Tables of one case under two conditions: cold caches beside warm ones, and the head within its whole classifier."""

from __future__ import annotations

from dataclasses import replace

from reports.numbers import stats, units
from reports.numbers.stats import Estimate
from reports.output.blocks import Column, Table
from reports.reading.load import Case
from reports.speed.analysis import Analysis, Head, Setting
from reports.speed.tables import caption, name

_CASE = (Column("head", numeric=False), Column("form", numeric=False), Column("rows"))


def cold(analysis: Analysis) -> list[Table]:
    """Return, for each setting measured with cold caches, each case beside itself with warm ones."""
    columns = (*_CASE, Column("warm"), Column("cold"), Column("cold / warm"), Column(units.INTERVAL))
    tables = []
    for setting in analysis.settings:
        if setting.cache == "cold":
            rows = [
                (*_times(analysis, warm, case), units.factor(ratio.value), units.factor_interval(ratio))
                for warm, case in _pairs(analysis, replace(setting, cache="warm"), setting)
                for ratio in [_ratio(case, warm)]
            ]
            tables += [Table(caption(setting), columns, tuple(rows))] if rows else []
    return tables


def within_classifier(analysis: Analysis) -> list[Table]:
    """Return, for each setting of whole classifiers, the share of an image's time that the head alone takes."""
    columns = (*_CASE, Column("head alone"), Column("classifier"), Column("share"), Column(units.INTERVAL))
    tables = []
    for setting in analysis.settings:
        if setting.part == "classifier":
            rows = [
                (*_times(analysis, head, case), units.percent(share.value), units.percent_interval(share))
                for head, case in _pairs(analysis, replace(setting, part="head"), setting)
                for share in [_ratio(head, case)]
            ]
            tables += [Table(caption(setting), columns, tuple(rows))] if rows else []
    return tables


def _pairs(analysis: Analysis, first: Setting, second: Setting) -> list[tuple[Case, Case]]:
    """Return the cases of the `second` setting that were measured in the `first` too, those before them."""
    known = {_identity(case): case for case in analysis.cases(first)}
    return [(known[_identity(case)], case) for case in analysis.cases(second) if _identity(case) in known]


def _identity(case: Case) -> tuple[Head, str, int]:
    return (Head.of(case.record), case.record.form, case.record.rows)


def _ratio(numerator: Case, denominator: Case) -> Estimate:
    """Return median over median; the two were measured in groups of their own."""
    return stats.ratio_of_medians(
        numerator.samples, numerator.blocks, denominator.samples, denominator.blocks, interleaved=False
    )


def _times(analysis: Analysis, first: Case, second: Case) -> tuple[str, ...]:
    record = second.record
    return (
        name(analysis, Head.of(record)),
        record.form,
        units.count(record.rows),
        units.seconds(analysis.latencies[first].value),
        units.seconds(analysis.latencies[second].value),
    )
