"""The run of a CPU, and the report made of it, for all tests that only look at them."""

from __future__ import annotations

from pathlib import Path

import pytest

from reports.page import Report, build
from reports.reading.load import load
from reports.speed.analysis import Analysis, analyse
from tests.reports.synthetic import account_run, cpu_benchmarks, unmeasured, write


@pytest.fixture(scope="session")
def cpu_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result file with times of a CPU and cases without a time."""
    return write(tmp_path_factory.mktemp("results") / "cpu.json", cpu_benchmarks(), unmeasured())


@pytest.fixture(scope="session")
def analysis(cpu_run: Path) -> Analysis:
    """What that file says."""
    return analyse(load([cpu_run]))


@pytest.fixture(scope="session")
def report(cpu_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The report of that file."""
    return build([cpu_run], tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="session")
def accounted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result file of record version 2, with steps, traces, ceilings, groups, cold caches and made routings."""
    return account_run(tmp_path_factory.mktemp("accounted") / "cpu.json")


@pytest.fixture(scope="session")
def accounts(accounted: Path) -> Analysis:
    """What that file says."""
    return analyse(load([accounted]))


@pytest.fixture(scope="session")
def account_report(accounted: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The report of that file."""
    return build([accounted], tmp_path_factory.mktemp("account-report"))
