"""The section on top: the answer for each MoE head, its numbers by rows, the state of the machine, and all findings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reports.account.account import Account
from reports.front.state import state
from reports.numbers import units
from reports.output import canvas
from reports.output.blocks import (
    Answer,
    Beside,
    Block,
    Chart,
    Details,
    Finding,
    Findings,
    Grid,
    Section,
    Table,
    Text,
    without_blanks,
)
from reports.output.tables import Field, number, tabulated, word
from reports.reading.load import MeasuredCase
from reports.records.self_test import SelfTest
from reports.speed import figures, settings, verdicts
from reports.speed.analysis import Analysis, Comparison, Speedup, labels
from reports.speed.floors import floor, of_machine
from reports.speed.verdicts import answers


def verdict_section(
    analysis: Analysis,
    explained: Mapping[MeasuredCase, Account],
    tests: Sequence[SelfTest],
    sections: Sequence[Section],
) -> Section:
    """Return the answers of the first setting with its table, picture and machine, all others, and the findings.

    `explained` has the account that says where most of the time of a case goes.
    """
    first, others = lead(answers(analysis))
    blocks: list[Block] = []
    if first:
        said = [Answer(each.clauses, f"{each.shape}; {each.machine}", [each.sentence]) for each in first]
        table = _by_rows(analysis, [each for answer in first for each in answer.speedups], explained)
        blocks += [
            Grid(said, wide=True),
            Beside([table, state(analysis, first[0].setting, tests), _picture(first[0])]),
        ]
    if others:
        heads = units.plural(len(others), "other answer")
        blocks.append(Details(f"{heads}, of other heads, machines and suites", [_others(others)]))
    return section([*blocks, *findings(sections)], analysis.missing)


def section(blocks: Sequence[Block], missing: str = "") -> Section:
    """Return a section of these blocks; `missing` says why there is no answer, "" if there is one."""
    return Section("verdict", "Verdict", [*blocks, *([Text(missing, "note")] if missing else [])])


def findings(sections: Sequence[Section]) -> list[Findings]:
    """Return what the sections found, or nothing if none of them has findings."""
    known = [Finding(section.title, section.findings, section.id) for section in sections if section.findings]
    return [Findings(known)] if known else []


def lead(given: Sequence[verdicts.Answer]) -> tuple[list[verdicts.Answer], list[verdicts.Answer]]:
    """Return the answers of the first setting that has one for a matched pair, sparse heads first, and the others."""
    if not given:
        return [], []
    leading = next((answer for answer in given if answer.best.matched), given[0]).setting
    same, other = ([answer for answer in given if (answer.setting == leading) is same] for same in (True, False))
    return same, other


def _by_rows(analysis: Analysis, speedups: Sequence[Speedup], explained: Mapping[MeasuredCase, Account]) -> Table:
    def realised(speedup: Speedup) -> str:
        weak = "".join(f", {words}" for words in verdicts.weaknesses(speedup.best))
        ratio = speedup.best.realised
        return f"{units.factor(ratio.value)} ({units.factor_interval(ratio)}){weak}"

    def largest(speedup: Speedup) -> str:
        case = speedup.best.case
        account = explained.get(case)
        if account is None or not account.waterfall.losses:
            return ""
        part = account.waterfall.losses[0]
        form = "" if account.case == case else f" of {account.case.record.form}"
        return f"{part.name}, {account.waterfall.share(part.picoseconds):.0%}{form}".replace("%", " %")

    names = labels(speedup.head for speedup in speedups)
    fields: list[Field[Speedup]] = [
        word("head", lambda speedup: names[speedup.head].replace(" head", "", 1)),
        number("rows", lambda speedup: units.count(speedup.rows)),
        number("theoretical", lambda speedup: units.factor(speedup.best.theoretical)),
        number("attainable", lambda speedup: _attainable(analysis, speedup.best)),
        number("realised", realised),
        word("verdict", lambda speedup: speedup.best.verdict),
        word("best form", lambda speedup: speedup.best.case.record.form),
        word("dense form", lambda speedup: speedup.best.base.record.form),
        word("largest loss", largest),
    ]
    caption = f"{settings.title(speedups[0].setting)}; in brackets the {units.INTERVAL}"
    return without_blanks(tabulated(caption, fields, speedups))


def _attainable(analysis: Analysis, best: Comparison) -> str:
    """Return an attainable speed-up, and its least and greatest by all ceilings of the machine if they show."""
    if best.attainable is None:
        return ""
    given = analysis.results.ceilings
    pairs = [
        [floor(side.record, [each]) for side in (best.base, best.case)] for each in of_machine(best.case.record, given)
    ]
    ratios = [units.ratio(dense.seconds / moe.seconds) for dense, moe in pairs if dense and moe]
    ends = dict.fromkeys(pick(ratios, key=float) for pick in (min, max))
    return f"{units.factor(best.attainable)} ({' to '.join(ends)})" if len(ends) > 1 else units.factor(best.attainable)


def _picture(answer: verdicts.Answer) -> Chart:
    spec = canvas.spec(figures.answer_chart(answer.speedups))
    by_rows = [f"{units.factor(each.best.realised.value)} at {units.count(each.rows)}" for each in answer.speedups]
    words = (
        f"The fastest form of the {answer.head} over the fastest dense one, by rows: {units.listing(by_rows)}, with "
        f"{units.INTERVAL}s; green is faster, orange slower, grey neither clearly."
    )
    return Chart(f"Speed-up of the {answer.head}", spec, words)


def _others(given: Sequence[verdicts.Answer]) -> Table:
    """Return the answers that are not on top, a row each."""
    fields: list[Field[verdicts.Answer]] = [
        word("head", lambda answer: answer.head),
        word("setting", lambda answer: settings.title(answer.setting)),
        word("machine", lambda answer: answer.machine),
        word("by rows", lambda answer: answer.reach),
        number("theoretical", lambda answer: units.factor(answer.best.theoretical)),
        number("attainable", lambda answer: units.known(answer.best.attainable, units.factor)),
        number("realised at best", lambda answer: units.factor(answer.best.realised.value)),
        number(units.INTERVAL, lambda answer: units.factor_interval(answer.best.realised)),
        number("at rows", lambda answer: units.count(answer.best.case.record.rows)),
        word("form", lambda answer: answer.best.case.record.form),
        word("weakness", lambda answer: ", ".join(verdicts.weaknesses(answer.best))),
    ]
    return without_blanks(tabulated("Other answers", fields, given))
