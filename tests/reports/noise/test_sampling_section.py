"""What the machine did while cases were sampled: which blocks are marked, and what is told of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reports.noise import sampling_section as sampling
from reports.output.blocks import Table
from reports.reading.load import load
from reports.records.record import Group
from reports.speed.analysis import Analysis, analyse
from tests.reports.synthetic import benchmark, record, samples, write


def group(anchor: list[float], **fields: Any) -> Group:
    return Group(**{"group_id": "a", "anchor": anchor, "wall": 1, "sampling": 1, "cold_start": 0} | fields)


def drift(tmp_path: Path, own: Group, **fields: Any) -> Table:
    entries = [benchmark(record(group_id="a", **fields), samples(1e-3))]
    (table,) = sampling.drift(analyse(load([write(tmp_path / "a.json", entries, groups=[own])])))
    return table


def cells(table: Table) -> dict[str, str]:
    (row,) = table.rows
    return dict(zip((column.title for column in table.columns), row, strict=True))


def test_blocks_with_another_anchor_are_marked() -> None:
    found = group([1.0, 1.05, 0.95, 1.12, 0.88, 1.0])
    assert sampling.marked(found) == [3, 4]
    assert sampling.marked(group([])) == []


@pytest.mark.parametrize(
    ("throttled", "told"),
    [([], "3 and 4"), ([4, 1], "1, 3 and 4"), ([*range(10, 17)], "3, 4, 10, 11, 12, 13, 14, 15 and 16"),
     ([*range(10, 18)], "3, 4, 10, 11, 12, 13, 14, 15, 16 and 17"),
     ([*range(10, 30)], "3, 4, 10, 11, 12, 13, 14, 15, 16, 17 and 12 more")],
)  # fmt: skip
def test_marked_blocks_are_named_ten_at_most(throttled: list[int], told: str) -> None:
    assert sampling.listed(group([1.0, 1.05, 0.95, 1.12, 0.88, 1.0], throttled=throttled)) == told
    assert sampling.listed(group([1.0] * 8)) == ""


def test_drift_and_overhead_are_told(accounts: Analysis) -> None:
    groups = len(accounts.results.groups)
    first, second = sampling.sentences(accounts)
    assert first.endswith(
        "60.0 % in timed calls, 15.0 % in preparing forms, which is measured too, and 25.0 % beside them."
    )
    assert second.startswith(f"In {groups} of {20 * groups} blocks the unchanged anchor was more than 10 % off")
    table = sampling.drift(accounts)[0]
    assert [row[0] for row in table.rows] == ["1", "32", "256", "2,048"]
    assert table.rows[0][2:7] == ("20", "1.00 ms", "1.00 ms", "1.20 ms", "1")
    titles = {column.title for column in table.columns}
    assert titles.isdisjoint({"throttled blocks", "clock, MHz", "power, W"})
    assert table.rows[0][7] == "18"


def test_a_gpu_shows_the_span_of_its_clock_and_its_power(tmp_path: Path) -> None:
    own = group([1.0] * 8, throttled=[2], clock_mhz=[1980.0, 1755.4, 1980.0], power_w=[412.3, 698.9])
    told = cells(drift(tmp_path, own, device="cuda"))
    assert (told["clock, MHz"], told["power, W"]) == ("1,755 to 1,980", "412 to 699")
    assert (told["throttled blocks"], told["marked blocks"]) == ("1", "2")


def test_a_steady_group_names_no_block(tmp_path: Path) -> None:
    assert "marked blocks" not in cells(drift(tmp_path, group([1.0] * 8)))


def test_a_group_without_blocks_breaks_nothing(tmp_path: Path) -> None:
    own = group([], wall=0, sampling=0)
    assert len(drift(tmp_path, own).rows) == 1
    assert sampling.sentences(analyse(load([tmp_path / "a.json"]))) == []
