"""The map of break-even: what was measured, what is inferred, where the sign changes, and how a page shows it."""

from __future__ import annotations

import json
from itertools import pairwise
from math import log2
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import vl_convert
from hypothesis import given
from hypothesis import strategies as st

from reports.break_even.break_even_section import break_even_section, charts, frontiers, message, notes, speedups, words
from reports.break_even.figures import COLOURS, SIGNS, UNKNOWN
from reports.break_even.map import Facet, Line, Map, Point, maps
from reports.numbers.stats import Estimate, Verdict
from reports.output.blocks import Chart, Panel, Text
from reports.page import build
from reports.reading.load import load
from reports.records.record import Status
from reports.speed.analysis import analyse
from tests.reports.scale import HIDDEN, case, entries, scale_run
from tests.reports.synthetic import benchmark, samples
from tests.reports.within import within

F, S, U = Verdict.FASTER, Verdict.SLOWER, Verdict.UNCLEAR
RATIOS = {
    (128, 4, 1): {1: 0.2, 16: 0.6, 32: 0.9, 64: 1.3, 256: 2.0, 4096: 2.5},
    (128, 4, 2): {1: 0.1, 16: 0.4, 64: 0.8, 128: 1.0, 256: 1.2, 4096: 1.6},
    (128, 8, 1): {1: 1.5, 64: 3.0, 4096: 5.0},
    (512, 4, 2): {1: 0.1, 64: 0.5, 4096: 0.8},
    (512, 8, 2): {1: 1.0, 64: 1.0, 4096: 1.0},
    (512, 16, 2): {1: 0.5, 16: 2.0, 64: 2.0, 256: 0.7, 4096: 0.6},
}


def found(path: Path, *more: Path) -> list[Map]:
    return maps(analyse(load([path, *more])))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scale_run(tmp_path_factory.mktemp("scale") / "scale.json", RATIOS, noise=0.03)


@pytest.fixture(scope="module")
def drawn(run: Path) -> Map:
    (only,) = found(run)
    return only


def line_of(drawn: Map, sizes: tuple[int, int, int]) -> Line:
    features, experts, k = sizes
    (line,) = [
        line for line in drawn.lines if (line.facet.features, line.experts, line.facet.k) == (features, experts, k)
    ]
    return line


def test_every_point_is_the_fastest_pair_of_its_group(run: Path, drawn: Map):
    """Against brute force over the file itself."""
    raw = [
        (entry["extra_info"], np.median(entry["stats"]["data"])) for entry in json.loads(run.read_bytes())["benchmarks"]
    ]
    assert sum(len(line.points) for line in drawn.lines) == sum(map(len, RATIOS.values()))
    for (features, experts, k), by_rows in RATIOS.items():
        points = {point.rows: point for point in line_of(drawn, (features, experts, k)).points}
        assert points.keys() == by_rows.keys()
        for rows, point in points.items():
            own = [(info, time) for info, time in raw if info["features"] == features and info["rows"] == rows]
            dense = {
                info["form"]: time
                for info, time in own
                if info["head"] == "dense" and info["hidden"] == HIDDEN * experts
            }
            sparse = {
                info["form"]: time
                for info, time in own
                if (info["head"], info["experts"], info["k"]) == ("sparse", experts, k)
            }
            assert len(dense) == len(sparse) == 2
            assert point.base.record.form == min(dense, key=dense.__getitem__) == "onnxruntime"
            assert point.case.record.form == min(sparse, key=sparse.__getitem__) == "eager"
            assert point.ratio.paired
            assert point.ratio.value == pytest.approx(min(dense.values()) / min(sparse.values()), rel=0.02)
            assert point.ratio.value == pytest.approx(by_rows[rows], rel=0.05)
            if abs(log2(by_rows[rows])) > 0.1:
                assert point.verdict is (F if by_rows[rows] > 1 else S)


def test_each_head_is_told_where_it_overtakes(drawn: Map):
    told = {sizes: words(line_of(drawn, sizes)) for sizes in RATIOS}
    assert told == {
        (128, 4, 1): "between 32 and 64 rows",
        (128, 4, 2): "between 64 and 256 rows",
        (128, 8, 1): "faster from 1 row on",
        (512, 4, 2): "never up to 4,096 rows",
        (512, 8, 2): "unclear, from 1 to 4,096 rows",
        (512, 16, 2): told[512, 16, 2],
    }
    assert told[512, 16, 2].startswith("faster from about ")
    assert " and slower from about 1" in told[512, 16, 2]
    assert message(drawn) == (
        "Of 6 sparse heads in their fastest forms, 2 overtake the dense head of as many expert parameters between 32 "
        "and 256 rows, 1 is faster at every number of rows that is clear, 1 is slower at every number of rows that is "
        "clear, 1 is clear at no number of rows and 1 changes sides otherwise."
    )


def point(rows: int, verdict: Verdict, distance: float = 0.5) -> Point:
    """Return a point without cases, `distance` doublings from equal speed."""
    value = 2 ** {F: distance, S: -distance, U: 0.0}[verdict]
    low, high = (0.9, 1.1) if verdict is U else (value * 0.99, value * 1.01)
    return Point(rows, cast(Any, None), cast(Any, None), Estimate(value, low, high, 20, 10, True))


def line(truth: dict[int, Verdict]) -> Line:
    return Line(Facet(128, 64, 10, 2), 8, tuple(point(rows, verdict) for rows, verdict in sorted(truth.items())), {})


TRUTHS = st.dictionaries(st.integers(0, 16).map(lambda power: 2**power), st.sampled_from([F, S, U]), min_size=1)


@given(TRUTHS)
def test_crossings_lie_in_their_brackets_and_every_change_has_one(truth):
    own = line(truth)
    clear = [rows for rows in sorted(truth) if truth[rows] is not U]
    changes = [(low, high) for low, high in pairwise(clear) if truth[low] is not truth[high]]
    assert [(change.low, change.high) for change in own.crossings] == changes
    for change in own.crossings:
        assert change.low <= change.estimate <= change.high
        assert change.upward is (truth[change.high] is F)
    assert words(own)


@given(TRUTHS)
def test_only_rows_between_neighbours_that_clearly_agree_are_inferred(truth):
    own = line(truth)
    assert not own.inferred.keys() & truth.keys()
    for rows in (2**power for power in range(17)):
        below = max((known for known in truth if known < rows), default=None)
        above = min((known for known in truth if known > rows), default=None)
        inside = rows not in truth and below is not None and above is not None
        agree = inside and truth[below] is truth[above] is not U
        assert (rows in own.inferred) == agree
        assert (rows in own.unknown) == (inside and not agree)
        if agree:
            assert own.inferred[rows] is truth[below]


@given(st.floats(0.1, 3), st.floats(0.1, 3))
def test_the_estimate_is_where_the_line_between_the_ends_passes_equal_speed(below, above):
    own = Line(Facet(128, 64, 10, 2), 8, (point(64, S, below), point(1024, F, above)), {})
    (change,) = own.crossings
    assert log2(change.estimate) == pytest.approx(6 + 4 * below / (below + above))


def test_a_ratio_outside_its_own_interval_is_not_clear():
    odd = Point(1, cast(Any, None), cast(Any, None), Estimate(0.99, 1.01, 1.2, 20, 10, True))
    assert odd.verdict is U
    assert Point(1, odd.case, odd.base, Estimate(2.0, None, None, 2, 2)).verdict is U


def test_pairs_of_different_groups_or_sizes_are_no_points(tmp_path: Path):
    other = [benchmark(case((128, 4, 1), 8, group_id="another"), samples(1e-5))]
    narrow = [benchmark(case((128, 4, 1), 16, "dense", hidden=HIDDEN), samples(1e-5))]
    policy = [benchmark(case((128, 4, 1), 64, checkpoint="p", policy="top_p"), samples(1e-6))]
    (drawn,) = found(scale_run(tmp_path / "a.json", {(128, 4, 1): {8: 2.0, 64: 2.0}}, more=[*other, *narrow, *policy]))
    (own,) = drawn.lines
    assert [point.rows for point in own.points] == [8, 64]
    assert all(point.ratio.value == pytest.approx(2.0, rel=0.05) for point in own.points)


def test_the_latest_of_two_results_counts(tmp_path: Path):
    first = scale_run(tmp_path / "a.json", {(128, 4, 1): {8: 2.0}})
    later = list(entries((128, 4, 1), 8, 0.5, measured_at="2026-11-04T12:00:00+00:00", group_id="later"))
    second = scale_run(tmp_path / "b.json", {}, more=later)
    for paths in ((first, second), (second, first)):
        (drawn,) = found(*paths)
        assert [p.verdict for p in drawn.lines[0].points] == [S]


def test_another_device_dtype_or_clock_has_a_map_of_its_own(tmp_path: Path):
    settings = [{}, {"dtype": "bfloat16"}, {"device": "cuda", "device_name": "H100", "clock": "device"}]
    more = [entry for fields in settings for entry in entries((128, 4, 1), 8, 2.0, **fields)]
    drawn = found(scale_run(tmp_path / "a.json", {}, more=more))
    assert [(m.setting.device, m.setting.dtype, len(m.lines[0].points)) for m in drawn] == [
        ("cuda", "float32", 1), ("cpu", "float32", 1), ("cpu", "bfloat16", 1),
    ]  # fmt: skip


def test_other_suites_and_results_without_any_have_no_map(cpu_run: Path, tmp_path: Path):
    assert found(cpu_run) == []
    assert "break-even" not in build([cpu_run], tmp_path / "report").index.read_text(encoding="utf-8").lower()


def late(sizes: tuple[int, int, int], rows: int, **fields: Any):
    reason = "the time for the map was up; go on with --resume"
    return case(sizes, rows, **{"status": Status.SKIPPED, "reason": reason, **fields})


def test_what_the_time_did_not_suffice_for_stays_unknown_and_is_said(tmp_path: Path):
    export = late((128, 64, 1), 1, form="onnxruntime", reason="its export takes a minute")
    unmeasured = [late((128, 4, 1), 32), late((512, 4, 1), 1), late((512, 4, 1), 4096), export]
    ratios = {(128, 4, 1): {1: 0.2, 16: 0.5, 64: 1.6, 256: 2.0}, (128, 64, 1): {1: 0.5, 2: 0.5}}
    (drawn,) = found(scale_run(tmp_path / "a.json", ratios, unmeasured))
    started, other, untouched = line_of(drawn, (128, 4, 1)), line_of(drawn, (128, 64, 1)), line_of(drawn, (512, 4, 1))
    assert started.unknown == (32,)
    assert started.inferred == {2: S, 4: S, 8: S, 128: F}
    assert other.unknown == ()
    assert untouched.points == ()
    assert untouched.unknown == (1, 4096)
    assert words(untouched) == "not measured"
    assert notes(drawn) == [
        "Not measured at 1 to 4,096 rows: eager with 4 experts; the time for the map was up; go on with --resume.",
        "Not measured at 1 rows: onnxruntime with 64 experts; its export takes a minute.",
    ]
    assert "2 sparse heads" in message(drawn)


def cells(chart: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for rows in chart["datasets"].values() for row in rows]


def test_a_chart_holds_every_cell_and_shows_by_sign_what_it_shows_by_colour(drawn: Map):
    pictures = charts(drawn)
    assert [chart.heading for chart in pictures] == [
        "input width 128, 1 expert of width 64 per row",
        "input width 128, 2 experts of width 64 per row",
        "input width 512, 2 experts of width 64 per row",
    ]
    for picture, lines in zip(pictures, drawn.facets.values(), strict=True):
        rows = cells(picture.spec)
        measured = {(row["experts"], row["rows"]): row["sign"] for row in rows if "doublings" in row}
        assert measured == {(str(own.experts), p.rows): SIGNS[p.verdict] for own in lines for p in own.points}
        others = {
            (row["experts"], 2 ** row["power"]): row["sign"] for row in rows if "doublings" not in row and "sign" in row
        }
        expected = {(str(own.experts), rows): SIGNS[side] for own in lines for rows, side in own.inferred.items()}
        assert others == expected | {(str(own.experts), rows): UNKNOWN for own in lines for rows in own.unknown}
        bars = [row for row in rows if "sign" not in row]
        assert len(bars) == sum(len(own.crossings) for own in lines)
        assert all(str(own.experts) in picture.message and words(own) in picture.message for own in lines)
        svg = vl_convert.vegalite_to_svg(json.dumps(picture.spec | {"width": 380}), vl_version="6.4")
        assert "currentColor" in svg
        assert "NaN" not in svg
        assert 'fill="#000' not in svg
        assert all(colour in json.dumps(picture.spec) for colour in COLOURS)


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


@pytest.mark.parametrize("colour", COLOURS)
def test_signs_are_read_on_every_colour(colour):
    assert (luminance(colour) + 0.05) / (luminance("#1D1F22") + 0.05) > 4.5


def test_tables_hold_a_row_for_each_head_and_for_each_point(drawn: Map):
    edges, every = frontiers(drawn), speedups(drawn)
    assert len(edges.rows) == len(RATIOS)
    assert len(every.rows) == sum(map(len, RATIOS.values()))
    for table in (edges, every):
        assert all(len(row) == len(table.columns) for row in table.rows)
    row = next(row for row in edges.rows if row[:4] == ("128", "64", "1", "4"))
    assert row[4] == "6"
    assert row[5].endswith(" at 1")
    assert row[6].endswith(" at 4,096")
    assert 32 < int(row[7]) < 64
    assert row[8] == "between 32 and 64 rows"


def test_the_report_shows_the_map_and_its_text_is_data(run: Path, tmp_path: Path):
    attack = "</script><b>x</b>|`*_"
    hostile = list(entries((2048, 4, 1), 8, 2.0))
    for entry in hostile:
        if entry["extra_info"]["form"] == "eager":
            entry["extra_info"] |= {"form": attack, "case_id": attack + entry["extra_info"]["head"]}
    more = [late((2048, 4, 1), 64, form=attack, reason=attack)]
    path = scale_run(tmp_path / "a.json", {}, more, hostile)
    report = build([run, path], tmp_path / "report")
    page, text = (file.read_text(encoding="utf-8") for file in (report.index, report.markdown))
    assert '<section id="break-even"' in page
    assert "## Break-even" in text
    assert attack not in page
    assert "<b>x" not in text
    section = break_even_section(maps(analyse(load([run, path]))))
    for panel in within(section, Panel):
        assert within(panel, Text)[0].words in text
        assert all(chart.message in page for chart in within(panel, Chart))
    assert len(within(section, Panel)) > 0


def test_odd_sizes_from_a_file_are_shown_as_they_are(tmp_path: Path):
    huge = 10**18
    ratios = {(128, 4, 1): {3: 0.5, 100: 2.0, huge: 3.0}}
    (drawn,) = found(scale_run(tmp_path / "a.json", ratios))
    (own,) = drawn.lines
    assert [p.rows for p in own.points] == [3, 100, huge]
    assert own.unknown == (4, 8, 16, 32, 64)
    assert own.inferred.keys() == {2**power for power in range(7, 60)}
    assert charts(drawn)


def test_a_terminal_is_told_of_the_map(run: Path, drawn: Map, tmp_path: Path):
    headline = build([run], tmp_path / "report").headline
    assert headline[0] == message(drawn)
    assert headline[1].endswith("cases measured.")
    assert len(headline) == 2
