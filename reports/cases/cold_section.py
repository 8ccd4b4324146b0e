"""The section on cold caches: each case beside itself with warm ones."""

from __future__ import annotations

from dataclasses import replace

from reports.cases.conditions import CASE, pairs, ratio, times
from reports.numbers import units
from reports.output.blocks import Section, Table, numeric
from reports.speed.analysis import Analysis
from reports.speed.settings import caption

_COLUMNS = (*CASE, *numeric("warm", "cold", "cold / warm", units.INTERVAL))


def cold_section(analysis: Analysis) -> Section | None:
    """Return a table for each setting measured with cold caches and with warm ones, or None without any."""
    tables = cold(analysis)
    if not tables:
        return None
    return Section(
        "cold",
        "Cold caches",
        tables,
        reading="the same case with warm caches, and with everything it reads driven out of them before each call; the "
        "two were measured apart.",
    )


def cold(analysis: Analysis) -> list[Table]:
    """Return, for each setting measured with cold caches, each case beside itself with warm ones."""
    tables = []
    for setting in (setting for setting in analysis.settings if setting.cache == "cold"):
        rows = []
        for warm, case in pairs(analysis, replace(setting, cache="warm"), setting):
            slower = ratio(case, warm)
            rows.append((*times(analysis, warm, case), units.factor(slower.value), units.factor_interval(slower)))
        tables += [Table(caption(setting), _COLUMNS, tuple(rows))] if rows else []
    return tables
