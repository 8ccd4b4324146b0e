"""Charts that are valid Vega-Lite and hold the measured numbers; `to_dict` validates against the schema."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import vl_convert

from reports import figures
from reports.compare import Analysis
from reports.load import Case
from reports.styles import Style, styles
from tests.reports.synthetic import ROWS, record

Figure = Callable[[Analysis, list[Style]], Any]


def cases(analysis: Analysis, head: str, rows: int | None = None) -> list[Case]:
    found = [case for case in analysis.cases(analysis.settings[0]) if case.record.head == head]
    return [case for case in found if rows in (None, case.record.rows)]


def speedup(analysis: Analysis, looks: list[Style]) -> Any:
    head = next(speedup.head for speedup in analysis.speedups if speedup.head.kind == "sparse")
    return figures.speedup_chart(analysis.of(analysis.settings[0], head), looks)


def latency(analysis: Analysis, looks: list[Style]) -> Any:
    sparse, dense = cases(analysis, "sparse"), cases(analysis, "dense")
    return figures.latency_chart(sparse, analysis.latencies, looks, (1e-5, 1e-1), dense)


def accuracy(analysis: Analysis, looks: list[Style]) -> Any:
    chosen = [case for head in ("dense", "soft", "sparse") for case in cases(analysis, head, rows=256)]
    return figures.accuracy_chart(chosen, analysis.latencies, {case: case.record.head for case in chosen}, looks)


def routing(analysis: Analysis, looks: list[Style]) -> Any:
    return figures.routing_chart(record())


@pytest.fixture(scope="module")
def looks(analysis: Analysis) -> list[Style]:
    return styles(case.record.form for case in analysis.results.cases)


@pytest.mark.parametrize("figure", [speedup, latency, accuracy, routing])
def test_a_chart_draws_and_takes_the_ink_of_its_page(analysis: Analysis, looks: list[Style], figure: Figure) -> None:
    spec = figure(analysis, looks).to_dict()
    assert spec["width"] == "container"
    svg = vl_convert.vegalite_to_svg(json.dumps(spec | {"width": 400}), vl_version="6.4")
    assert "currentColor" in svg
    assert 'fill="#000' not in svg
    assert "NaN" not in svg


@pytest.mark.parametrize("figure", [speedup, latency, accuracy])
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
    reference = [row for row in values(latency(analysis, looks), "seconds") if "form" not in row]
    fastest = [min(analysis.latencies[case].value for case in cases(analysis, "dense", rows)) for rows in ROWS]
    assert [row["seconds"] for row in reference] == fastest


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
