"""pytest-benchmark files that moegap did not write: which benchmarks became faster or slower from one to another.

Benchmarks are matched by `fullname`, which holds their parameters. Consecutive samples are not independent: a
disturbance moves many in a row. If both files hold samples, those of a benchmark are therefore cut into `BLOCKS` runs
of consecutive ones, and these are resampled. Files with the same `datetime` hold the same run, for example as a copy,
and are compared block by block. A file saved without samples (`--benchmark-autosave` alone) has only quartiles.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import exp, hypot, log
from pathlib import Path
from statistics import NormalDist
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, Field

from reports.changes import conditions as changed_conditions
from reports.changes.changes import Change, Changes, middle, nothing_in_common, verdict, worst_first
from reports.changes.conditions import SIDES, UNKNOWN, RunFacts
from reports.errors import ReportError
from reports.numbers import stats, units
from reports.numbers.stats import CONFIDENCE, LEAST_BLOCKS, Estimate, Floats, Integers
from reports.reading.documents import are_objects, validated
from reports.reading.files import Content
from reports.reading.visible import visible
from reports.records.fields import Schema
from reports.records.record import LONGEST, SHORTEST

BLOCKS = 30
MEDIAN_ERROR = 0.93
"""Standard error of a median of n samples, in interquartile ranges / sqrt(n) (McGill, Tukey and Larsen 1978)."""

WIDEST = log(10)
"""An interval with a larger half width, in logarithms, says nothing."""
_FACTS = {
    "host": "node",
    "operating system": "system",
    "release of the operating system": "release",
    "architecture": "machine",
    "Python implementation": "python_implementation",
    "version of Python": "python_version",
}
"""The facts of `machine_info` that are compared, by their name in words."""

Time = Annotated[float, Field(ge=SHORTEST, le=LONGEST, allow_inf_nan=False)]  # in seconds


class Stats(Schema):
    """What is read of a benchmark's `stats`, in seconds: the median and the interquartile range of `rounds` samples.

    `data` holds the samples, if they were kept.
    """

    median: Time
    iqr: Annotated[float, Field(ge=0, le=LONGEST, allow_inf_nan=False)]
    rounds: Annotated[int, Field(ge=1)]
    data: tuple[Time, ...] = ()

    @property
    def relative_error(self) -> float:
        """The standard error of the median as a share of it, as if samples were independent."""
        return float(MEDIAN_ERROR * self.iqr / self.rounds**0.5 / self.median)


class Benchmark(Schema):
    """What is read of an entry in `benchmarks`."""

    fullname: str
    group: str | None = None
    stats: Stats

    @property
    def family(self) -> str:
        """Its group, or else its module."""
        return self.group or self.fullname.partition("::")[0]

    @property
    def samples(self) -> tuple[Floats, Integers]:
        """Its samples (n,) in seconds and the block of each."""
        times = np.array(self.stats.data, dtype=np.float64)
        return times, np.arange(times.size) * min(BLOCKS, times.size) // max(1, times.size)


def _object(value: object) -> object:
    return value if isinstance(value, dict) else {}


Info = Annotated[dict[str, Any], BeforeValidator(_object)]


class PlainFile(Schema):
    """A file: its benchmarks, and what it says of its machine, its commit, and when it was written."""

    benchmarks: Annotated[tuple[Benchmark, ...], Field(min_length=1)]
    machine_info: Info = Field(default_factory=dict)
    commit_info: Info = Field(default_factory=dict)
    datetime: Any = ""

    @property
    def facts(self) -> dict[str, str]:
        """The facts of the machine that are compared, by their name in words."""
        cpu = self.machine_info.get("cpu")
        brand = cpu.get("brand_raw", "") if isinstance(cpu, dict) else ""
        return {"CPU": str(brand), **{name: str(self.machine_info.get(key, "")) for name, key in _FACTS.items()}}


@dataclass(frozen=True)
class PlainRun:
    """The file `source`, and its benchmarks by name."""

    source: Path
    file: PlainFile
    benchmarks: Mapping[str, Benchmark]


def load(source: Path, content: Content) -> PlainRun:
    """Return the run that the file `source` holds; raises `ReportError` if it holds none or is broken."""
    if not are_objects(content.get("benchmarks")):
        raise ReportError(
            f"{source} holds no benchmarks to compare: give a result of `moegap bench`, or of pytest-benchmark."
        )
    if not content["benchmarks"]:
        raise ReportError(f"{source} holds no benchmark: nothing was selected, or the run was killed.")
    file = validated(PlainFile, content, source)
    names = Counter(benchmark.fullname for benchmark in file.benchmarks)
    if twice := [name for name, times in names.items() if times > 1]:
        raise ReportError(f"{source} holds the benchmark {twice[0]} twice: remove one of them.")
    return PlainRun(source, file, {benchmark.fullname: benchmark for benchmark in file.benchmarks})


def between(base: PlainRun, new: PlainRun, least: float = stats.LEAST_EFFECT) -> Changes:
    """Return what changed from `base` to `new`; `least` is the smallest effect that counts, as a share.

    Raises `ReportError` if they have no benchmark in common.
    """
    shared = [(base.benchmarks[name], now) for name, now in new.benchmarks.items() if name in base.benchmarks]
    if not shared:
        raise nothing_in_common(str(base.source), str(new.source))
    same_run = base.file.datetime == new.file.datetime != ""
    return Changes(
        runs=(_run(base), _run(new)),
        kind="group or module",
        least=least,
        changes=worst_first(_change(old, now, least, same_run) for old, now in shared),
        only_base=tuple(name for name in base.benchmarks if name not in new.benchmarks),
        only_new=tuple(name for name in new.benchmarks if name not in base.benchmarks),
        warnings=tuple(_warnings(base.file, new.file)),
    )


def _change(base: Benchmark, new: Benchmark, least: float, same_run: bool) -> Change:
    by_quartiles = not (base.stats.data and new.stats.data)
    if by_quartiles:
        ratio, medians = ratio_by_quartiles(base.stats, new.stats), (base.stats.median, new.stats.median)
    else:
        before, after = base.samples, new.samples
        paired = same_run and before[0].size == after[0].size
        ratio, medians = stats.ratio_of_medians(*before, *after, interleaved=paired), (middle(*before), middle(*after))
    name = visible(new.fullname)
    return Change(
        case=name,
        label=name,
        family=visible(new.family),
        form="",
        together=new.fullname,
        base=medians[0],
        new=medians[1],
        ratio=ratio,
        verdict=verdict(ratio, least),
        by_quartiles=by_quartiles,
    )


def _warnings(base: PlainFile, new: PlainFile) -> Iterator[str]:
    yield from changed_conditions.differences([(base.facts, new.facts)])
    for side, file in zip(SIDES, (base, new), strict=True):
        if file.commit_info.get("dirty") is True:
            yield changed_conditions.uncommitted(side)


def _run(run: PlainRun) -> RunFacts:
    facts, commit = run.file.facts, run.file.commit_info
    return RunFacts(
        file=str(run.source),
        commit=changed_conditions.commits([(str(commit.get("id", "")), commit.get("dirty") is True)]),
        measured=units.date(str(run.file.datetime)) or UNKNOWN,
        machine=", ".join(filter(None, (facts["CPU"], facts["host"]))),
    )


def ratio_by_quartiles(base: Stats, new: Stats) -> Estimate:
    """Return base / new, normal in its logarithm.

    It has no interval if a side has few rounds, or if that would reach beyond a factor of ten either way.
    """
    value, rounds = base.median / new.median, min(base.rounds, new.rounds)
    half = NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * hypot(base.relative_error, new.relative_error)
    if rounds < LEAST_BLOCKS or half > WIDEST:
        return Estimate(value, None, None, rounds, rounds)
    return Estimate(value, exp(log(value) - half), exp(log(value) + half), rounds, rounds)
