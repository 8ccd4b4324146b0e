"""The suites as tests of pytest-benchmark: one test per case, which replays samples that were taken interleaved.

    pytest bench --suite demo --benchmark-json result.json

When the first case of a shape runs, all selected cases of that shape are measured together. Each test then replays its
samples under a timer that reads them back, so that pytest-benchmark's statistics, JSON, comparison and histograms work
as usual. `bench.pytest_plugin` brings the options, and these tests into other projects.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from bench.cases.case import Case
from bench.cases.measure import measure_group
from bench.cases.record import identity
from bench.cases.replay import REPLAY
from bench.cases.result import PARAMETERS, Outcome, group_name, recorded, test_name
from bench.errors import BenchError
from bench.forms import join
from bench.pytest_plugin import RUN
from bench.suites.suite import SUITES, Suite, chosen_forms, chosen_subjects, groups
from bench.timing.ceilings import measure_ceilings
from bench.timing.precision import chosen_dtypes
from models.device import DEVICES, pick_device
from models.errors import ModelError
from reports.records.record import COMMAND_KEY, Ceilings, Group, Status

DEFAULT = "demo"
_SUITES = tuple(name for name, suite in SUITES.items() if suite.heads != "public")  # whose heads all fit in memory


class Run:
    """The cases of a session, and what was measured of them so far."""

    def __init__(self, config: pytest.Config) -> None:
        self._option, self._words = config.option, config.invocation_params.args
        self.suite = suite_of(config.option)
        self.cases = {case.id: case for case in _cases(self.suite, config.option)}
        self._outcomes: dict[str, Outcome] = {}
        self._groups: list[Group] = []
        self._ceilings: dict[torch.dtype, Ceilings] = {}

    def outcome(self, name: str, selected: Sequence[str]) -> Outcome:
        """Return the outcome of a case; the first of a shape measures all `selected` cases of that shape."""
        if name not in self._outcomes:
            shape = self.cases[name].shape
            if shape.dtype not in self._ceilings:
                self._ceilings[shape.dtype] = measure_ceilings(shape.device, shape.dtype)
            together = [self.cases[other] for other in selected if self.cases[other].shape == shape]
            seconds = self._option.moegap_seconds or self.suite.seconds_per_case
            measured = measure_group(together, self.suite.name, seconds, self._option.moegap_seed, lambda share: None)
            self._outcomes.update({each.record.case_id: each for each in measured.outcomes})
            self._groups.append(measured.group)
        return self._outcomes[name]

    def complete(self, document: dict[str, Any]) -> None:
        """Add to a result what is no benchmark: steps, cases without a time, ceilings, groups and the command."""
        document[COMMAND_KEY] = shlex.join(["pytest", *map(str, self._words)])
        more = [each for each in self._outcomes.values() if each.record.step or each.record.status != Status.MEASURED]
        recorded(document, more, self._groups, self._ceilings.values())


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make every case of the suite a test, with what tells cases apart as its parameters."""
    if "case" not in metafunc.fixturenames:
        return
    config = metafunc.config
    for forms in config.hook.pytest_moegap_forms():
        join("this project", *(forms if isinstance(forms, list) else [forms]))
    try:
        run = config.stash[RUN] = Run(config)
    except (BenchError, ModelError) as error:
        raise pytest.UsageError(str(error)) from None
    known = ((case.id, identity(case)) for case in run.cases.values())
    values = [(name, *(fields[parameter] for parameter in PARAMETERS)) for name, fields in known]
    metafunc.parametrize(("case", *PARAMETERS), values, ids=list(run.cases))


def suite_of(option: argparse.Namespace) -> Suite:
    """Return the suite that the options name; raises `pytest.UsageError` for bad ones."""
    name = option.moegap_suite or DEFAULT
    if name not in _SUITES:
        raise pytest.UsageError(f"--suite takes {', '.join(_SUITES)}, not {name!r}")
    if option.moegap_device not in DEVICES:
        raise pytest.UsageError(f"--device takes {', '.join(DEVICES)}, not {option.moegap_device!r}")
    if option.moegap_seconds is not None and option.moegap_seconds <= 0:
        raise pytest.UsageError(f"--seconds must be above 0, not {option.moegap_seconds:g}")
    return SUITES[name]


def _cases(suite: Suite, option: argparse.Namespace) -> list[Case]:
    """Return every case that the options ask for; raises `BenchError` or `ModelError` for bad ones."""
    subjects = chosen_subjects(suite, option.moegap_checkpoint or [])
    forms = chosen_forms(option.moegap_form or [], suite)
    shapes = groups(suite, subjects, forms, pick_device(option.moegap_device), chosen_dtypes(option.moegap_dtype or []))
    return [case for shape in shapes for case in shape]


@pytest.mark.benchmark(timer=REPLAY)
def bench_head(
    request: pytest.FixtureRequest,
    benchmark: BenchmarkFixture,
    case: str,
    head: str,
    form: str,
    rows: int,
    dtype: str,
    routing: str,
    cache: str,
) -> None:
    """Replay the samples of one case; skip one that cannot run, fail one that is wrong."""
    items = [item for item in request.session.items if isinstance(item, pytest.Function) and hasattr(item, "callspec")]
    selected = [item.callspec.params["case"] for item in items if item.originalname == "bench_head"]
    outcome = request.config.stash[RUN].outcome(case, selected)
    record = outcome.record
    benchmark.skipped = record.status is not Status.MEASURED
    if record.status in (Status.UNAVAILABLE, Status.SKIPPED):
        pytest.skip(record.reason)
    if benchmark.skipped:
        pytest.fail(f"{record.status}: {record.reason}", pytrace=False)
    benchmark.group, benchmark.name = group_name(record), test_name(record)
    benchmark.extra_info.update(record.model_dump(mode="json"))
    REPLAY.load(outcome.samples)
    benchmark.pedantic(REPLAY.step, rounds=len(outcome.samples), iterations=1)
