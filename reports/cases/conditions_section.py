"""The sections on cases under two conditions: warm and cold caches, the head alone and within its classifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from reports.numbers import units
from reports.output.blocks import Section, Table
from reports.output.tables import Field, number
from reports.reading.load import MeasuredCase
from reports.speed.analysis import Analysis, Head, Setting, ratio
from reports.speed.settings import identity, tables

_Pair = tuple[MeasuredCase, MeasuredCase]
"""One case under the first condition and under the second."""


def classifier_section(analysis: Analysis) -> Section | None:
    """Return each head alone beside its whole classifier, or None without such pairs."""
    fields: list[Field[_Pair]] = [
        number("head alone", lambda pair: units.seconds(analysis.latencies[pair[0]].value)),
        number("classifier", lambda pair: units.seconds(analysis.latencies[pair[1]].value)),
        number("share", lambda pair: units.percent(ratio(*pair).value)),
        number(units.INTERVAL, lambda pair: units.percent_interval(ratio(*pair))),
    ]
    shown = _beside(analysis, "part", "head", "classifier", fields)
    if not shown:
        return None
    return Section(
        "classifier",
        "Whole classifier",
        shown,
        heading="The head within its classifier",
        reading="the share of a whole image’s time that the head alone takes, at as many rows; whatever a head saves, "
        "an image saves no more than this share.",
    )


def cold_section(analysis: Analysis) -> Section | None:
    """Return each case with warm caches beside itself with cold ones, or None without such pairs."""
    fields: list[Field[_Pair]] = [
        number("warm", lambda pair: units.seconds(analysis.latencies[pair[0]].value)),
        number("cold", lambda pair: units.seconds(analysis.latencies[pair[1]].value)),
        number("cold / warm", lambda pair: units.factor(ratio(*reversed(pair)).value)),
        number(units.INTERVAL, lambda pair: units.factor_interval(ratio(*reversed(pair)))),
    ]
    shown = _beside(analysis, "cache", "warm", "cold", fields)
    if not shown:
        return None
    return Section(
        "cold",
        "Cold caches",
        shown,
        reading="the same case with warm caches, and with everything it reads driven out of them before each call; the "
        "two were measured apart.",
    )


def _beside(analysis: Analysis, condition: str, first: str, second: str, fields: Sequence[Field[_Pair]]) -> list[Table]:
    """Return, for each setting whose `condition` has the `second` value, its cases beside those with the `first`."""
    other: dict[str, Any] = {condition: first}
    pairs: dict[Setting, list[_Pair]] = {}
    for setting in analysis.settings:
        if getattr(setting, condition) == second:
            known = {_key(case): case for case in analysis.cases(replace(setting, **other))}
            after = [case for case in analysis.cases(setting) if _key(case) in known]
            pairs[setting] = [(known[_key(case)], case) for case in after]
    return tables([*identity(analysis, lambda pair: pair[1]), *fields], pairs)


def _key(case: MeasuredCase) -> tuple[Head, str, int]:
    """Return what a case shares with itself under the other condition."""
    return (Head.of(case.record), case.record.form, case.record.rows)
