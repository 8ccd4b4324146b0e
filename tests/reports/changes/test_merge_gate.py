"""The gate: what it takes, what it finds, and a gate that overlooks broken cases."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.changes import merge_gate
from reports.changes.change import Change, Untimed
from reports.changes.changes import Changes, Lost
from reports.changes.conditions import RunFacts
from reports.errors import ReportError
from reports.numbers.stats import LEAST_EFFECT, Estimate, Verdict
from reports.records.record import Status

Judge = Callable[[Changes, tuple[Verdict, ...]], merge_gate.MergeGate | None]


def changes(*verdicts: Verdict, lost: tuple[Status, ...] = ()) -> Changes:
    ratio = Estimate(1.0, 1.0, 1.0, 20, 10)
    run = RunFacts("a.json", "", "", "")
    return Changes(
        runs=(run, run),
        kind="head and form",
        least=0.05,
        changes=tuple(Change(f"case-{n}", "", "", "", "", 1.0, 1.0, ratio, each) for n, each in enumerate(verdicts)),
        lost=tuple(Lost(f"lost-{n}", status, "") for n, status in enumerate(lost)),
    )


def test_nothing_asked_is_no_gate() -> None:
    assert merge_gate.judged(changes(Verdict.SLOWER, lost=(Status.WRONG,)), ()) is None


def test_what_was_not_asked_for_passes() -> None:
    found = merge_gate.judged(changes(Verdict.FASTER, Verdict.SAME), (Verdict.SLOWER,))
    assert found is not None
    assert found.failures == ()
    assert found.sentence == "Gate passed: no case is SLOWER, and none that had a time is broken."


def test_a_pass_tells_of_how_many_cases_nothing_is_known() -> None:
    some = changes(Verdict.UNCLEAR, Verdict.UNCLEAR, Verdict.SAME, lost=(Status.SKIPPED,))
    for only_base, told in (((), "1 case"), (("gone",), "2 cases")):
        found = merge_gate.judged(replace(some, only_base=only_base), (Verdict.SLOWER,))
        assert found is not None
        assert found.failures == ()
        assert found.sentence.endswith(f"It says nothing about 2 UNCLEAR cases and {told} without a time in NEW.")


OF_VERDICTS = (Verdict.SLOWER, Verdict.FASTER, Verdict.UNCLEAR)


@pytest.mark.parametrize("asked", OF_VERDICTS)
def test_what_was_asked_for_is_named(asked: Verdict) -> None:
    found = merge_gate.judged(changes(*Verdict), (asked,))
    assert found is not None
    assert found.failures == (f"1 case is {asked} (case-{list(Verdict).index(asked)})",)
    assert found.sentence == f"Gate failed: {found.failures[0]}."


def test_missing_cases_fail_a_gate_that_asks_for_them() -> None:
    some = replace(changes(Verdict.SAME, lost=(Status.SKIPPED, Status.WRONG)), only_base=("gone",))
    found = merge_gate.judged(some, (merge_gate.MISSING,))
    assert found is not None
    assert found.failures == (
        "2 cases are MISSING (gone and lost-0)",
        "1 case is WRONG and had a time in BASE (lost-1)",
    )
    whole = merge_gate.judged(changes(Verdict.SLOWER), (merge_gate.MISSING,))
    assert whole is not None
    assert whole.failures == ()


@pytest.mark.parametrize(
    ("verdicts", "lost", "said"),
    [
        ((Verdict.UNCLEAR, Verdict.UNCLEAR), (), ": there are only 2 UNCLEAR cases"),
        ((), (Status.UNAVAILABLE, Status.SKIPPED), ": there are only 2 cases without a time in NEW"),
        ((), (), ""),
    ],
)
def test_a_gate_that_decided_nothing_fails_unless_that_is_allowed(
    verdicts: tuple[Verdict, ...], lost: tuple[Status, ...], said: str
) -> None:
    some = changes(*verdicts, lost=lost)
    found = merge_gate.judged(some, (Verdict.SLOWER,))
    assert found is not None
    assert found.failures == (f"nothing was decided{said} (--allow-undecided lets that pass)",)
    allowed = merge_gate.judged(some, (Verdict.SLOWER,), allow_undecided=True)
    assert allowed is not None
    assert allowed.failures == ()


def test_one_decided_case_is_enough() -> None:
    found = merge_gate.judged(changes(Verdict.UNCLEAR, Verdict.SAME), (Verdict.SLOWER,))
    assert found is not None
    assert found.failures == ()


def test_a_gate_says_how_to_judge_cases_in_doubt() -> None:
    some = changes(Verdict.UNCLEAR, Verdict.SAME)
    doubtful = replace(some, changes=(replace(some.changes[0], doubt="the anchor moved"), some.changes[1]))
    for each, told in ((some, False), (doubtful, True)):
        found = merge_gate.judged(each, (Verdict.SLOWER,))
        assert found is not None
        assert ("--doubtful raw" in found.sentence) is told


def test_a_case_without_a_ratio_is_unclear() -> None:
    some = replace(changes(Verdict.SAME), untimed=(Untimed("zero", "its median is 0 s"),))
    found = merge_gate.judged(some, (Verdict.UNCLEAR,))
    assert found is not None
    assert found.failures == ("1 case is UNCLEAR (zero)",)


def test_of_many_cases_some_are_named() -> None:
    found = merge_gate.judged(changes(*[Verdict.SLOWER] * 8), (Verdict.SLOWER,))
    assert found is not None
    assert found.failures == ("8 cases are SLOWER (case-0, case-1, case-2, case-3, case-4 and 3 more)",)


def check_broken(judge: Judge) -> None:
    """WRONG and FAILED fail any gate; UNAVAILABLE and SKIPPED, of another machine or a time limit, none."""
    for asked in OF_VERDICTS:
        for status in (Status.WRONG, Status.FAILED):
            found = judge(changes(Verdict.SAME, lost=(status,)), (asked,))
            assert found is not None
            assert found.failures == (f"1 case is {status.upper()} and had a time in BASE (lost-0)",)
        for status in (Status.UNAVAILABLE, Status.SKIPPED):
            found = judge(changes(Verdict.SAME, lost=(status,)), (asked,))
            assert found is not None
            assert found.failures == ()


def test_a_broken_case_fails_every_gate() -> None:
    check_broken(merge_gate.judged)


@pytest.mark.parametrize("broken", [(), (Status.WRONG,), (Status.FAILED,), tuple(Status)])
def test_a_gate_that_overlooks_broken_cases_would_be_seen(
    monkeypatch: pytest.MonkeyPatch, broken: tuple[Status, ...]
) -> None:
    monkeypatch.setattr(merge_gate, "BROKEN", broken)
    with pytest.raises(AssertionError):
        check_broken(merge_gate.judged)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5%", 0.05),
        ("5 %", 0.05),
        (" 5% ", 0.05),
        ("0.05", 0.05),
        ("2.5%", 0.025),
        ("0", 0.0),
        ("100%", 1.0),
        ("500 %", 5.0),
        (None, LEAST_EFFECT),
    ],
)
def test_a_share_is_read(text: str | None, value: float) -> None:
    assert merge_gate.share(text) == pytest.approx(value)


@pytest.mark.parametrize(
    "text", ["-5%", "-0.05", "nan", "inf", "nan%", "inf%", "1e400%", "5", "1", "", "%", "five", "5%%", "5% of it", "5‰"]
)
def test_anything_else_is_one_sentence(text: str) -> None:
    with pytest.raises(ReportError, match=r"--least takes a share such as 5%, 150% or 0\.05, not "):
        merge_gate.share(text)


@given(st.text())
def test_any_text_is_a_share_or_one_sentence(text: str) -> None:
    with contextlib.suppress(ReportError):
        assert 0 <= merge_gate.share(text) < merge_gate.MOST


def test_verdicts_are_read_in_any_case_and_once() -> None:
    assert merge_gate.asked_for(["slower", "SLOWER", "Unclear"]) == (Verdict.SLOWER, Verdict.UNCLEAR)
    assert merge_gate.asked_for([]) == ()


@pytest.mark.parametrize("word", ["same", "", "slow", "SLOWER,FASTER", "\x1b[31m"])
def test_an_unknown_verdict_is_one_sentence(word: str) -> None:
    with pytest.raises(ReportError, match="--fail-on takes SLOWER, FASTER, UNCLEAR and MISSING, not ") as error:
        merge_gate.asked_for(["slower", word])
    assert str(error.value).isprintable()
