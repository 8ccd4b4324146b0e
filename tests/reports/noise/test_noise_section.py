"""Raw samples: thinning keeps what counts, shares are those of an analysis of variance, the picture holds every one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.noise import noise_section as noise
from reports.noise.noise_section import MEDIAN, SAMPLES, samples_chart
from reports.output.blocks import Chart, Table
from reports.reading.load import load
from reports.speed.analysis import Analysis, analyse
from tests.reports import drawn
from tests.reports.synthetic import benchmark, record, write
from tests.reports.within import within

TIMES = st.lists(st.floats(1e-7, 1e2), min_size=1, max_size=200).map(np.array)


@given(TIMES, st.integers(2, 60))
def test_thinning_keeps_the_least_and_the_greatest(samples: np.ndarray, most: int) -> None:
    places = noise.thinned(samples, most)
    assert len(places) <= most
    assert list(places) == sorted(set(places.tolist()))
    kept = samples[places]
    assert (kept.min(), kept.max()) == (samples.min(), samples.max())
    if samples.size <= most:
        assert len(places) == samples.size


def test_thinning_is_even() -> None:
    samples = np.linspace(1, 2, 1001)
    assert set(np.diff(noise.thinned(samples, 12))) <= {111, 112}


@given(st.lists(st.integers(1, 500), min_size=1, max_size=60), st.integers(150, 5000))
def test_all_cases_together_show_no_more_than_a_page_holds(sizes: list[int], total: int) -> None:
    most = noise.share(sizes, total)
    assert sum(min(size, most) for size in sizes) <= total
    if sum(sizes) <= total:
        assert most == max(sizes)
    elif most > 2:
        assert sum(min(size, most + 1) for size in sizes) > total


def test_the_share_between_blocks_is_that_of_an_analysis_of_variance() -> None:
    samples, blocks = np.array([1.0, 3.0, 4.0, 6.0, 8.0, 8.0]), np.array([0, 0, 1, 1, 2, 2])
    # means 2, 5, 8 around 5: between 2 (9 + 0 + 9) / 2 = 18; within (1 + 1 + 1 + 1 + 0 + 0) / 3; two in each block
    between, within = 18.0, 4 / 3
    added = (between - within) / 2
    assert noise.between_blocks(samples, blocks) == pytest.approx(added / (added + within))


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_the_share_between_blocks_finds_what_was_planted(share: float) -> None:
    rng = np.random.default_rng(0)
    blocks = np.repeat(np.arange(2000), 3)
    samples = 10 + np.sqrt(share) * rng.normal(size=2000)[blocks] + np.sqrt(1 - share) * rng.normal(size=6000)
    assert noise.between_blocks(samples, blocks) == pytest.approx(share, abs=0.05)


@pytest.mark.parametrize("blocks", [[0, 0, 0, 0], [0, 1, 2, 3]])
def test_one_block_or_one_sample_each_tells_nothing(blocks: list[int]) -> None:
    assert noise.between_blocks(np.array([1.0, 2.0, 3.0, 5.0]), np.array(blocks)) is None
    assert noise.between_blocks(np.ones(4), np.array([0, 0, 1, 1])) is None


def run(folder: Path, *cases: tuple[dict, list[float]], per_block: int = 2) -> Analysis:
    entries = [benchmark(record(**fields), times, per_block) for fields, times in cases]
    return analyse(load([write(folder / "run.json", entries)]))


def test_a_row_holds_what_numpy_says(tmp_path: Path) -> None:
    times = np.random.default_rng(1).lognormal(-7, 0.2, 40)
    found = noise.noise_section(run(tmp_path, ({}, times.tolist())))
    (table,) = within(found, Table)
    row = dict(zip([column.title for column in table.columns], table.rows[0], strict=True))
    us = times * 1e6
    middle = np.median(np.median(us.reshape(20, 2), axis=1))
    first, third = np.percentile(us, [25, 75])
    expected = [us.min(), np.percentile(us, 5), middle, np.percentile(us, 95), us.max()]
    shown = [row[title] for title in ("least", "5 %", "median", "95 %", "most")]
    for cell, value in zip(shown, expected, strict=True):
        assert float(cell.replace(" ms", "e3").replace(" µs", "")) == pytest.approx(value, rel=6e-3)
    assert row["quartile variation"] == f"{100 * (third - first) / (third + first):.1f} %"
    assert (row["n"], row["blocks"], row["ended by"]) == ("40", "20", "blocks")


def test_every_sample_is_drawn_in_the_order_taken(tmp_path: Path) -> None:
    times = [1e-3, 2e-3, 4e-3, 8e-3, 3e-3]
    found = noise.noise_section(run(tmp_path, ({}, times)))
    (chart,) = within(found, Chart)
    assert chart.choices[0].data == {SAMPLES: ["1500:1000 2000|6000:4000 8000|3000:3000"], MEDIAN: [{"us": 3000.0}]}
    assert chart.message == "5 samples, 3 blocks; median 3.00 ms."
    picture = drawn.svg(chart.spec)
    assert "undefined" not in picture
    points = drawn.marks(picture, "point")
    assert [(int(mark["place"]), int(mark["block"]), mark["µs"].replace(",", "")) for mark in points] == [
        (1, 1, "1000"), (2, 1, "2000"), (3, 2, "4000"), (4, 2, "8000"), (5, 3, "3000"),
    ]  # fmt: skip
    heights = [drawn.middle(mark)[1] for mark in points]
    doubling = (heights[3] - heights[0]) / 3  # pixels
    assert heights == pytest.approx([heights[0] + doubling * np.log2(time / 1e-3) for time in times], abs=1e-6)
    assert "NaN" not in picture
    assert 'fill="#000' not in picture


def test_the_step_line_is_the_median_of_each_block(tmp_path: Path) -> None:
    found = noise.noise_section(run(tmp_path, ({}, [1e-3, 2e-3, 9e-3, 4e-3, 8e-3, 6e-3]), per_block=3))
    picture = drawn.svg(within(found, Chart)[0].spec)
    points = [drawn.middle(mark)[1] for mark in drawn.marks(picture, "point")]
    (line,) = drawn.marks(picture, "line mark")
    levels = {round(float(y), 3) for y in line["d"].replace("L", "M").split("M")[1:] for y in [y.split(",")[1]]}
    assert levels == {round(points[1], 3), round(points[5], 3)}


def test_more_samples_than_fit_are_thinned_and_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise, "SHOWN", 30)
    times = np.random.default_rng(2).lognormal(-7, 0.1, 100)
    found = noise.noise_section(run(tmp_path, ({}, times.tolist())))
    (chart,) = within(found, Chart)
    assert chart.message.startswith("30 of 100 samples shown, 50 blocks; median ")
    groups = [group.split(":") for group in chart.choices[0].data[SAMPLES][0].split("|")]
    shown = [float(text) for _, own in groups for text in own.split()]
    assert len(shown) == 30
    of_all = [f"{float(f'{1e6 * median:.4g}'):g}" for median in times.reshape(50, 2).mean(axis=1)]
    told = iter(of_all)
    assert all(median in told for median, _ in groups)  # of all samples of a block, in the order of blocks
    assert (min(shown), max(shown)) == pytest.approx((1e6 * times.min(), 1e6 * times.max()), rel=1e-3)


@given(TIMES)
def test_samples_keep_four_digits(samples: np.ndarray) -> None:
    blocks = np.arange(samples.size) // 3
    medians = {block: float(np.median(samples[blocks == block])) for block in np.unique(blocks).tolist()}
    parts = [group.split(":") for group in noise.text(samples, blocks, medians).split("|")]
    np.testing.assert_allclose([float(median) for median, _ in parts], 1e6 * np.array([*medians.values()]), rtol=5.1e-4)
    groups = [group for _, group in parts]
    assert [len(group.split(" ")) for group in groups] == np.unique(blocks, return_counts=True)[1].tolist()
    read = np.array([float(text) for group in groups for text in group.split(" ")])
    np.testing.assert_allclose(read, samples * 1e6, rtol=5.1e-4)


def test_of_many_cases_the_noisiest_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise, "LISTED", 3)
    monkeypatch.setattr(noise, "NOISIEST", 2)
    cases = [
        ({"rows": rows}, [1e-3, 1e-3 * (1 + spread)] * 8) for rows, spread in ((1, 0.3), (2, 0.1), (4, 0.5), (8, 0.2))
    ]
    found = noise.noise_section(run(tmp_path, *cases))
    assert [row[2] for row in within(found, Table)[0].rows] == ["1", "4"]
    assert within(found, Table)[0].caption.endswith("; the 2 noisiest of 4 cases")
    assert len(within(found, Chart)[0].choices) == 4


def test_the_heads_of_a_map_are_not_among_them(tmp_path: Path) -> None:
    assert noise.noise_section(run(tmp_path, ({"suite": "scale"}, [1e-3] * 4))) is None


def test_the_chart_holds_no_data_of_its_own() -> None:
    assert "datasets" not in samples_chart().to_dict()
