"""Files of every kind given to one report, one by one or as a folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from reports.errors import ReportError
from reports.page import build
from reports.reading.files import read, search
from reports.reading.inputs import gather
from tests.reports import studies
from tests.reports.synthetic import benchmark, record, samples, write
from tests.reports.timings import case, run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a result, a study below it, and a run of targets."""
    root = tmp_path / "results"
    (root / "deeper").mkdir(parents=True)
    write(root / "b.json", [benchmark(record(), samples(1e-3))])
    studies.write(root / "deeper" / "training.json", studies.training())
    targets = run(case("g", "ours_fused", 4e-6), case("g", "empty", 3e-6), case("h", "liger", reason="<b>not</b>"))
    (root / "targets.json").write_text(targets.model_dump_json(), encoding="utf-8")
    (root / "notes.txt").write_text("no result")
    return root


def test_a_folder_stands_for_the_results_in_it(folder: Path, tmp_path: Path) -> None:
    (folder / "deeper" / "config.json").write_text('{"head": "sparse"}')
    (folder / "cut.json").write_text('{"benchmarks": [')
    found = search([folder])
    assert [path.name for path in found.contents] == ["b.json", "training.json", "targets.json"]
    assert [path.name for path in found.left_out] == ["cut.json", "config.json"]
    assert search([folder / "b.json", folder, folder / "deeper"]).contents.keys() == found.contents.keys()
    assert build([folder], tmp_path / "report").left_out == found.left_out
    with pytest.raises(ReportError, match="cut off"):
        build([folder, folder / "cut.json"], tmp_path / "report")


def test_every_file_is_told_by_what_it_says_of_itself(folder: Path) -> None:
    given = gather(search([folder]).contents)
    assert (len(given.results.cases), len(given.studies.training), len(given.targets)) == (1, 1, 1)
    assert given.commands.count("moegap targets") == 1


def test_a_folder_without_results_is_told(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="holds no result: name a folder with results"):
        build([tmp_path], tmp_path / "report")


def test_targets_are_a_section_with_their_verdicts(folder: Path, tmp_path: Path) -> None:
    shown = build([folder], tmp_path / "report")
    page, told = shown.index.read_text(encoding="utf-8"), shown.markdown.read_text(encoding="utf-8")
    assert '<section id="targets"' in page
    assert "&lt;b&gt;not&lt;/b&gt;" in page
    for text in (page, told):
        assert "1 beyond" in text
        assert "with a 99 % interval" in text
    assert any("1 beyond" in line for line in shown.headline)


def test_targets_alone_make_a_report(folder: Path, tmp_path: Path) -> None:
    shown = build([folder / "targets.json"], tmp_path / "report")
    assert "<h1>Our kernels beside their peers</h1>" in shown.index.read_text(encoding="utf-8")
    assert shown.summary is None


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"schema_version": 2}, "written by a newer moegap"),
        ({"timings": [{"group": 1}]}, r"this result is broken at `timings\.0\."),
    ],
)
def test_a_broken_or_newer_run_of_targets_is_one_sentence(
    folder: Path, tmp_path: Path, change: dict[str, object], expected: str
) -> None:
    path = folder / "targets.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ReportError, match=expected):
        build([path], tmp_path / "report")


def test_a_file_that_goes_missing_is_told(folder: Path) -> None:
    shutil.rmtree(folder / "deeper")
    with pytest.raises(ReportError, match="does not exist"):
        read([folder / "deeper" / "training.json"])
