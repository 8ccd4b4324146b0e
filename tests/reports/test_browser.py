"""The page in a real browser: every chart draws, the console stays quiet, nothing runs that is not ours."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from reports.page import Report, build
from tests.reports import studies
from tests.reports.synthetic import benchmark, record, samples, write

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--no-first-run",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--virtual-time-budget=20000",
    "--enable-logging=stderr",
    "--dump-dom",
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium; none is installed")


def opened(page: Path, profile: Path) -> tuple[str, list[str]]:
    """Return the document after its scripts ran, and what they wrote to the console."""
    ran = subprocess.run(
        [str(CHROMIUM), *OPTIONS, f"--user-data-dir={profile}", page.as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return ran.stdout, [line for line in ran.stderr.splitlines() if "CONSOLE" in line]


def test_every_chart_draws_and_the_console_is_quiet(report: Report, tmp_path: Path) -> None:
    document, console = opened(report.index, tmp_path)
    charts = document.count('<div class="chart')
    assert charts == 21
    assert len(re.findall(r'<svg[^>]*class="marks"', document)) == charts
    assert console == []


def test_every_chart_of_an_account_draws_and_the_console_is_quiet(account_report: Report, tmp_path: Path) -> None:
    document, console = opened(account_report.index, tmp_path)
    charts = document.count('<div class="chart')
    assert charts == 29
    assert len(re.findall(r'<svg[^>]*class="marks"', document)) == charts
    assert console == []


def test_every_chart_of_studies_draws_and_the_console_is_quiet(tmp_path: Path) -> None:
    report = build(studies.everything(tmp_path), tmp_path / "report", paper=True)
    document, console = opened(report.index, tmp_path / "profile")
    charts = document.count('<div class="chart')
    assert charts == 21
    assert len(re.findall(r'<svg[^>]*class="marks"', document)) == charts
    assert console == []


def test_hostile_text_runs_nothing(tmp_path: Path) -> None:
    attack = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    entries = [
        benchmark(record(head=head, form=attack, checkpoint=attack), samples(1e-3)) for head in ("dense", "sparse")
    ]
    failed = record(form=attack, status="failed", reason=attack, rows=9)
    report = build([write(tmp_path / "run.json", entries, [failed])], tmp_path / "report")
    document, console = opened(report.index, tmp_path / "profile")
    assert "<title>moegap" in document
    assert console == []
