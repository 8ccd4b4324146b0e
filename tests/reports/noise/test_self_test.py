"""What a self-test says: counts of verdicts that can be told by hand, its bounds, and files that are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.errors import ReportError
from reports.noise import self_test
from reports.noise.self_test import KnownAnswer
from reports.numbers.stats import LEAST_BLOCKS, Verdict
from reports.page import build
from reports.reading import documents, inputs
from reports.reading.files import read
from reports.records.self_test import SelfTest


def comparison(
    slowdown: float = 0.0, takes: float | None = None, noise: float = 0.002, blocks: int = 20, seed: int = 0
) -> dict[str, Any]:
    """Return a comparison whose side b really takes `takes` times as long as side a."""
    rng = np.random.default_rng(seed)
    takes = 1 + slowdown if takes is None else takes
    return {
        "slowdown": slowdown, "head": "fast-sparse", "form": "eager", "rows": 32, "clock": "wall", "stopped_by": "time",
        "samples_a": (1e-3 * rng.lognormal(0, noise, 3 * blocks)).tolist(),
        "blocks_a": np.repeat(np.arange(blocks), 3).tolist(),
        "samples_b": (takes * 1e-3 * rng.lognormal(0, noise, 2 * blocks)).tolist(),
        "blocks_b": np.repeat(np.arange(blocks), 2).tolist(),
    }  # fmt: skip


def content(*comparisons: dict[str, Any], **more: Any) -> dict[str, Any]:
    environment = {"device": "cpu", "cpu": "Some CPU", "threads": 2, "versions": {"torch": "2.15"}}
    return {
        "format": 1, "kind": "self-test", "command": "moegap self-test", "environment": environment,
        "neighbour": True, "seconds": 1.0, "seed": 0, "comparisons": list(comparisons), **more,
    }  # fmt: skip


def parsed(*comparisons: dict[str, Any], **more: Any) -> SelfTest:
    test = documents.parsed(Path("self-test.json"), content(*comparisons, **more))
    assert isinstance(test, SelfTest)
    return test


def mixed() -> SelfTest:
    failed = comparison() | {"failure": "Python's garbage collector ran", "samples_b": [], "blocks_b": []}
    return parsed(
        *(comparison(seed=seed) for seed in range(3)),
        comparison(takes=0.8),
        comparison(noise=0.5),
        failed,
        comparison(0.05),
        comparison(0.05, takes=1.0),
        comparison(0.2),
        comparison(0.2, takes=1.1),
        comparison(0.2, blocks=LEAST_BLOCKS - 1),
        comparison(0.02, takes=1.0),
    )


def test_verdicts_are_counted_and_those_against_the_truth_are_wrong() -> None:
    identical, little, twentieth, fifth = self_test.answers(mixed())
    same, slower, unclear = Verdict.SAME, Verdict.SLOWER, Verdict.UNCLEAR
    assert identical.verdicts == (same, same, same, Verdict.FASTER, unclear)
    assert (identical.slowdown, identical.wrong, identical.covered, identical.failed) == (0, 1, 4, 1)
    assert (little.verdicts, little.wrong, little.covered) == ((same,), 0, 0)
    assert (twentieth.verdicts, twentieth.wrong, twentieth.covered) == ((slower, same), 1, 1)
    assert (fifth.verdicts, fifth.wrong, fifth.covered) == ((slower, slower, unclear), 0, 1)
    assert 0 < fifth.width < 0.02


def test_the_table_has_a_row_for_each_slowdown() -> None:
    table = self_test.table(self_test.answers(mixed()))
    rows = [dict(zip([column.title for column in table.columns], row, strict=True)) for row in table.rows]
    assert [row["side b"] for row in rows] == ["the same code", *(f"slower by {by} %" for by in (2, 5, 20))]
    assert [rows[0][str(verdict)] for verdict in Verdict] == ["1", "0", "3", "1"]
    assert (rows[0]["comparisons"], rows[0]["wrong"]) == ("5", "20.0 %")
    assert rows[2]["interval holds the truth"] == "50.0 %"


def test_the_sentences_give_counts_and_shares() -> None:
    identical, slowed, failed = self_test.sentences(self_test.answers(mixed()), neighbour=True)
    assert identical == (
        "Measured beside a neighbour busy on one core, identical code under two names was called FASTER or SLOWER in "
        "1 of 5 (20.0 %) comparisons."
    )
    assert slowed == (
        "Of code slower by a known 5 and 20 % the interval held the true ratio in 2 of 5 (40.0 %) comparisons; the "
        "verdict was SLOWER in 3 of 5 (60.0 %) and wrong in 1 of 5 (20.0 %)."
    )
    assert failed == "1 comparison failed and has no verdict."


def test_a_test_of_one_kind_says_nothing_of_the_other() -> None:
    only = self_test.answers(parsed(comparison(0.2)))
    assert len(self_test.sentences(only, neighbour=False)) == 1
    assert self_test.holds(only)
    broken = comparison() | {"failure": "it raised"}
    assert self_test.sentences(self_test.answers(parsed(broken)), neighbour=False) == [
        "1 comparison failed and has no verdict."
    ]
    assert next(self_test.lines(parsed(broken))).startswith("side b the same code; comparisons 0")


def found(slowdown: float, verdicts: list[Verdict], covered: int) -> KnownAnswer:
    return KnownAnswer(slowdown, tuple(verdicts), covered, 0.01, 0)


@given(st.integers(0, 40), st.integers(0, 40))
def test_the_bounds_are_one_wrong_verdict_in_twenty_and_nineteen_intervals(wrong: int, missed: int) -> None:
    identical = found(0.0, [Verdict.SLOWER] * wrong + [Verdict.SAME] * (40 - wrong), 40)
    slowed = found(0.05, [Verdict.SLOWER] * 40, 40 - missed)
    little = found(0.02, [Verdict.SAME] * 40, 0)
    assert self_test.holds([identical, little, slowed]) is (wrong <= 2 and missed <= 2)


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({"format": 2}, "newer moegap"),
        ({"comparisons": []}, "broken at `comparisons`"),
        ({"comparisons": [comparison() | {"blocks_b": [0]}]}, "every sample needs its block"),
        ({"comparisons": [comparison() | {"samples_a": [], "blocks_a": []}]}, "of a picosecond or more"),
        ({"comparisons": [comparison() | {"samples_a": [0.0], "blocks_a": [0]}]}, "of a picosecond or more"),
        ({"comparisons": [comparison() | {"slowdown": -1}]}, "slowdown"),
    ],
)
def test_a_broken_file_is_refused_in_one_sentence(tmp_path: Path, broken: dict[str, Any], reason: str) -> None:
    path = tmp_path / "file.json"
    path.write_text(json.dumps(content(comparison()) | broken))
    with pytest.raises(ReportError, match=reason):
        inputs.gather(read([path]))


def test_a_file_is_known_by_its_kind(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_text(json.dumps(content(comparison())))
    (test,) = inputs.gather(read([path])).self_tests
    assert test.device == "CPU Some CPU, 2 threads"
    assert self_test.ratio(test.comparisons[0]).value == pytest.approx(1, abs=0.01)


def test_a_report_shows_it_with_its_machine_and_command(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_text(json.dumps(content(*(comparison(slowdown) for slowdown in (0.0, 0.05, 0.2)), command="moegap <b>")))
    made = build([path], tmp_path / "report")
    page, told = made.index.read_text(), made.markdown.read_text()
    assert "CPU Some CPU, 2 threads, beside a busy process" in page
    assert "moegap &lt;b&gt;" in page
    assert "moegap <b>" not in page
    (test,) = inputs.gather(read([path])).self_tests
    for sentence in self_test.sentences(self_test.answers(test), neighbour=True):
        assert sentence in page
        assert sentence.split("(")[0] in told
