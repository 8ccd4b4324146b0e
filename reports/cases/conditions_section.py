"""The sections on cases under two conditions: forward and training, warm and cold caches, head and classifier."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from reports.numbers import units
from reports.output.blocks import Section, Table, without_blanks
from reports.output.tables import Field, number, word
from reports.reading.load import MeasuredCase
from reports.speed import verdicts
from reports.speed.analysis import Analysis, Comparison, Head, Setting, ratio
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
        about="what share of a whole image’s time the head takes",
    )


def training_section(analysis: Analysis) -> Section | None:
    """Return each case's forward pass beside its training, with the speed-ups of training; None without such pairs."""
    speedups = {item.case: item for speedup in analysis.speedups for item in speedup.against_best}

    def over_dense(text: Callable[[Comparison], str]) -> Callable[[_Pair], str]:
        return lambda pair: text(speedups[pair[1]]) if pair[1] in speedups else ""

    fields: list[Field[_Pair]] = [
        number("forward", lambda pair: units.seconds(analysis.latencies[pair[0]].value)),
        number("training", lambda pair: units.seconds(analysis.latencies[pair[1]].value)),
        number("training / forward", lambda pair: units.factor(ratio(*reversed(pair)).value)),
        number(units.INTERVAL, lambda pair: units.factor_interval(ratio(*reversed(pair)))),
        number("theoretical", over_dense(lambda item: units.factor(item.theoretical))),
        number("attainable", over_dense(lambda item: units.known(item.attainable, units.factor))),
        number("realised", over_dense(lambda item: units.factor(item.realised.value))),
        number(f"{units.INTERVAL} of it", over_dense(lambda item: units.factor_interval(item.realised))),
        word("verdict", over_dense(lambda item: item.verdict)),
        number("peak memory", lambda pair: units.known(pair[1].record.peak_memory, units.megabytes)),
    ]
    shown = _beside(analysis, "passes", "forward", "training", fields)
    if not shown:
        return None
    settings = [setting for setting in analysis.settings if setting.passes == "training"]
    groups = [(label, analysis.of(setting, head)) for setting in settings for head, label in analysis.labels.items()]
    return Section(
        "passes",
        "Forward and backward",
        [without_blanks(table) for table in shown],
        reading="training is a forward and a backward pass, with the gradients of the rows and of all parameters. It "
        "is compared with training alone: theoretical, attainable and realised are over the fastest dense form that "
        "trains. The forward pass and training were measured apart.",
        findings=[verdicts.message(group, f"{label} in training") for label, group in groups if group],
        about="the same comparison for training",
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
        about="each case with its data driven out of the caches",
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
