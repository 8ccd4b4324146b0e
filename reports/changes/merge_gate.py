"""The gate: what in a comparison stops a merge, and whether it occurred."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast, get_args

from reports.changes.change import Doubtful
from reports.changes.changes import Changes
from reports.changes.conditions import OVERRULED
from reports.errors import ReportError
from reports.numbers import units
from reports.numbers.stats import LEAST_EFFECT, Verdict
from reports.records.record import Status

MISSING = "MISSING"
"""A case that had a time in BASE and has none in NEW, for whatever reason."""
ASKED: tuple[str, ...] = (Verdict.SLOWER, Verdict.FASTER, Verdict.UNCLEAR, MISSING)
BROKEN = (Status.WRONG, Status.FAILED)
"""The status of a case that lost its time because the code broke, not for want of time or hardware."""
MOST = 1e6
"""A share of NEW's time beyond all that is measured."""
NAMED = 5
"""How many cases of one kind are named."""


@dataclass(frozen=True)
class MergeGate:
    """What was asked for, and what failed: clauses that name cases, none for a pass.

    `unknown` says in words which cases a pass says nothing about, and `remedy` how to judge those in doubt.
    """

    asked: tuple[str, ...]
    failures: tuple[str, ...]
    unknown: tuple[str, ...] = ()
    remedy: str = ""

    @property
    def sentence(self) -> str:
        """The outcome in one sentence."""
        remedy = f" {self.remedy}" if self.remedy else ""
        if self.failures:
            return f"Gate failed: {'; '.join(self.failures)}.{remedy}"
        rest = f" It says nothing about {units.listing(self.unknown)}." if self.unknown else ""
        return f"Gate passed: no case is {' or '.join(self.asked)}, and none that had a time is broken.{rest}{remedy}"


def judged(changes: Changes, asked: Sequence[str], *, allow_undecided: bool = False) -> MergeGate | None:
    """Return the outcome of the gate on `changes`, or None if nothing was `asked`.

    Every gate also fails on cases that had a time and are now WRONG or FAILED, and, unless `allow_undecided`, if no
    case has another verdict than UNCLEAR.
    """
    if not asked:
        return None
    failures = list(_failures(changes, asked))
    unknown = tuple(_unknown(changes))
    decided = changes.of(Verdict.SLOWER, Verdict.FASTER, Verdict.SAME)
    if not decided and not allow_undecided:
        about = f": there are only {units.listing(unknown)}" if unknown else ""
        failures.append(f"nothing was decided{about} (--allow-undecided lets that pass)")
    in_doubt = any(change.doubt and change.verdict is Verdict.UNCLEAR for change in changes.changes)
    return MergeGate(tuple(asked), tuple(failures), unknown, f"Of cases in doubt {OVERRULED}." if in_doubt else "")


def asked_for(words: Sequence[str]) -> tuple[str, ...]:
    """Return the words of `ASKED` that `words` name, in any case, each once; raises `ReportError` for another word."""
    known = {word.lower(): word for word in ASKED}
    unknown = [word for word in words if word.lower() not in known]
    if unknown:
        raise ReportError(f"--fail-on takes {units.listing(ASKED)}, not {unknown[0]!r}.")
    return tuple(dict.fromkeys(known[word.lower()] for word in words))


def of_doubtful(word: str) -> Doubtful:
    """Return what becomes of cases in doubt; raises `ReportError` for another word."""
    if word not in get_args(Doubtful):
        raise ReportError(f"--doubtful takes {units.listing(get_args(Doubtful))}, not {word!r}.")
    return cast("Doubtful", word)


def share(text: str | None) -> float:
    """Return the share that `5%`, `150 %` or `0.05` says; None gives the share of all verdicts.

    Raises `ReportError` for anything else, and for a number of 1 and more without %, which may be meant as either.
    """
    if text is None:
        return LEAST_EFFECT
    number, percent, rest = text.partition("%")
    try:
        value = float(number) / (100 if percent else 1)
    except ValueError:
        value = math.nan
    if rest.strip() or not 0 <= value < (MOST if percent else 1):
        raise ReportError(f"--least takes a share such as 5%, 150% or 0.05, not {text!r}.")
    return value


def _failures(changes: Changes, asked: Sequence[str]) -> Iterator[str]:
    for word in asked:
        cases = _missing(changes) if word == MISSING else _with(changes, Verdict(word))
        if cases:
            yield _clause(cases, word)
    for status in BROKEN:
        if cases := [lost.case for lost in changes.lost if lost.status is status]:
            yield _clause(cases, f"{status.upper()} and had a time in BASE")


def _with(changes: Changes, verdict: Verdict) -> list[str]:
    """Return the cases with a verdict; those without a ratio are UNCLEAR."""
    without = [each.case for each in changes.untimed] if verdict is Verdict.UNCLEAR else []
    return [*(change.case for change in changes.of(verdict)), *without]


def _missing(changes: Changes) -> list[str]:
    """Return the cases that had a time in BASE and have none in NEW, except broken ones."""
    return [*changes.only_base, *(lost.case for lost in changes.lost if lost.status not in BROKEN)]


def _unknown(changes: Changes) -> Iterator[str]:
    """Yield how many cases are UNCLEAR, and how many had a time in BASE and have none in NEW."""
    if unclear := len(_with(changes, Verdict.UNCLEAR)):
        yield units.plural(unclear, "UNCLEAR case")
    if gone := len(_missing(changes)):
        yield f"{units.plural(gone, 'case')} without a time in NEW"


def _clause(cases: Sequence[str], what: str) -> str:
    verb = "is" if len(cases) == 1 else "are"
    return f"{units.plural(len(cases), 'case')} {verb} {what} ({units.some(cases, NAMED)})"
