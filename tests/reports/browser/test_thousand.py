"""A result of a thousand cases: built in seconds, sent by mail, and sorted and filtered at once."""

from __future__ import annotations

import re
import time
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from reports.page import build
from reports.records.record import Group
from tests.reports.browser.conftest import OPEN_ALL, Visits
from tests.reports.browser.test_cases_table import shown
from tests.reports.synthetic import (
    FLOPS,
    PARAMETERS,
    accounted,
    benchmark,
    ceilings,
    record,
    samples,
    unmeasured,
    write,
)

FORMS = ("loop", "eager", "compile", "grouped_mm", "triton", "onnxruntime")
ROWS = [2**power for power in range(11)]
GPU = {"device": "cuda", "clock": "device", "device_name": "NVIDIA H100"}
SETTINGS: tuple[dict[str, Any], ...] = ({}, {"threads": 2}, {"dtype": "bfloat16"}, {"cache": "cold"}, GPU)


def thousand(path: Path) -> Path:
    """Write a result of 5 settings x 3 heads x 6 forms x 11 rows with 60 samples each, some of them in steps."""
    entries: list[dict[str, Any]] = []
    for seed, (place, head, form, rows) in enumerate(product(range(5), PARAMETERS, FORMS, ROWS)):
        case = record(
            head=head, form=form, rows=rows, case_id=f"{place}-{head}-{form}-{rows}", group_id=f"{place}-{rows}",
            least_bytes=4 * (PARAMETERS[head] + 522 * rows), **SETTINGS[place],
        )  # fmt: skip
        median = (50 + 20 * FORMS.index(form)) * 1e-6 + rows * FLOPS[head] / 2e11
        if place == 0 and form in ("loop", "eager"):
            entries += accounted(case, median, seed)
        else:
            entries.append(benchmark(case, samples(median, 20, 3, seed), 3))
    names = [f"{place}-{rows}" for place, rows in product(range(5), ROWS)]
    groups = [Group(group_id=name, anchor=[1e-3] * 20, wall=20, sampling=12, cold_start=3) for name in names]
    machine = [ceilings(), ceilings(threads=2), ceilings(dtype="bfloat16")]
    return write(path, entries, unmeasured(), machine, groups)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """The page, and the seconds of this process that it took."""
    folder = tmp_path_factory.mktemp("thousand")
    path = thousand(folder / "run.json")
    started = time.process_time()
    report = build([path], folder / "report")
    return report.index, time.process_time() - started


def test_its_building_does_not_grow_with_the_square_of_its_cases(built: tuple[Path, float]) -> None:
    seconds_of_a_slow_machine = 60  # 7 s on a quiet one
    assert built[1] < seconds_of_a_slow_machine


def test_it_stays_small(built: tuple[Path, float]) -> None:
    page = built[0].read_text(encoding="utf-8")
    assert "990 cases measured" in page
    assert len(page.encode()) < 3_000_000
    sections = dict(re.findall(r'<section id="([^"]+)"(.*?)(?=<section id=|<footer)', page, re.S))
    assert len(sections["noise"].encode()) < 400_000


def test_its_cases_are_sorted_and_filtered_at_once(visits: Visits, built: tuple[Path, float]) -> None:
    page = visits.open(built[0])
    page.evaluate(OPEN_ALL)
    assert len(shown(page)) == 990
    took = page.evaluate("""() => {
        const start = performance.now();
        document.querySelector("#all-cases th button").click();
        const filter = Object.assign(document.getElementById("filter"), { value: "grouped_mm cold" });
        filter.dispatchEvent(new Event("input"));
        document.body.getBoundingClientRect();
        return performance.now() - start;
    }""")
    assert took < 30_000
    assert len(shown(page)) == 3 * len(ROWS)
