"""The section on sharpness: what has not converged, and how far it trusts the loss around a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reports.output.blocks import Chart, Panel, Table, Text
from reports.reading.files import read
from reports.reading.inputs import gather
from reports.records.sharpness import Sharpness, SharpnessPart, Surface
from reports.training import sharpness_figures
from reports.training import sharpness_section as sharpness
from tests.reports import drawn, studies
from tests.reports.within import within


def file(folder: Path, **fields: Any) -> Sharpness:
    path = studies.write(folder / "sparse.json", studies.sharpness(**fields))
    return gather(read([path])).studies.sharpness[0]


def part(**fields: Any) -> SharpnessPart:
    return SharpnessPart.model_validate(studies.sharpness_part(**fields))


def test_a_gradient_that_leaves_little_to_gain_may_mean_convergence() -> None:
    found = part(gradient_norm=0.1, largest=20.0, loss=0.5)
    assert sharpness.gain(found) == pytest.approx(0.1**2 / (2 * 20) / 0.5)
    assert sharpness.sentence(found).startswith("Judged by the gradient, it may have converged: its norm is 0.1")


def test_a_great_gradient_means_no_convergence() -> None:
    words = sharpness.sentence(part(gradient_norm=2.0, largest=20.0, loss=0.5))
    assert words.startswith("Judged by the gradient, it has not converged on these images: its norm is 2.00")
    assert "lowers the loss by at least 20 %" in words


@pytest.mark.parametrize(("gradient", "expected"), [(None, "was not recorded"), (0.3, "it says little")])
def test_without_gradient_or_curvature_nothing_is_claimed(gradient: float | None, expected: str) -> None:
    assert expected in sharpness.sentence(part(gradient_norm=gradient, blocks=[]))


def test_the_second_difference_and_the_rerouted_rows_are_told() -> None:
    words = sharpness.sentence(part())
    assert "second difference of the loss agrees with the curvature within 0.10 %" in words
    assert "in the small range none and in the paper range 180 of 1,000 rows" in words


def test_the_block_table_sorts_eigenvalues_and_shows_residuals_and_errors(tmp_path: Path) -> None:
    content = studies.sharpness()
    content["parts"][0]["blocks"][0]["eigenvalues"].reverse()
    found = sharpness.sharpness_section([file(tmp_path, parts=content["parts"])])
    row = within(within(found, Panel), Table)[0].rows[0]
    assert row[:4] == ("all", "454,056", "20.00 (2e-4)", "16.00 (1.6e-4)")
    assert "240 ± 6.0" in row
    assert within(found, Table)[0].rows[0][:3] == ("sparse-seed0", "1,000\u00a0train", "0.0500")


def test_worst_cases_stand_in_one_table(tmp_path: Path) -> None:
    table = within(within(sharpness.sharpness_section([file(tmp_path)]), Panel)[0], Table)[1]
    assert table.rows == (
        ("worst case (SAM)", "0.0500", "0.0210", "3"),
        ("adaptive, scale-invariant", "0.500", "0.0800", "12"),
    )


def test_every_chart_has_its_sentence_and_notes_are_kept(tmp_path: Path) -> None:
    parts = [studies.sharpness_part(notes=["No surface was asked for."], surface=None)]
    (panel,) = within(sharpness.sharpness_section([file(tmp_path, parts=parts)]), Panel)
    assert [chart.heading for chart in within(panel, Chart)] == [
        "Spectral density", "Loss along directions, small range", "Loss along directions, paper range",
    ]  # fmt: skip
    assert all(chart.message.endswith(".") for chart in within(panel, Chart))
    assert [text.words for text in within(panel, Text) if text.style == "note"] == ["No surface was asked for."]


def test_the_parabola_has_the_slope_and_the_curvature_of_the_line() -> None:
    alphas = np.linspace(-0.02, 0.02, 9)
    losses = 0.3 + 0.7 * alphas + 5 * alphas**2
    raw = studies.line("random 0", "small", 10.0, 0.02) | {
        "alphas": alphas.tolist(),
        "losses": losses.tolist(),
        "rerouted": [0] * 9,
    }
    (line,) = part(lines=[raw]).lines
    predicted = [point["rise"] for point in sharpness_figures.parabola(line)]
    np.testing.assert_allclose(predicted, losses - 0.3, atol=1e-12)


def test_without_curvature_there_is_no_parabola() -> None:
    (line,) = part(lines=[studies.line("random 0", "small", 1.0, 0.1) | {"curvature": None}]).lines
    assert sharpness_figures.parabola(line) == []


def test_rerouted_rows_are_drawn_apart(tmp_path: Path) -> None:
    chart = within(sharpness.sharpness_section([file(tmp_path)]), Chart)[2]
    rows = [row["rerouted"] for row in studies.layers(chart.spec)[0]]
    same, other = (
        [mark for mark in drawn.marks(drawn.svg(chart.spec), "point") if test(int(mark["rerouted"].replace(",", "")))]
        for test in (lambda count: count == 0, lambda count: count > 0)
    )
    assert (len(same), len(other)) == (rows.count(0), len(rows) - rows.count(0))
    assert {mark["d"] for mark in same}.isdisjoint({mark["d"] for mark in other})
    assert "At most 180 rows take another route." in chart.message


def test_the_surface_keeps_rows_and_columns_apart() -> None:
    surface = Surface(alphas=(-1.0, 0.0, 1.0), betas=(0.0, 2.0), losses=((1.0, 2.0), (0.5, 3.0), (4.0, 5.0)))
    cells = studies.layers(sharpness_figures.surface_chart(surface).to_dict())[0]
    corner = next(cell for cell in cells if (cell["alpha"], cell["beta"]) == (1.0, 2.0))
    assert (corner["rise"], corner["left"], corner["right"], corner["low"], corner["high"]) == (4.5, 0.5, 1.5, 1.0, 3.0)


def test_an_empty_spectrum_is_not_drawn(tmp_path: Path) -> None:
    flat = {"grid": [0.0, 1.0], "density": [0.0, 0.0]}
    (panel,) = within(
        sharpness.sharpness_section([file(tmp_path, parts=[studies.sharpness_part(density=flat)])]), Panel
    )
    assert "Spectral density" not in [chart.heading for chart in within(panel, Chart)]
