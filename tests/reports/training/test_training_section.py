"""The section on trainings: numbers as numpy has them, runs put together by recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reports.output.blocks import Chart, Grid, Legend, Panel, Subsection, Table, Text
from reports.reading.files import read
from reports.reading.inputs import gather
from reports.training import curve_figures as training_figures
from reports.training import training_section as training
from tests.reports import studies
from tests.reports.within import within


def recipes(folder: Path, *contents: dict[str, Any]) -> list[training.Recipe]:
    paths = [studies.write(folder / f"{place}.json", content) for place, content in enumerate(contents)]
    return training.recipes(gather(read(paths)).studies.training)


def panel_of(found: list[training.Recipe]) -> Panel:
    (panel,) = within(training.training_section(found), Panel)
    return panel


def test_the_table_holds_mean_and_spread_over_seeds(tmp_path: Path) -> None:
    panel = panel_of(recipes(tmp_path, studies.training()))
    test = 100 * np.array([run["test_accuracy"] for run in studies.training()["runs"] if run["head"] == "soft"])
    row = next(row for row in within(panel, Table)[0].rows if row[0] == "soft")
    assert row[1] == "3"
    assert f"{test.mean():.2f} ± {test.std(ddof=1):.2f} %" in row
    assert "11 min 50 s" in row
    assert "CPU AMD EPYC 7B13, 2 threads" in row
    assert "sparse 88.20 ± 0.10 % (3 seeds)" in within(panel, Text)[0].words


def test_one_seed_has_a_mean_and_no_spread(tmp_path: Path) -> None:
    (recipe,) = recipes(tmp_path, studies.training(runs=[studies.run("dense", 1)]))
    assert training.sentence(recipe).endswith("mean test accuracy dense 88.00 % (1 seed).")


def test_an_unfinished_run_joins_its_recipe(tmp_path: Path) -> None:
    (recipe,) = recipes(tmp_path, studies.lone_history(), studies.training())
    assert len(recipe.runs["sparse"]) == 4
    panel = panel_of([recipe])
    assert next(row for row in within(panel, Table)[0].rows if row[0] == "sparse")[1] == "3 of 4"


def test_a_finished_run_outranks_its_own_history(tmp_path: Path) -> None:
    lone = studies.lone_history()
    lone["config"]["seed"] = 1
    lone["environment"]["date"] = "2030-01-01T00:00:00+00:00"
    for order in ([lone, studies.training()], [studies.training(), lone]):
        (recipe,) = recipes(tmp_path, *order)
        assert [run.test_accuracy is not None for run in recipe.runs["sparse"]] == [True] * 3


def test_recipes_are_kept_apart(tmp_path: Path) -> None:
    found = recipes(tmp_path, studies.training(), studies.training(preset="paper", data="cifar10", epochs=50))
    assert [(recipe.preset, recipe.epochs) for recipe in found] == [("fast", 12), ("paper", 50)]
    assert "defect 1" in within(within(training.training_section(found), Panel)[1], Text)[1].words


def test_a_sparse_head_with_another_policy_goes_by_its_name(tmp_path: Path) -> None:
    runs = [studies.run("sparse", 0), studies.run("sparse", 0, policy="top_p")]
    (recipe,) = recipes(tmp_path, studies.training(runs=runs))
    assert list(recipe.runs) == ["sparse", "top_p"]


def test_the_curve_is_the_mean_of_the_seeds_that_reached_an_epoch(tmp_path: Path) -> None:
    (recipe,) = recipes(tmp_path, studies.training(), studies.lone_history())
    points = training_figures.mean_curve(training_figures.curve(recipe.runs["sparse"], "val_loss"))
    assert [point["n"] for point in points] == [4] * 5 + [3] * 7
    finished = [studies.history("sparse", seed, 12, 0.882 + 0.001 * (seed - 1) + 0.01) for seed in studies.SEEDS]
    expected = np.mean([rows[-1]["val_loss"] for rows in finished])
    assert points[-1]["value"] == pytest.approx(expected)


def test_every_chart_has_a_sentence_and_routing_is_shown_of_mixtures_alone(tmp_path: Path) -> None:
    panel = panel_of(recipes(tmp_path, studies.training()))
    learning, routing, classes = (within(grid, Chart) for grid in within(panel, Grid))
    assert len(learning) == 6
    assert len(routing) == 3
    heads = next(legend for legend in within(panel, Legend) if legend.label == "Heads")
    assert [key.words for key in heads.keys] == ["soft", "sparse"]
    assert [chart.heading for chart in classes] == ["soft, seed 0, epoch 12", "sparse, seed 0, epoch 12"]
    for chart in (*learning, *routing, *classes):
        assert chart.message.endswith(".")


def test_the_heat_map_names_its_strongest_pair(tmp_path: Path) -> None:
    shares = np.array(studies.class_load(0))
    label, expert = np.unravel_index(shares.argmax(), shares.shape)
    panel = panel_of(recipes(tmp_path, studies.training()))
    assert (
        f"expert {expert} with class {label}: it serves {100 * shares.max():.1f} %" in within(panel, Chart)[-1].message
    )


def test_a_head_that_runs_all_experts_for_all_has_no_heat_map(tmp_path: Path) -> None:
    content = studies.training(runs=[studies.run("soft", 0)])
    for row in content["runs"][0]["history"]:
        row["class_load"] = [[0.125] * 8] * 10
    panel = panel_of(recipes(tmp_path, content))
    assert "Which expert serves which class" not in [part.title for part in within(panel, Subsection)]


def test_a_run_without_history_has_a_table_and_no_chart(tmp_path: Path) -> None:
    panel = panel_of(recipes(tmp_path, studies.training(runs=[studies.run("dense", 0, history=[])])))
    assert within(panel, Table)[0].rows
    assert within(panel, Chart) == []


def test_a_long_training_is_thinned_and_keeps_its_end(tmp_path: Path) -> None:
    panel = panel_of(recipes(tmp_path, studies.training(epochs=901, runs=[studies.run("dense", 0, 901)])))
    epochs = {row["epoch"] for rows in studies.layers(within(panel, Chart)[0].spec) for row in rows}
    assert max(epochs) == 901
    assert len(epochs) <= training_figures.MOST_EPOCHS
