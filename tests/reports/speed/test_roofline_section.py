"""Rooflines against numbers worked out by hand, in the data and as drawn."""

from __future__ import annotations

from math import log10
from pathlib import Path

import pytest

from reports.output.blocks import Chart, Table
from reports.reading.load import load
from reports.records.record import Copy
from reports.speed import roofline_section as roofline
from reports.speed.analysis import Analysis, analyse
from reports.speed.roofline_section import LAUNCHED, POINTS, ROOFS
from tests.reports import drawn
from tests.reports.synthetic import benchmark, ceilings, record, samples, write
from tests.reports.within import within

# 4,000,000 operations, 1,000,000 bytes; peak 200 GFLOP/s: 20 us; bytes held by caches of 25 GB/s: 40 us; launch 1 us
COUNTED = {"flops": 4_000_000, "least_bytes": 1_000_000}


def analysed(folder: Path, *fields: dict, **known) -> Analysis:
    entries = [benchmark(record(**each), [each_time] * 20) for each, each_time in known.pop("timed", [])]
    entries += [benchmark(record(**each), samples(1e-3)) for each in fields]
    return analyse(load([write(folder / "run.json", entries, ceilings=[ceilings(**known)])]))


def chart_of(found: Analysis) -> Chart:
    (chart,) = within(roofline.roofline_section(found), Chart)
    return chart


def test_a_point_by_hand(tmp_path: Path) -> None:
    found = analysed(tmp_path, timed=[(COUNTED, 100e-6)])
    (point,) = roofline.points(found, found.settings[0])
    assert point.intensity == 4.0
    assert point.reached == pytest.approx(4e10)
    assert point.roof == pytest.approx(4e6 / 40e-6)
    assert point.launched == pytest.approx(4e6 / 41e-6)
    assert point.share == pytest.approx(0.4)
    assert chart_of(found).message == (
        "The fastest forms of the sparse head reach at 256 rows 40.0 GFLOP/s (eager), 40.0 % of a roof of "
        "100 GFLOP/s by bandwidth, cache-resident."
    )


def test_the_message_is_of_the_fastest_form_at_the_fewest_and_at_the_most_rows(tmp_path: Path) -> None:
    few, many = COUNTED | {"rows": 1}, {"flops": 400_000_000, "least_bytes": 4_000_000, "rows": 64}
    timed = [(few | {"form": form}, time) for form, time in (("loop", 200e-6), ("eager", 100e-6))]
    timed += [(many | {"form": form}, time) for form, time in (("loop", 4e-3), ("eager", 8e-3))]
    assert chart_of(analysed(tmp_path, timed=timed)).message == (
        "The fastest forms of the sparse head reach at 1 row 40.0 GFLOP/s (eager), 40.0 % of a roof of 100 GFLOP/s by "
        "bandwidth, cache-resident and at 64 rows 100 GFLOP/s (loop), 50.0 % of a roof of 200 GFLOP/s by arithmetic."
    )


def test_roofs_by_hand() -> None:
    lines = roofline.roofs(ceilings(), 1.0, 100.0)
    assert [(row["roof"], row["intensity"], row["rate"]) for row in lines] == [
        ("memory", 1.0, 10e9),
        ("memory", 20.0, 200e9),
        ("memory", 100.0, 200e9),
        ("cache", 1.0, 40e9),
        ("cache", 5.0, 200e9),
        ("cache", 100.0, 200e9),
    ]


def test_a_roof_that_bends_outside_the_picture_has_two_ends() -> None:
    flat = [row for row in roofline.roofs(ceilings(), 30.0, 100.0) if row["roof"] == "memory"]
    assert [(row["intensity"], row["rate"]) for row in flat] == [(30.0, 200e9), (100.0, 200e9)]


def test_a_machine_without_a_faster_cache_has_one_slope() -> None:
    one = ceilings(copies=[Copy(working_set=2**31, bytes_per_s=3e12)])
    assert {row["roof"] for row in roofline.roofs(one, 1.0, 100.0)} == {"memory"}


def test_points_and_roofs_are_drawn_where_they_are(accounts: Analysis) -> None:
    chart = chart_of(accounts)
    assert [choice.label for choice in chart.choices] == ["sparse head", "dense head", "soft head"]
    data = chart.choices[0].data
    picture = drawn.svg(chart.spec, data)
    seen = drawn.marks(picture, "point")
    assert len(seen) == len(data[POINTS]) == 16
    places = [(drawn.middle(mark), row) for mark, row in zip(seen, data[POINTS], strict=True)]
    (first, low), (last, high) = places[0], places[-1]
    scales = [
        (end - start) / log10(b / a)
        for start, end, a, b in zip(
            first, last, (low["intensity"], low["rate"]), (high["intensity"], high["rate"]), strict=True
        )
    ]
    for place, row in places:
        for axis, (pixel, value) in enumerate(zip(place, (row["intensity"], row["rate"]), strict=True)):
            origin = (low["intensity"], low["rate"])[axis]
            assert pixel == pytest.approx(first[axis] + scales[axis] * log10(value / origin), abs=0.1)
    assert "NaN" not in picture
    assert 'fill="#000' not in picture
    assert {row["roof"] for row in data[ROOFS]} == {"memory", "cache"}
    assert len(data[LAUNCHED]) == 4


def test_the_table_holds_what_the_points_stand_for(accounts: Analysis) -> None:
    (table,) = within(roofline.roofline_section(accounts), Table)
    titles = [column.title for column in table.columns]
    row = next(dict(zip(titles, row, strict=True)) for row in table.rows if row[:2] == ("sparse", "256"))
    assert row["MFLOP"] == "36.3"
    assert row["least bytes"] == "1.64 MB"
    assert row["FLOP per byte"] == f"{141_864 * 256 / (4 * (276_064 + 256 * 522)):.1f}"
    assert row["roof, GFLOP/s"] == "200"
    assert row["roof by"] == "arithmetic"
    case = next(
        case
        for case in accounts.cases(accounts.settings[0])
        if (case.record.head, case.record.form, case.record.rows) == ("sparse", "onnxruntime", 256)
    )
    reached = 141_864 * 256 / accounts.latencies[case].value / 1e9
    assert row["onnxruntime, GFLOP/s"] == f"{reached:.1f} ({reached / 2:.1f} %)"
    assert row["eager, GFLOP/s"] == ""


def test_what_has_no_floor_has_no_point(analysis: Analysis, tmp_path: Path) -> None:
    assert roofline.roofline_section(analysis) is None
    found = analysed(tmp_path, COUNTED | {"least_bytes": None}, COUNTED | {"case_id": "cold", "cache": "cold"})
    assert roofline.roofline_section(found) is None
