"""What else differs between two runs of moegap, and what the anchor says of the machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reports.changes.changes import between
from reports.changes.conditions import OVERRULED, commits
from reports.reading.load import Results, load
from reports.records.record import Group
from tests.reports.synthetic import benchmark, record, samples, write

VERSIONS = {"python": "3.11.2", "torch": "2.15.0", "numpy": "2.4.6"}


def run(path: Path, anchor: float | None = None, rows: tuple[int, ...] = (1, 32), **fields: Any) -> Results:
    fields = {"versions": VERSIONS} | fields
    records = [record(rows=place, group_id=f"{path.stem}-{place}", **fields) for place in rows]
    groups = [
        Group(group_id=case.group_id, anchor=[anchor] * 9 + [99.0], wall=1, sampling=1, cold_start=0)
        for case in records
        if anchor is not None
    ]
    return load([write(path, [benchmark(case, samples(1e-3)) for case in records], (), (), groups)])


def warnings(folder: Path, base: dict[str, Any], new: dict[str, Any]) -> list[str]:
    new = {"commit": "another"} | new
    return list(between(run(folder / "a.json", **base), run(folder / "b.json", **new), 0.05).warnings)


@pytest.mark.parametrize(
    ("base", "new", "said"),
    [
        ({}, {}, []),
        ({}, {"commit": "another"}, []),
        ({"driver": "550.1"}, {"driver": "560.2"}, ["The driver differs: 550.1 → 560.2."]),
        ({}, {"device_name": "NVIDIA H100"}, ["The device differs: AMD EPYC 7B13 → NVIDIA H100."]),
        ({}, {"cpu": "Intel Xeon"}, ["The CPU differs: AMD EPYC 7B13 → Intel Xeon."]),
        ({"threads": 1}, {"threads": 2}, ["The number of threads differs: 1 → 2."]),
        ({}, {"thread_wait": "PASSIVE"}, ["The way threads wait differs: not recorded → PASSIVE."]),
        (
            {},
            {"versions": {"python": "3.11.2", "torch": "2.16.0", "triton": "3.9.0"}},
            [
                "The version of torch differs: 2.15.0 → 2.16.0.",
                "The version of numpy differs: 2.4.6 → not recorded.",
                "The version of triton differs: not recorded → 3.9.0.",
            ],
        ),
        (
            {"weights_sha256": "a" * 64},
            {"weights_sha256": "b" * 64},
            [f"The hash of the weights of cifar10-sparse differs: {12 * 'a'} → {12 * 'b'}."],
        ),
        (
            {"dirty": True},
            {"dirty": True},
            [
                "BASE was measured with uncommitted changes: its commit does not say what ran.",
                "NEW was measured with uncommitted changes: its commit does not say what ran.",
            ],
        ),
    ],
)
def test_what_differs_is_told(tmp_path: Path, base: dict[str, Any], new: dict[str, Any], said: list[str]) -> None:
    assert warnings(tmp_path, base, new) == said


def test_only_matched_cases_count(tmp_path: Path) -> None:
    assert warnings(tmp_path, {"rows": (1, 8)}, {"rows": (1, 9)}) == []


def test_it_is_told_in_how_many_cases(tmp_path: Path) -> None:
    base = run(tmp_path / "a.json")
    entries = [
        benchmark(record(rows=rows, versions=VERSIONS, threads=threads, commit="another"), samples(1e-3))
        for rows, threads in ((1, 1), (32, 4))
    ]
    new = load([write(tmp_path / "b.json", entries)])
    assert list(between(base, new).warnings) == ["The number of threads differs in 1 of 2 cases: 1 → 4."]


def test_the_anchor_tells_of_another_machine(tmp_path: Path) -> None:
    assert warnings(tmp_path, {"anchor": 1e-3}, {"anchor": 1.1e-3}) == [
        "The anchor, work that never changes, took 1.10× as long in NEW as in BASE, beyond the least effect in 2 of 2 "
        f"groups: there the machine changed, so 2 cases are in doubt ({OVERRULED})."
    ]
    (faster,) = warnings(tmp_path, {"anchor": 1e-3}, {"anchor": 0.5e-3})
    assert "took 0.50× as long" in faster


def test_one_group_in_which_the_anchor_moved_is_enough(tmp_path: Path) -> None:
    """Means over groups would hide it: here one is slower as much as the other is faster."""
    sides = []
    for name, anchors in (("a", (1e-3, 1e-3)), ("b", (2e-3, 0.5e-3))):
        records = [record(rows=rows, group_id=f"{name}-{rows}", commit=name) for rows in (1, 32)]
        groups = [
            Group(group_id=case.group_id, anchor=[anchor], wall=1, sampling=1, cold_start=0)
            for case, anchor in zip(records, anchors, strict=True)
        ]
        entries = [benchmark(case, samples(1e-3)) for case in records]
        sides.append(load([write(tmp_path / f"{name}.json", entries, (), (), groups)]))
    (told,) = between(*sides).warnings
    assert "took 0.50× to 2.00× as long in NEW as in BASE, beyond the least effect in 2 of 2 groups" in told


@pytest.mark.parametrize(("load_1m", "told"), [(None, False), (2.9, False), (3.1, True)])
def test_other_work_beside_a_run_is_told(tmp_path: Path, load_1m: float | None, told: bool) -> None:
    found = warnings(tmp_path, {"threads": 2}, {"threads": 2, "load_1m": load_1m})
    assert found == told * [
        "NEW was measured beside other work: the load average was 3.1 when a group began, with 2 threads of its own."
    ]


@pytest.mark.parametrize(("base", "new"), [(1e-3, 1.01e-3), (None, 1e-3), (0.0, 1e-3)])
def test_a_steady_or_unknown_anchor_says_nothing(tmp_path: Path, base: float | None, new: float) -> None:
    assert warnings(tmp_path, {"anchor": base}, {"anchor": new}) == []


def test_commits_are_short_and_say_what_was_not_committed() -> None:
    found = [
        ("31a5c0941f" + 30 * "0", False),
        ("31a5c0941f" + 30 * "0", False),
        ("f" * 40, True),
        ("", None),
        ("unversioned", None),
    ]
    assert commits(found) == "31a5c0941f, ffffffffff with uncommitted changes, not recorded, unversioned"
