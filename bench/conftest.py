"""The suites as tests of pytest-benchmark: one test per case, which replays samples that were taken interleaved.

When the first case of a shape runs, all selected cases of that shape are measured together. Each test then replays its
samples under a timer that reads them back, so that pytest-benchmark's statistics, JSON, comparison and histograms work
as usual.
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.cases.case import Case
from bench.cases.measure import measure_group
from bench.cases.replay import REPLAY
from bench.cases.result import Outcome, benchmark_entry, group_name
from bench.errors import BenchError
from bench.suites.suite import SUITES, Suite, chosen_forms, chosen_subjects, groups
from bench.timing.ceilings import measure_ceilings
from bench.timing.precision import chosen_dtypes
from models.device import DEVICES, pick_device
from models.errors import ModelError
from reports.records.record import CEILINGS_KEY, COMMAND_KEY, GROUPS_KEY, NOT_MEASURED_KEY, Ceilings, Group, Status

_SUITES = tuple(name for name, suite in SUITES.items() if suite.heads != "public")  # whose heads all fit in memory


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add options of `moegap bench`."""
    group = parser.getgroup("moegap")
    group.addoption("--suite", choices=_SUITES, default="demo", help="what to measure (demo)")
    group.addoption(
        "--checkpoint", action="append", type=Path, default=[], help="a trained model; may be repeated (zoo)"
    )
    group.addoption("--device", choices=DEVICES, default="auto", help="where to measure (auto)")
    group.addoption("--dtype", action="append", default=[], help="a dtype; may be repeated (float32)")
    group.addoption("--form", action="append", default=[], help="a form; may be repeated (the suite's)")
    group.addoption("--seconds", type=float, default=None, help="sampling time per case (the suite's)")
    group.addoption("--seed", type=int, default=0, help="decides the input rows and the order within blocks (0)")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make every case of the suite a parameter."""
    if "case" not in metafunc.fixturenames:
        return
    try:
        cases = _cases(metafunc.config.option)
    except (BenchError, ModelError) as error:
        raise pytest.UsageError(str(error)) from None
    metafunc.parametrize("case", [case.id for case in cases])
    metafunc.config.stash[_CASES] = {case.id: case for case in cases}


def _cases(option: argparse.Namespace) -> list[Case]:
    """Return every case that the options ask for; raises `BenchError` or `ModelError` for bad ones."""
    if option.seconds is not None and option.seconds <= 0:
        raise BenchError(f"--seconds must be above 0, not {option.seconds:g}")
    suite = SUITES[option.suite]
    subjects, forms = chosen_subjects(suite, option.checkpoint), chosen_forms(option.form, suite)
    shapes = groups(suite, subjects, forms, pick_device(option.device), chosen_dtypes(option.dtype))
    return [case for shape in shapes for case in shape]


_CASES = pytest.StashKey[dict[str, Case]]()
_OUTCOMES = pytest.StashKey[dict[str, Outcome]]()
_GROUPS = pytest.StashKey[list[Group]]()
_CEILINGS = pytest.StashKey[dict[torch.dtype, Ceilings]]()


@pytest.fixture
def outcome(request: pytest.FixtureRequest, case: str) -> Outcome:
    """The outcome of `case`; the first case of a shape measures all selected cases of that shape."""
    config = request.config
    outcomes = config.stash.setdefault(_OUTCOMES, {})
    if case not in outcomes:
        cases, shape = config.stash[_CASES], config.stash[_CASES][case].shape
        selected = {item.callspec.params["case"] for item in request.session.items if isinstance(item, pytest.Function)}
        together = [other for other in cases.values() if other.shape == shape and other.id in selected]
        suite: Suite = SUITES[config.option.suite]
        seconds = suite.seconds_per_case if config.option.seconds is None else config.option.seconds
        ceilings = config.stash.setdefault(_CEILINGS, {})
        if shape.dtype not in ceilings:
            ceilings[shape.dtype] = measure_ceilings(shape.device, shape.dtype)
        measured = measure_group(together, suite.name, seconds, config.option.seed, lambda share: None)
        outcomes.update({each.record.case_id: each for each in measured.outcomes})
        config.stash.setdefault(_GROUPS, []).append(measured.group)
    return outcomes[case]


@pytest.fixture
def replay(request: pytest.FixtureRequest, outcome: Outcome) -> None:
    """Give pytest-benchmark the samples of the case; skip a case that cannot run, fail one that is wrong."""
    record = outcome.record
    if record.status in (Status.UNAVAILABLE, Status.SKIPPED):
        pytest.skip(record.reason)
    if record.status is not Status.MEASURED:
        pytest.fail(f"{record.status}: {record.reason}", pytrace=False)
    benchmark = request.getfixturevalue("benchmark")  # only now: a skipped test must not request it
    benchmark.group = group_name(record)
    benchmark.extra_info.update(record.model_dump(mode="json"))
    REPLAY.load(outcome.samples)
    benchmark.pedantic(REPLAY.step, rounds=len(outcome.samples), iterations=1)


def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    """Add to the result what is no test: steps, cases without a time, ceilings and groups."""
    outcomes = config.stash.get(_OUTCOMES, {}).values()
    unmeasured = [each.record for each in outcomes if each.record.status is not Status.MEASURED]
    steps = [each for each in outcomes if each.record.status is Status.MEASURED and each.record.step]
    output_json["benchmarks"] += [benchmark_entry(step) for step in steps]
    output_json[COMMAND_KEY] = shlex.join(["pytest", *map(str, config.invocation_params.args)])
    output_json[NOT_MEASURED_KEY] = [record.model_dump(mode="json") for record in unmeasured]
    output_json[CEILINGS_KEY] = [each.model_dump(mode="json") for each in config.stash.get(_CEILINGS, {}).values()]
    output_json[GROUPS_KEY] = [group.model_dump(mode="json") for group in config.stash.get(_GROUPS, [])]
