"""The gate: what in a comparison stops a merge, and whether it occurred."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from reports.changes.changes import Changes
from reports.errors import ReportError
from reports.numbers import units
from reports.numbers.stats import LEAST_EFFECT, Verdict
from reports.records.record import Status

MISSING = "MISSING"
"""A case that had a time in BASE and has none in NEW, for whatever reason."""
ASKED: tuple[str, ...] = (Verdict.SLOWER, Verdict.FASTER, Verdict.UNCLEAR, MISSING)
BROKEN = (Status.WRONG, Status.FAILED)
"""The status of a case that lost its time because the code broke, not for want of time or hardware."""
NAMED = 5
"""How many cases of one kind are named."""


@dataclass(frozen=True)
class MergeGate:
    """What was asked for, and what failed: clauses that name cases, none for a pass.

    `unknown` says in words which cases a pass says nothing about.
    """

    asked: tuple[str, ...]
    failures: tuple[str, ...]
    unknown: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """The outcome in one sentence."""
        if self.failures:
            return f"Gate failed: {'; '.join(self.failures)}."
        rest = f" It says nothing about {units.listing(self.unknown)}." if self.unknown else ""
        return f"Gate passed: no case is {' or '.join(self.asked)}, and none that had a time is broken.{rest}"


def judged(changes: Changes, asked: Sequence[str]) -> MergeGate | None:
    """Return the outcome of the gate on `changes`, or None if nothing was `asked`.

    Every gate also fails on cases that had a time and are now WRONG or FAILED.
    """
    if not asked:
        return None
    return MergeGate(tuple(asked), tuple(_failures(changes, asked)), tuple(_unknown(changes)))


def asked_for(words: Sequence[str]) -> tuple[str, ...]:
    """Return the words of `ASKED` that `words` name, in any case, each once; raises `ReportError` for another word."""
    known = {word.lower(): word for word in ASKED}
    unknown = [word for word in words if word.lower() not in known]
    if unknown:
        raise ReportError(f"--fail-on takes {units.listing(ASKED)}, not {unknown[0]!r}.")
    return tuple(dict.fromkeys(known[word.lower()] for word in words))


def share(text: str | None) -> float:
    """Return the share that `5%`, `5 %` or `0.05` says; None gives the share of all verdicts.

    Raises `ReportError` for anything else, and for shares below 0 or of 1 and more.
    """
    if text is None:
        return LEAST_EFFECT
    number, percent, rest = text.partition("%")
    try:
        value = float(number) / (100 if percent else 1)
    except ValueError:
        value = math.nan
    if rest.strip() or not 0 <= value < 1:
        raise ReportError(f"--least takes a share below 1 such as 5% or 0.05, not {text!r}.")
    return value


def _failures(changes: Changes, asked: Sequence[str]) -> Iterator[str]:
    for word in asked:
        cases = _missing(changes) if word == MISSING else [change.case for change in changes.of(Verdict(word))]
        if cases:
            yield _clause(cases, word)
    for status in BROKEN:
        if cases := [lost.case for lost in changes.lost if lost.status is status]:
            yield _clause(cases, f"{status.upper()} and had a time in BASE")


def _missing(changes: Changes) -> list[str]:
    """Return the cases that had a time in BASE and have none in NEW, except broken ones."""
    return [*changes.only_base, *(lost.case for lost in changes.lost if lost.status not in BROKEN)]


def _unknown(changes: Changes) -> Iterator[str]:
    """Yield how many cases are UNCLEAR, and how many had a time in BASE and have none in NEW."""
    if unclear := len(changes.of(Verdict.UNCLEAR)):
        yield units.plural(unclear, "UNCLEAR case")
    if gone := len(_missing(changes)):
        yield f"{units.plural(gone, 'case')} without a time in NEW"


def _clause(cases: Sequence[str], what: str) -> str:
    verb = "is" if len(cases) == 1 else "are"
    return f"{units.plural(len(cases), 'case')} {verb} {what} ({units.some(cases, NAMED)})"
