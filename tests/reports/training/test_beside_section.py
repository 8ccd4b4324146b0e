"""The paper beside us: what counts as a reproduction, what a defect explains, and what is not yet run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reports.output.blocks import Section, Table, Text
from reports.reading.files import read
from reports.reading.inputs import gather
from reports.records.record import CaseRecord
from reports.training import training_section as training
from reports.training.beside_section import beside_section
from reports.training.paper import DEFECTS, PUBLISHED
from tests.reports import studies
from tests.reports.synthetic import record
from tests.reports.within import within

OURS = {"dense": 0.8644, "soft": 0.8723, "sparse": 0.8717}


def paper_runs(shift: float = 0.0, epochs: int = 50, **fields: Any) -> dict[str, Any]:
    """Return a study of the paper's recipe that lies `shift` above the published test accuracies."""
    runs = [
        studies.run(head, seed, epochs, test_accuracy=test + shift, parameters=record(head=head).parameters)
        for head, test in OURS.items()
        for seed in studies.SEEDS
    ]
    return studies.training(**{"preset": "paper", "data": "cifar10", "epochs": epochs, "runs": runs} | fields)


def shown(folder: Path, *contents: dict[str, Any], records: tuple[CaseRecord, ...] = ()) -> Section:
    paths = [studies.write(folder / f"{place}.json", content) for place, content in enumerate(contents)]
    found = gather(read(paths)).studies
    return beside_section(training.recipes(found.training), found.sharpness, records)


def rows(found: Section, quantity: str, head: str, table: int = 0) -> dict[str, str]:
    shown = within(found, Table)[table]
    titles = [column.title for column in shown.columns]
    return next(dict(zip(titles, row, strict=True)) for row in shown.rows if row[:2] == (quantity, head))


def test_with_nothing_given_every_number_is_not_yet_run_and_says_how(tmp_path: Path) -> None:
    found = shown(tmp_path)
    assert len(within(found, Table)[0].rows) == len(PUBLISHED) == 28
    assert list(found.findings) == [
        "Of 24 published results 0 were run. Of 4 counts, of parameters and operations, 0 agree."
    ]
    for table in within(found, Table):
        for row in table.rows:
            assert row[-2] == "not yet run"
            assert row[-1].startswith("moegap ")
    assert (
        "--head all --seeds 3 --preset paper --data cifar10"
        in rows(found, "test accuracy", "dense")["why, or how to run it"]
    )


def test_within_the_tolerance_a_number_is_reproduced(tmp_path: Path) -> None:
    row = rows(shown(tmp_path, paper_runs(shift=0.0069)), "test accuracy", "soft")
    assert row["verdict"] == "reproduced"
    assert row["published"] == "87.23 %"
    assert row["ours"] == "87.92 ± 0.00 %"
    assert (row["seeds"], row["device"]) == ("3", "CPU AMD EPYC 7B13, 2 threads")


@pytest.mark.parametrize("shift", [0.0071, -0.0071])
def test_beyond_the_tolerance_it_is_not_and_no_defect_is_blamed(tmp_path: Path, shift: float) -> None:
    row = rows(shown(tmp_path, paper_runs(shift=shift)), "test accuracy", "soft")
    assert row["verdict"] == "differs"
    assert "No known defect" in row["why, or how to run it"]


def test_with_augmentation_on_defect_1_explains_more_but_not_less(tmp_path: Path) -> None:
    higher = shown(tmp_path, paper_runs(shift=0.08, preset="paper-fixed"))
    row = rows(higher, "test accuracy", "sparse", table=1)
    assert row["verdict"] == "differs because of defect 1"
    assert f"Defect 1: {DEFECTS[1]}" in [text.words for text in within(higher, Text)]
    lower = shown(tmp_path, paper_runs(shift=-0.08, preset="paper-fixed"))
    assert rows(lower, "test accuracy", "sparse", table=1)["verdict"] == "differs"


@pytest.mark.parametrize(
    "changes", [{"preset": "fast"}, {"data": "cifar10-jpeg"}, {"epochs": 12}], ids=["preset", "data", "epochs"]
)
def test_another_recipe_never_counts_and_is_named_for_orientation(tmp_path: Path, changes: dict[str, Any]) -> None:
    epochs = changes.get("epochs", 50)
    row = rows(shown(tmp_path, paper_runs(epochs=epochs) | changes), "test accuracy", "dense")
    assert row["verdict"] == "not yet run"
    assert "for orientation only: " in row["why, or how to run it"]
    assert "86.44 ± 0.00 %" in row["why, or how to run it"]


def test_results_that_were_run_are_told_apart_from_counts(tmp_path: Path) -> None:
    found = shown(tmp_path, paper_runs(shift=0.0069))
    verdicts = [
        row[-2] for row in within(found, Table)[0].rows if row[0].startswith(("validation", "test ", "best", "batches"))
    ]
    assert len(verdicts) == 4 * 3
    reproduced, differs = (verdicts.count(verdict) for verdict in ("reproduced", "differs"))
    assert min(reproduced, differs) > 0
    assert list(found.findings) == [
        f"Of 24 published results 12 were run: {reproduced} reproduced, 0 different because of a known defect, "
        f"{differs} otherwise. Of 4 counts, of parameters and operations, 3 agree."
    ]


def test_an_unfinished_run_does_not_count(tmp_path: Path) -> None:
    content = paper_runs()
    for run in content["runs"]:
        run["test_accuracy"] = None
    assert rows(shown(tmp_path, content), "validation accuracy", "dense")["verdict"] == "not yet run"


def test_speed_is_batches_over_the_epochs_own_seconds(tmp_path: Path) -> None:
    row = rows(shown(tmp_path, paper_runs()), "batches/s in training", "dense")
    assert row["ours"] == f"{352 / 55:.2f} ± 0.00"
    assert row["verdict"] == "differs"
    assert "Another device" in row["why, or how to run it"]


def curvature(head: str = "dense", largest: float = 2.38, **fields: Any) -> dict[str, Any]:
    parts = [studies.sharpness_part("train", largest), studies.sharpness_part("test", 63.9)]
    return studies.sharpness(head, **{"data": "cifar10", "preset": "paper", "parts": parts} | fields)


def test_curvature_is_reproduced_or_differs_by_defect_8(tmp_path: Path) -> None:
    found = shown(tmp_path, curvature(largest=2.38 * 1.24))
    assert rows(found, "largest eigenvalue, train", "dense")["verdict"] == "reproduced"
    assert rows(found, "largest eigenvalue, test", "dense")["verdict"] == "reproduced"
    assert rows(found, "largest eigenvalue, train", "soft")["verdict"] == "not yet run"
    beyond = rows(shown(tmp_path, curvature(largest=2.38 * 1.26)), "largest eigenvalue, train", "dense")
    assert beyond["verdict"] == "differs because of defect 8"


@pytest.mark.parametrize("changes", [{"preset": "fast"}, {"data": "digits"}, {"preset": None}])
def test_curvature_of_another_recipe_does_not_count(tmp_path: Path, changes: dict[str, Any]) -> None:
    row = rows(shown(tmp_path, curvature(**changes)), "largest eigenvalue, train", "dense")
    assert row["verdict"] == "not yet run"


def test_curvature_on_other_images_does_not_count(tmp_path: Path) -> None:
    parts = [studies.sharpness_part("train", 2.38, images=500)]
    row = rows(shown(tmp_path, curvature(parts=parts)), "largest eigenvalue, train", "dense")
    assert row["verdict"] == "not yet run"


def test_a_checkpoint_is_known_by_the_study_that_holds_it(tmp_path: Path) -> None:
    found = shown(tmp_path, paper_runs(), curvature(preset=None))
    assert rows(found, "largest eigenvalue, train", "dense")["verdict"] == "reproduced"


def test_what_is_counted_comes_from_records_of_the_papers_size(tmp_path: Path) -> None:
    records = tuple(record(head=head) for head in ("dense", "soft", "sparse"))
    found = shown(tmp_path, records=records)
    for head in ("dense", "soft", "sparse"):
        assert rows(found, "parameters of the head", head)["verdict"] == "reproduced"
    row = rows(found, "FLOPs saved, dense / sparse", "sparse")
    assert (row["ours"], row["verdict"]) == ("3.77", "reproduced")
    assert list(found.findings) == [
        "Of 24 published results 0 were run. Of 4 counts, of parameters and operations, 4 agree."
    ]
    other = shown(tmp_path, records=(record(features=128),))
    assert rows(other, "parameters of the head", "sparse")["verdict"] == "not yet run"


def test_defects_are_numbered_from_one() -> None:
    assert list(DEFECTS) == list(range(1, 11))
    assert all(sentence.endswith(".") for sentence in DEFECTS.values())
