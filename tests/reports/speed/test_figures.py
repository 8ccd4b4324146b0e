"""Charts that are valid Vega-Lite and hold the measured numbers; `to_dict` validates against the schema."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import vl_convert

from reports.numbers import stats
from reports.output.blocks import Chart
from reports.output.styles import Style, styles
from reports.reading.load import MeasuredCase, load
from reports.speed import figures, latency_section
from reports.speed.analysis import Analysis, analyse
from tests.reports.synthetic import ROWS, benchmark, record, samples, write
from tests.reports.within import within

Figure = Callable[[Analysis, list[Style]], Any]


def cases(analysis: Analysis, head: str, rows: int | None = None) -> list[MeasuredCase]:
    found = [case for case in analysis.cases(analysis.settings[0]) if case.record.head == head]
    return [case for case in found if rows in (None, case.record.rows)]


def speedup(analysis: Analysis, looks: list[Style]) -> Any:
    head = next(speedup.head for speedup in analysis.speedups if speedup.head.kind == "sparse")
    return figures.speedup_chart(analysis.of(analysis.settings[0], head), looks)


def latency(analysis: Analysis, looks: list[Style]) -> Any:
    return by_rows(analysis, looks, figures.latency_chart, figures.latencies_of, (1e-5, 1e-1))


def throughput(analysis: Analysis, looks: list[Style]) -> Any:
    return by_rows(analysis, looks, figures.throughput_chart, figures.throughputs_of, (1e3, 1e6))


def by_rows(analysis: Analysis, looks: list[Style], chart: Any, data: Any, bounds: tuple[float, float]) -> Any:
    shown = data(cases(analysis, "sparse"), analysis.latencies, cases(analysis, "dense"))
    return chart(looks, ROWS, bounds).properties(datasets=shown)


def accuracy(analysis: Analysis, looks: list[Style]) -> Any:
    chosen = [case for head in ("dense", "soft", "sparse") for case in cases(analysis, head, rows=256)]
    return figures.accuracy_chart(chosen, analysis.latencies, {case: case.record.head for case in chosen}, looks)


def routing(analysis: Analysis, looks: list[Style]) -> Any:
    return figures.routing_chart(record())


@pytest.fixture(scope="module")
def looks(analysis: Analysis) -> list[Style]:
    return styles(case.record.form for case in analysis.results.cases)


@pytest.mark.parametrize("figure", [speedup, latency, throughput, accuracy, routing])
def test_a_chart_draws_and_takes_the_ink_of_its_page(analysis: Analysis, looks: list[Style], figure: Figure) -> None:
    spec = figure(analysis, looks).to_dict()
    assert spec["width"] == "container"
    svg = vl_convert.vegalite_to_svg(json.dumps(spec | {"width": 400}), vl_version="6.4")
    assert "currentColor" in svg
    assert 'fill="#000' not in svg
    assert "NaN" not in svg


@pytest.mark.parametrize("figure", [speedup, latency, throughput, accuracy])
def test_a_form_is_told_by_colour_and_by_symbol_alike(analysis: Analysis, looks: list[Style], figure: Figure) -> None:
    text = json.dumps(figure(analysis, looks).to_dict())
    assert all(style.colour in text and style.symbol in text for style in looks)


def values(chart: Any, key: str) -> list[dict[str, Any]]:
    return [row for rows in chart.to_dict()["datasets"].values() for row in rows if key in row]


def test_the_speedup_chart_holds_every_form_and_the_theory(analysis: Analysis, looks: list[Style]) -> None:
    chart = speedup(analysis, looks)
    assert {row["form"] for row in values(chart, "speedup")} == {"loop", "compile", "grouped_mm", "onnxruntime"}
    assert all(row["low"] <= row["speedup"] <= row["high"] for row in values(chart, "speedup"))
    theory = values(chart, "theoretical")
    assert {row["rows"] for row in theory} == set(ROWS)
    assert all(row["theoretical"] == pytest.approx(3.768, abs=1e-3) for row in theory)


def test_the_latency_chart_refers_to_the_fastest_dense_form(analysis: Analysis, looks: list[Style]) -> None:
    reference = latency(analysis, looks).to_dict()["datasets"][figures.REFERENCE]
    fastest = [min(analysis.latencies[case].value for case in cases(analysis, "dense", rows)) for rows in ROWS]
    assert [row["value"] for row in reference] == pytest.approx(fastest, rel=1e-4)


def test_throughput_is_rows_over_time_with_its_interval_turned_round(analysis: Analysis, looks: list[Style]) -> None:
    data = figures.throughputs_of(cases(analysis, "sparse"), analysis.latencies, cases(analysis, "dense"))
    for case, point in zip(cases(analysis, "sparse"), data[figures.POINTS], strict=True):
        rows, median = case.record.rows, analysis.latencies[case]
        assert (point["form"], point["rows"]) == (case.record.form, rows)
        assert point["value"] * median.value == pytest.approx(rows, rel=1e-4)
        assert point["low"] * (median.high or 0) == pytest.approx(rows, rel=1e-4)
        assert point["high"] * (median.low or 0) == pytest.approx(rows, rel=1e-4)
        assert point["low"] <= point["value"] <= point["high"]
    times = figures.latencies_of([], analysis.latencies, cases(analysis, "dense"))[figures.REFERENCE]
    for rate, time in zip(data[figures.REFERENCE], times, strict=True):
        assert rate["value"] * time["value"] == pytest.approx(rate["rows"], rel=1e-4)


def test_a_case_without_an_interval_has_no_band() -> None:
    case = MeasuredCase(record(rows=4), np.array([2e-3]), np.array([0]), Path("run.json"))
    (point,) = figures.throughputs_of([case], {case: stats.median(case.samples, case.blocks)}, [])[figures.POINTS]
    assert (point["value"], point["low"], point["high"]) == (2000.0, None, None)


def test_routing_shares_add_up(analysis: Analysis, looks: list[Style]) -> None:
    shares = values(routing(analysis, looks), "expert")
    assert sum(row["share"] for row in shares) == pytest.approx(1)


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [((0.1, 5.0), [0.125, 0.25, 0.5, 1, 2, 4]), ((0.9, 1.3), [0.9, 1.0, 1.1, 1.2, 1.3]), ((0.95, 1.02), None)],
)
def test_ticks_are_round_and_within_the_axis(bounds: tuple[float, float], expected: list[float] | None) -> None:
    ticks = figures._ticks([2.0**power for power in range(-5, 6)], bounds)
    assert expected is None or ticks == pytest.approx(expected)
    assert len(ticks) >= 3
    assert all(bounds[0] <= tick <= bounds[1] for tick in ticks)


def serving(folder: Path, times: dict[tuple[str, int], float]) -> str:
    """Return what is said of the throughput of a head whose forms take so many seconds by rows."""
    entries = [benchmark(record(form=form, rows=rows), [time] * 20) for (form, rows), time in times.items()]
    found = analyse(load([write(folder / "run.json", entries)]))
    (chart,) = within(latency_section.throughput_panels(found), Chart)
    return chart.message


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (
            {("loop", 1): 1e-3, ("eager", 1): 5e-3, ("loop", 64): 8e-3, ("eager", 64): 6.4e-3, ("eager", 256): 24e-3},
            "The sparse head serves at most 10,700 rows a second, at 256 rows (eager); it saturates at 64 rows: "
            "more rows bring less than a tenth more.",
        ),
        (
            {("loop", 1): 1e-3, ("eager", 2): 1e-3},
            "The sparse head serves at most 2,000 rows a second, at 2 rows (eager); it does not saturate, more rows "
            "still bring more.",
        ),
        ({("loop", 7): 1e-3}, "The sparse head serves at most 7,000 rows a second, at 7 rows (loop)."),
    ],
)
def test_the_most_rows_a_second_and_where_they_saturate_are_said(
    tmp_path: Path, times: dict[tuple[str, int], float], message: str
) -> None:
    assert serving(tmp_path, times) == message


def test_of_many_heads_one_of_experts_is_shown_first(analysis: Analysis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency_section, "FEW", 1)
    for chart in within(latency_section.latency_panels(analysis), Chart):
        kinds = [choice.label.partition(" ")[0] for choice in chart.choices]
        assert kinds[0] != "dense"
        assert "dense" not in kinds or kinds[-1] == "dense"


def test_of_many_heads_one_is_chosen_on_the_scale_of_all(tmp_path: Path) -> None:
    entries = [
        benchmark(
            record(checkpoint=name, features=16 * place, rows=rows, source="a.json"), samples(1e-3 * place * rows)
        )
        for place, name in enumerate("abcde", 1)
        for rows in (1, 8)
    ]
    found = analyse(load([write(tmp_path / "run.json", entries)]))
    for panels in (latency_section.latency_panels(found), latency_section.throughput_panels(found)):
        (chart,) = within(panels, Chart)
        assert [choice.label for choice in chart.choices] == [f"sparse head ({name})" for name in "abcde"]
        (low, high) = next(
            layer["encoding"]["y"]["scale"]["domain"]
            for layer in chart.spec["layer"]
            if "scale" in layer["encoding"]["y"]
        )
        values = [row["value"] for choice in chart.choices for row in choice.data[figures.POINTS]]
        assert low < min(values) < max(values) < high
