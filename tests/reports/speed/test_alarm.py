"""The alarm about times below their floors: when it sounds, and that no reader can miss it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from reports.account import text as account_text
from reports.page import build
from reports.reading.load import load
from reports.speed.alarm import alarm
from reports.speed.analysis import Analysis, analyse
from tests.reports.synthetic import benchmark, ceilings, record, write

# 4,000,000 operations at 200 GFLOP/s: 20 us; launch 1 us. 1,000,000 bytes at 25 GB/s: 40 us, or 26.7 us if only read.
MOVED = {"flops": 4_000_000, "least_bytes": 1_000_000}
COMPUTED = {"flops": 4_000_000, "least_bytes": 1_000}


def run(folder: Path, *cases: tuple[dict[str, int], Sequence[float]]) -> Path:
    """Write a result: a dense head of 100 us, and sparse heads with so many microseconds in each block."""
    dense = benchmark(record(head="dense", **MOVED), [1e-4] * 20)
    entries = [
        benchmark(record(form=f"form-{place}", **counted), [1e-6 * time for time in times for _ in range(2)])
        for place, (counted, times) in enumerate(cases)
    ]
    return write(folder / "run.json", [dense, *entries], ceilings=[ceilings()])


def alarms(folder: Path, counted: dict[str, int], *times: float) -> bool:
    return bool(alarm(analyse(load([run(folder, (counted, times))]))))


@pytest.mark.parametrize(
    ("counted", "microseconds", "alarmed"),
    [
        (COMPUTED, 22, False),
        (COMPUTED, 19.2, False),  # within a tenth of 21 us: a better product may exist than the one that was tried
        (COMPUTED, 19, True),
        (MOVED, 41, False),
        (MOVED, 25.3, False),  # work that only reads takes 27.7 us, and a tenth less
        (MOVED, 25, True),
    ],
)
def test_a_time_may_undercut_its_floor_by_what_the_ceilings_allow(
    tmp_path: Path, counted: dict[str, int], microseconds: float, alarmed: bool
) -> None:
    assert alarms(tmp_path, counted, *[microseconds] * 10) is alarmed


def test_a_median_sounds_it_only_if_its_whole_interval_does(tmp_path: Path) -> None:
    assert not alarms(tmp_path, COMPUTED, *[10] * 6, *[30] * 5)
    assert alarms(tmp_path, COMPUTED, *[10] * 10, 30)
    assert alarms(tmp_path, COMPUTED, 10, 10, 30)  # too few blocks for an interval


def test_cases_without_a_floor_or_above_it_sound_none(analysis: Analysis, accounts: Analysis) -> None:
    assert alarm(analysis) == alarm(accounts) == []


def test_it_stands_on_the_page_in_markdown_and_on_the_terminal(tmp_path: Path) -> None:
    path = run(tmp_path, *[(COMPUTED, [10] * 10)] * 4)
    warning = (
        "Warning: 4 cases take less than the machine needs at least, so the floor, the clock or the counted work is "
        "wrong (sparse head, form-0, 256 rows: 10.0 µs against 21.0 µs; "
    )
    report = build([path], tmp_path / "report")
    for text in (report.index.read_text(), report.markdown.read_text()):
        assert text.count(warning) >= 2  # at the top, and in the account
    assert report.headline[0].startswith(warning)
    assert report.headline[0].endswith("; and 1 more).")
    (last,) = list(account_text.speedups(analyse(load([path]))))[-1:]
    assert last.startswith(warning)
