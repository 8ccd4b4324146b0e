"""A real Chromium for the pages under test: no network, and no word on the console that goes unheard."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from reports.page import Report, build
from tests.reports import studies
from tests.reports.scale import scale_run
from tests.reports.synthetic import benchmark, record, samples, write

ROOT = Path(__file__).parents[3]
PUBLISHED = ROOT / "reports" / "published" / "cpu-amd-epyc-2-threads"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OPTIONS = [
    "--no-sandbox",
    "--no-first-run",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-features=WebUIOmniboxPopup,WebUIOmniboxAimPopup",  # an address bar that computes a second a window
]
PATIENCE = 300_000  # milliseconds, after which something has hung
DRAWN = """async (patience) => {
    const deadline = performance.now() + patience;
    while ([...document.querySelectorAll(".chart")].some((chart) => !chart.hasChildNodes())) {
        if (performance.now() > deadline) throw new Error("a chart is still waiting to be drawn");
        await new Promise((resolve) => setTimeout(resolve, 20));
    }
}"""

OPEN_ALL = "for (const details of document.querySelectorAll('details')) details.open = true"


class Visits:
    """Opens pages, each in a context of its own; `complaints` holds what no page may do.

    That is any request but for the page itself, any warning or error on the console, and any uncaught error.
    """

    def __init__(self, browser: Browser) -> None:
        self.complaints: list[str] = []
        self._browser = browser
        self._contexts: list[BrowserContext] = []

    def open(self, index: Path, script: str = "", permissions: list[str] | None = None, **options: Any) -> Page:
        """Return the page at `index` once its charts are drawn; `script` runs before its own."""
        context = self._browser.new_context(offline=True, permissions=permissions, **options)
        self._contexts.append(context)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.on("request", lambda request: self._hear("request", request.url, request.url != index.as_uri()))
        page.on("console", lambda message: self._hear(message.type, message.text, message.type in ("error", "warning")))
        page.on("pageerror", lambda error: self._hear("uncaught", str(error)))
        if script:
            page.add_init_script(script)
        page.goto(index.as_uri())
        page.evaluate(DRAWN, PATIENCE)
        return page

    def close(self) -> None:
        """Close every page."""
        for context in self._contexts:
            context.close()

    def _hear(self, kind: str, text: str, wrong: bool = True) -> None:
        if wrong:
            self.complaints.append(f"{kind}: {text}")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """One browser for all tests."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium; none is installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        browser.close()


@contextmanager
def visiting(chromium: Browser) -> Iterator[Visits]:
    """Give what opens pages, close them, and fail where one of them gave reason to complain."""
    visits = Visits(chromium)
    yield visits
    visits.close()
    assert visits.complaints == []


@pytest.fixture
def visits(chromium: Browser) -> Iterator[Visits]:
    """What opens pages for one test."""
    with visiting(chromium) as visits:
        yield visits


@pytest.fixture(scope="session")
def studies_report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """A report of studies alone, the paper beside them."""
    folder = tmp_path_factory.mktemp("studies-report")
    return build(studies.everything(folder), folder / "report", paper=True)


@pytest.fixture(scope="session")
def published_report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """A report of this project's own measurements, of each kind one that draws few charts."""
    results = [PUBLISHED / f"{name}.json" for name in ("demo", "self_test", "policies")]
    return build(results, tmp_path_factory.mktemp("published-report"))


@pytest.fixture(scope="session")
def map_report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """A report of a break-even map alone."""
    folder = tmp_path_factory.mktemp("map-report")
    ratios = {(128, 4, 2): {1: 0.1, 64: 0.8, 128: 1.0, 4096: 1.6}, (512, 8, 2): {1: 1.5, 64: 3.0, 4096: 5.0}}
    return build([scale_run(folder / "scale.json", ratios)], folder / "report")


@pytest.fixture(scope="session")
def few_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result of four cases."""
    heads, rows = ("dense", "sparse"), (8, 32)
    entries = [benchmark(record(head=head, rows=N), samples(1e-5 * N)) for head in heads for N in rows]
    return write(tmp_path_factory.mktemp("few") / "run.json", entries)


@pytest.fixture(scope="session")
def few(few_run: Path) -> Report:
    """The report of that file, which opens soon."""
    return build([few_run], few_run.parent / "report")
