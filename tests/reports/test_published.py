"""The report of every machine under `reports/published`, built from its results, beside what is kept there."""

from __future__ import annotations

from pathlib import Path

import pytest

from reports.page import Report, build
from tests.reports.test_page import Outline

PUBLISHED = Path(__file__).parents[2] / "reports" / "published"
MACHINES = sorted(path for path in PUBLISHED.iterdir() if path.is_dir())
LIMIT = 3_500_000


@pytest.fixture(scope="module", params=MACHINES, ids=lambda path: path.name)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    machine: Path = request.param
    return machine, build([machine], tmp_path_factory.mktemp(machine.name))


def test_its_page_is_whole_and_small(built: tuple[Path, Report]) -> None:
    text = built[1].index.read_text(encoding="utf-8")
    assert built[1].index.stat().st_size < LIMIT
    page = Outline(text)
    assert len(page.all("figure")) == len(page.specs)


def test_a_page_its_findings_and_notes_are_kept_beside_its_results(built: tuple[Path, Report]) -> None:
    machine = built[0]
    for name in ("index.html", "report.md", "NOTES.md"):
        assert (machine / name).stat().st_size > 1_000
    assert (machine / "index.html").stat().st_size < LIMIT


def test_what_is_kept_tells_the_same_findings(built: tuple[Path, Report]) -> None:
    machine, report = built
    kept = Outline((machine / "index.html").read_text(encoding="utf-8")).text
    assert report.headline
    assert all(line in kept for line in report.headline)


def test_findings_of_a_run_fit_a_pull_request(tmp_path: Path) -> None:
    run = PUBLISHED / "cpu-amd-epyc-2-threads" / "demo.json"
    assert len(build([run], tmp_path).markdown.read_text(encoding="utf-8")) < 60_000
