"""The section on top: the answer for each MoE head and machine, and the findings of all other sections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reports.numbers import units
from reports.output.blocks import Block, Card, Cards, Figure, Section, Text
from reports.reading.load import MeasuredCase
from reports.speed.analysis import Analysis
from reports.speed.verdicts import Answer, answers


def verdict_section(analysis: Analysis, losses: Mapping[MeasuredCase, str], sections: Sequence[Section]) -> Section:
    """Return a card for each answer, with what took the rest of the time, and one for each section with findings."""
    cards = [_card(answer, losses.get(answer.best.case)) for answer in answers(analysis)]
    return section([*cards, *findings(sections)], analysis.missing)


def section(cards: Sequence[Card], missing: str = "") -> Section:
    """Return a section of these cards; `missing` says why there is no answer, "" if there is one."""
    blocks: list[Block] = [Cards(cards)] if cards else []
    if missing:
        blocks.append(Text(missing, "note"))
    return Section("verdict", "Verdict", blocks)


def findings(sections: Sequence[Section]) -> list[Card]:
    """Return a card for each section with findings."""
    return [Card(section.title, section.findings, section.id) for section in sections if section.findings]


def _card(answer: Answer, loss: str | None) -> Card:
    best = answer.best
    figures = [Figure("theoretical", units.factor(best.theoretical), "by operations")]
    if best.attainable is not None and answer.floor:
        figures.append(Figure("attainable", units.factor(best.attainable), f"by {answer.floor.limit}"))
    figures.append(Figure("realised", units.factor(best.realised.value), units.factor_interval(best.realised)))
    return Card(
        answer.head,
        [answer.sentence, *([f"Where the rest went: {loss}"] if loss else [])],
        "account",
        setting=(answer.shape, answer.machine),
        figures=tuple(figures),
        verdict=best.verdict,
    )
