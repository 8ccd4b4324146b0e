"""The section on cold caches: each case beside itself with warm ones."""

from __future__ import annotations

from reports.cases.conditions import beside, ratio
from reports.numbers import units
from reports.output.blocks import Section, Table
from reports.reading.load import Case
from reports.speed.analysis import Analysis


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
    return beside(analysis, "cache", "warm", "cold", ("warm", "cold", "cold / warm", units.INTERVAL), _slowdown)


def _slowdown(warm: Case, cold: Case) -> tuple[str, str]:
    slower = ratio(cold, warm)
    return units.factor(slower.value), units.factor_interval(slower)
