"""Plain pytest-benchmark files compared: with samples, without, of one run and of two, and broken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.changes import plain
from reports.changes.changes import Changes
from reports.changes.plain import Benchmark
from reports.errors import ReportError
from reports.numbers.stats import Verdict
from reports.records.summary import Summary

MACHINE = {
    "node": "runner-1", "system": "Linux", "release": "6.1", "machine": "x86_64", "python_version": "3.11.2",
    "python_implementation": "CPython", "cpu": {"brand_raw": "AMD EPYC"},
}  # fmt: skip


def entry(name: str, data: Any, group: str | None = None, keep: bool = True) -> dict[str, Any]:
    """Return an entry as pytest-benchmark writes it; its raw samples only if they are to be kept."""
    low, middle, high = np.quantile(data, [0.25, 0.5, 0.75])
    ends = {"min": float(np.min(data)), "max": float(np.max(data))}
    stats = {"median": float(middle), "iqr": float(high - low), "rounds": len(data), "iterations": 1, **ends}
    kept = {"data": [float(time) for time in data]} if keep else {}
    return {
        "group": group,
        "name": name,
        "fullname": f"tests/test_a.py::{name}",
        "extra_info": {},
        "stats": stats | kept,
    }


def noisy(median: float, rounds: int = 300, seed: int = 0, noise: float = 0.02) -> Any:
    return median * np.random.default_rng(seed).lognormal(0, noise, rounds)


def run(*entries: dict[str, Any], name: str = "a.json", written: str = "2026-11-03T12:00:00", **content: Any) -> Any:
    document = {"benchmarks": list(entries), "machine_info": MACHINE, "commit_info": {"id": "31a5c0941f2c"}}
    return plain.load(Path(name), {**document, "datetime": written, **content})


def compared(base: Any, new: Any, least: float = 0.05) -> Changes:
    later = {"written": "2026-11-04T12:00:00"}
    return plain.between(run(entry("test_f[1]", base)), run(entry("test_f[1]", new), **later), least)


def test_names_hide_nothing() -> None:
    listed = entry("test_f[\u202egnp.exe\x1b]", noisy(1e-3), group="\u202ea")
    (change,) = plain.between(run(listed), run(listed)).changes
    assert (change.case, change.family) == ("tests/test_a.py::test_f[\ufffdgnp.exe\ufffd]", "\ufffda")


def test_an_identical_file_is_the_same_everywhere() -> None:
    listed = [entry(f"test_f[{seed}]", noisy(1e-3, seed=seed, noise=0.2)) for seed in range(5)]
    found = plain.between(run(*listed), run(*listed))
    assert [change.verdict for change in found.changes] == [Verdict.SAME] * 5
    assert {(change.ratio.low, change.ratio.high) for change in found.changes} == {(1.0, 1.0)}
    assert found.warnings == ()


def test_a_copy_slowed_by_just_the_least_effect_is_slower() -> None:
    data = noisy(1e-3, noise=0.2)
    found = plain.between(run(entry("test_f", data)), run(entry("test_f", 1.05 * data)), 0.05)
    assert [change.verdict for change in found.changes] == [Verdict.SLOWER]


def test_two_runs_are_resampled_apart() -> None:
    (slower,) = compared(noisy(1e-3), noisy(1.2e-3, seed=1)).changes
    (same,) = compared(noisy(1e-3), noisy(1e-3, seed=1)).changes
    assert (slower.verdict, same.verdict) == (Verdict.SLOWER, Verdict.SAME)
    assert not slower.ratio.paired
    assert not slower.by_quartiles
    assert slower.ratio.blocks == 30
    assert slower.ratio.samples == 300


def test_a_disturbance_of_many_consecutive_samples_widens_the_interval() -> None:
    """As many slow samples scattered evenly say more of the median than those in one stretch."""
    scattered = noisy(1e-3)
    slow = np.zeros(300, dtype=bool)
    slow[::2] = True
    in_a_row = np.concatenate([1.3 * scattered[slow], scattered[~slow]])
    spread = np.where(slow, 1.3 * scattered, scattered)
    widths = []
    for data in (in_a_row, spread):
        (found,) = compared(data, noisy(1e-3, seed=1)).changes
        assert found.ratio.low is not None
        assert found.ratio.high is not None
        widths.append(found.ratio.high / found.ratio.low)
    assert widths[0] > 1.1 * widths[1]


@given(st.integers(1, 2000))
def test_blocks_are_consecutive_and_even(rounds: int) -> None:
    blocks = Benchmark(fullname="f", stats=Summary(median=1, iqr=0, rounds=rounds, data=(1.0,) * rounds)).side.blocks
    sizes = np.bincount(blocks)
    assert sizes.size == min(30, rounds)
    assert sizes.max() - sizes.min() <= 1
    assert np.all(np.diff(blocks) >= 0)


@pytest.mark.parametrize("kept", [(False, False), (True, False), (False, True)])
def test_without_samples_quartiles_decide(kept: tuple[bool, bool]) -> None:
    base = run(entry("test_f", noisy(1e-3), keep=kept[0]))
    new = run(entry("test_f", noisy(1.2e-3, seed=1), keep=kept[1]), written="2026-11-04T12:00:00")
    (found,) = plain.between(base, new).changes
    assert found.by_quartiles
    assert found.verdict is Verdict.SLOWER
    assert found.ratio.value == pytest.approx(found.base / found.new)


@pytest.mark.parametrize("keep", [True, False])
def test_four_rounds_are_unclear(keep: bool) -> None:
    base, new = (
        run(entry("test_f", noisy(1e-3, 4), keep=keep)),
        run(entry("test_f", noisy(9e-3, 4), keep=keep), written=""),
    )
    (found,) = plain.between(base, new).changes
    assert (found.verdict, found.ratio.low) == (Verdict.UNCLEAR, None)


def test_families_are_groups_or_modules() -> None:
    listed = [entry("test_f[1]", noisy(1e-3), "sorting"), entry("test_f[2]", noisy(1e-3)), entry("test_g", noisy(1e-3))]
    found = plain.between(run(*listed), run(*listed))
    assert {(family.name, family.ratio.samples) for family in found.families} == {
        ("sorting", 300),
        ("tests/test_a.py", 600),
    }


def test_benchmarks_of_one_run_only_are_named() -> None:
    one, two, three = (entry(f"test_{name}", noisy(1e-3)) for name in "abc")
    found = plain.between(run(one, two), run(two, three))
    assert (found.only_base, found.only_new) == (("tests/test_a.py::test_a",), ("tests/test_a.py::test_c",))


def test_what_differs_between_the_machines_is_told() -> None:
    other = MACHINE | {"node": "runner-2", "python_version": "3.12.1", "cpu": {"brand_raw": "Intel Xeon"}}
    listed = entry("test_f", noisy(1e-3))
    found = plain.between(run(listed), run(listed, machine_info=other, commit_info={"id": "1", "dirty": True}))
    assert found.warnings == (
        "The CPU differs: AMD EPYC → Intel Xeon.",
        "The host differs: runner-1 → runner-2.",
        "The version of Python differs: 3.11.2 → 3.12.1.",
        "NEW was measured with uncommitted changes: its commit does not say what ran.",
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "holds no benchmarks to compare"),
        ({"benchmarks": [1]}, "holds no benchmarks to compare"),
        ({"benchmarks": []}, "holds no benchmark"),
        ({"benchmarks": [{}]}, "broken at `benchmarks.0.fullname`"),
        ({"benchmarks": [{"fullname": "f"}]}, "the benchmark f has no `stats`"),
        ({"benchmarks": [{"fullname": "f", "stats": {"median": "NaN", "iqr": 0, "rounds": 9}}]}, "stats.median"),
        ({"benchmarks": [{"fullname": "f", "stats": {"median": 1, "iqr": -1, "rounds": 9}}]}, "stats.iqr"),
        ({"benchmarks": [{"fullname": "f", "stats": {"median": 1, "iqr": 0, "rounds": 9, "data": [-1]}}]}, "data.0"),
        ({"benchmarks": [{"fullname": "\ud800", "stats": {"median": 1, "iqr": 0, "rounds": 9}}]}, "no Unicode"),
        ({"benchmarks": [entry("f", [1.0]), entry("f", [1.0])]}, "test_a.py::f twice"),
    ],
)
def test_a_broken_file_is_one_sentence(content: dict[str, Any], said: str) -> None:
    with pytest.raises(ReportError) as error:
        plain.load(Path("a.json"), content)
    assert said in str(error.value)
    assert str(error.value).startswith("a.json")


def test_a_file_that_says_nothing_of_itself_is_read() -> None:
    bare = plain.load(Path("a.json"), {"benchmarks": [entry("f", noisy(1e-3))], "machine_info": 3, "commit_info": None})
    found = plain.between(bare, bare)
    assert found.runs[0].measured == "not recorded"
    assert found.warnings == ()
    assert not found.changes[0].ratio.paired


def test_nothing_in_common_is_an_error() -> None:
    with pytest.raises(ReportError, match=r"a\.json and b\.json have no case in common"):
        plain.between(run(entry("f", [1.0])), run(entry("g", [1.0]), name="b.json"))
