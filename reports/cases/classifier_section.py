"""The section on whole classifiers: the share of an image's time that the head alone takes."""

from __future__ import annotations

from dataclasses import replace

from reports.cases.conditions import CASE, pairs, ratio, times
from reports.numbers import units
from reports.output.blocks import Section, Table, numeric
from reports.speed.analysis import Analysis
from reports.speed.settings import caption

_COLUMNS = (*CASE, *numeric("head alone", "classifier", "share", units.INTERVAL))


def classifier_section(analysis: Analysis) -> Section | None:
    """Return a table for each setting of whole classifiers whose heads were measured alone, or None without any."""
    tables = within_classifier(analysis)
    if not tables:
        return None
    return Section(
        "classifier",
        "Whole classifier",
        tables,
        heading="The head within its classifier",
        reading="the share of a whole image’s time that the head alone takes, at as many rows; whatever a head saves, "
        "an image saves no more than this share.",
    )


def within_classifier(analysis: Analysis) -> list[Table]:
    """Return, for each setting of whole classifiers, each head alone beside its classifier."""
    tables = []
    for setting in (setting for setting in analysis.settings if setting.part == "classifier"):
        rows = []
        for head, case in pairs(analysis, replace(setting, part="head"), setting):
            share = ratio(head, case)
            rows.append((*times(analysis, head, case), units.percent(share.value), units.percent_interval(share)))
        tables += [Table(caption(setting), _COLUMNS, tuple(rows))] if rows else []
    return tables
