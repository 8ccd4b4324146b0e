"""A plugin of pytest: `pytest --moegap-suite demo` measures a suite, in any project, with the project's own forms.

pytest finds it by its entry point. It stays out of the way, and imports nothing heavy, until a suite is asked for. The
tests are those of `bench.bench_heads`, added to the tests of the project. A project brings its forms by an entry point
(see `bench.forms`) or by a hook in its `conftest.py`:

    def pytest_moegap_forms():
        return [MY_FORM]
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from bench.execution.form import Form

TESTS = "bench.bench_heads"
FILE = Path(__file__).with_name("bench_heads.py")
NODE = "bench/bench_heads.py"
"""The tests have the same names in every project, so that results of several can be compared."""
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "suite": {"help": "measure this suite: demo, paper, batch or routing"},
    "checkpoint": {"action": "append", "type": Path, "help": "a trained model; may be repeated (zoo)"},
    "device": {"default": "auto", "help": "where to measure: auto, cpu or cuda (auto)"},
    "dtype": {"action": "append", "help": "a dtype; may be repeated (float32)"},
    "form": {"action": "append", "help": "a form; may be repeated (the suite's)"},
    "seconds": {"type": float, "help": "sampling time per case (the suite's)"},
    "seed": {"type": int, "default": 0, "help": "decides the input rows and the order within blocks (0)"},
}
PREFIX = "moegap"
RUN = pytest.StashKey[Any]()
"""The `bench.bench_heads.Run` of this session, if a suite is measured."""


class Hooks:
    """What a project may define."""

    @pytest.hookspec
    def pytest_moegap_forms(self) -> Form | list[Form]:  # type: ignore[empty-body]
        """Return forms that are measured beside those of moegap."""


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Let projects bring forms."""
    pluginmanager.add_hookspecs(Hooks)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of `moegap bench`, each with a prefix."""
    add_options(parser, f"--{PREFIX}-")


def add_options(parser: pytest.Parser, prefix: str) -> None:
    """Add the options under another prefix; both names set the same value."""
    group = parser.getgroup(PREFIX)
    for name, meaning in OPTIONS.items():
        group.addoption(f"{prefix}{name}", dest=f"{PREFIX}_{name}", **meaning)


def pytest_configure(config: pytest.Config) -> None:
    """Refuse bad options before anything runs."""
    if config.getoption(f"{PREFIX}_suite"):
        check(config)


def check(config: pytest.Config) -> None:
    """Raise `pytest.UsageError` for bad options.

    They are also bad if results are to be kept but parallel workers, who disturb each other, measure.
    """
    importlib.import_module(TESTS).suite_of(config.option)
    kept = [name for name in ("json", "save", "autosave") if config.getoption(f"benchmark_{name}", None)]
    if kept and config.getoption("dist", "no") != "no":
        raise pytest.UsageError(
            f"--benchmark-{kept[0]} would keep nothing: parallel workers (-n, --dist) disturb each other, so "
            "pytest-benchmark measures nothing under them. Measure without -n."
        )


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say what a profile of the replay is worth."""
    if config.getoption(f"{PREFIX}_suite") and config.getoption("benchmark_cprofile", None):
        return (
            "moegap: cProfile sees the replay of samples, not the calls; `moegap profile` shows where their time goes"
        )
    return None


class SuiteFile(pytest.Module):
    """The tests of `bench.bench_heads`, whatever the names of tests in the project."""

    def _getobj(self) -> ModuleType:
        return importlib.import_module(TESTS)

    def istestfunction(self, obj: object, name: str) -> bool:
        """Take the one test."""
        return name == "bench_head"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add the tests of the suite, if one is asked for and the project's own tests do not hold them."""
    if config.getoption(f"{PREFIX}_suite") and not any(item.path == FILE for item in items):
        module = SuiteFile.from_parent(session, path=FILE, nodeid=NODE)
        items.extend(item for item in session.genitems(module) if isinstance(item, pytest.Item))


def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    """Add to the result what is no benchmark: steps, cases without a time, ceilings and groups."""
    if run := config.stash.get(RUN, None):
        run.complete(output_json)
