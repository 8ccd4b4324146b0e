"""The state of the machine beside the verdict: each of its facts, and when it is a warning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reports.front.state import state
from reports.output.blocks import Facts
from reports.reading.load import load
from reports.records.record import Group
from reports.speed.analysis import analyse
from tests.reports.synthetic import benchmark, ceilings, record, samples, write


def shown(folder: Path, anchor: list[float] | None = None, given: list[Any] | None = None, **fields: Any) -> Facts:
    """Return the state of a machine on which one case was measured."""
    entry = benchmark(record(group_id="one", **fields), samples(1e-3))
    groups = [Group(group_id="one", anchor=anchor, wall=3, sampling=2, cold_start=1)] if anchor else []
    analysis = analyse(load([write(folder / "run.json", [entry], groups=groups, ceilings=given or [])]))
    return state(analysis, analysis.settings[0], [])


@pytest.mark.parametrize(
    ("load_1m", "threads", "expected"),
    [(1.9, 1, "1.9, no other work"), (2.1, 1, "2.1, beside other work"), (2.9, 2, "2.9, no other work")],
)
def test_more_load_than_the_runs_own_threads_is_a_warning(
    tmp_path: Path, load_1m: float, threads: int, expected: str
) -> None:
    facts = shown(tmp_path, load_1m=load_1m, threads=threads)
    assert dict(facts.rows)["load"] == expected
    assert ("load" in facts.warnings) == ("beside" in expected)


@pytest.mark.parametrize(("off", "word"), [(0, "steady, off by"), (2, "steady, off by"), (3, "drifted")])
def test_an_anchor_off_in_more_than_a_tenth_of_the_blocks_is_a_warning(tmp_path: Path, off: int, word: str) -> None:
    facts = shown(tmp_path, anchor=[1.0] * (20 - off) + [1.2] * off)
    assert dict(facts.rows)["anchor"] == f"{word} over 10 % in {off} of 20 blocks"
    assert ("anchor" in facts.warnings) == (word == "drifted")


@pytest.mark.parametrize(
    ("peak", "word"), [(200e9, "stable"), (240e9, "stable"), (260e9, "unstable"), (150e9, "unstable")]
)
def test_ceilings_far_apart_are_called_unstable(tmp_path: Path, peak: float, word: str) -> None:
    given = [ceilings(), ceilings(flops_per_s=peak, measured_at="2026-11-03T13:00:00+00:00")]
    facts = shown(tmp_path, given=given)
    ratio = max(peak, 200e9) / min(peak, 200e9)
    assert dict(facts.rows)["ceilings"].startswith(f"{word}, 2 times measured; greatest over least: peak {ratio:.2f}")
    assert ("ceilings" in facts.warnings) == (word == "unstable")


def test_ceilings_of_another_machine_or_none_say_nothing_of_their_spread(tmp_path: Path) -> None:
    one = shown(tmp_path, given=[ceilings(), ceilings(device_name="other", flops_per_s=1e9)])
    assert dict(one.rows)["ceilings"] == "measured once, spread unknown"
    assert "ceilings" not in one.warnings
    none = shown(tmp_path)
    assert "ceilings" in none.warnings
