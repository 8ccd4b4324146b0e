"""pytest-benchmark files that moegap did not write: which benchmarks became faster or slower from one to another.

Benchmarks are matched by `fullname`, which holds their parameters; if no name is on both sides, by what the names hold
after leading folders, since the folder of a checkout is called otherwise on another machine. Consecutive samples are
not independent: a disturbance moves many in a row. If both files hold samples, those of a benchmark are therefore cut
into `BLOCKS` runs of consecutive ones, and these are resampled. Files with the same `datetime` hold the same run, for
example as a copy, and are compared block by block. A file saved without samples (`--benchmark-autosave` alone) has
only summary statistics.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, Field

from reports.changes import conditions as changed_conditions
from reports.changes.change import Change, Doubtful, Side, Untimed, change, untimed
from reports.changes.changes import Changes, nothing_in_common, worst_first
from reports.changes.conditions import SIDES, UNKNOWN, RunFacts
from reports.errors import ReportError
from reports.numbers import stats, units
from reports.reading.documents import are_objects, validated
from reports.reading.files import Content
from reports.reading.visible import visible
from reports.records.fields import Schema
from reports.records.summary import Summary

BLOCKS = 30
_FACTS = {
    "host": "node",
    "operating system": "system",
    "release of the operating system": "release",
    "architecture": "machine",
    "Python implementation": "python_implementation",
    "version of Python": "python_version",
}
"""The facts of `machine_info` that are compared, by their name in words."""
_BRANDS = ("brand_raw", "brand")
"""Where py-cpuinfo writes a CPU's name; the second until version 5."""


class Benchmark(Schema):
    """What is read of an entry in `benchmarks`."""

    fullname: str
    group: str | None = None
    stats: Summary

    @property
    def family(self) -> str:
        """Its group, or else its module."""
        return self.group or self.fullname.partition("::")[0]

    @property
    def side(self) -> Side:
        """Its samples (n,) in seconds with the block of each, and their summary."""
        times = np.array(self.stats.data, dtype=np.float64)
        return Side(times, np.arange(times.size) * min(BLOCKS, times.size) // max(1, times.size), self.stats)


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
        brands = [str(cpu[name]) for name in _BRANDS if cpu.get(name)] if isinstance(cpu, dict) else []
        facts = {name: str(self.machine_info.get(key, "")) for name, key in _FACTS.items()}
        return {"CPU": brands[0] if brands else "", **facts}

    @property
    def commit(self) -> tuple[str, bool | None]:
        """The hash of its commit, and whether there were uncommitted changes."""
        dirty = self.commit_info.get("dirty")
        return str(self.commit_info.get("id") or ""), dirty if isinstance(dirty, bool) else None


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
    for entry in content["benchmarks"]:
        if entry.get("fullname") and not entry.get("stats"):
            raise ReportError(
                f"{source}: the benchmark {visible(str(entry['fullname']))} has no `stats`: it failed, or its function "
                "was never called; see why and run it again, or remove its entry."
            )
    file = validated(PlainFile, content, source)
    names = Counter(benchmark.fullname for benchmark in file.benchmarks)
    if twice := [name for name, times in names.items() if times > 1]:
        raise ReportError(
            f"{source} holds the benchmark {visible(twice[0])} twice: remove one of them, or give the files of "
            "several runs apart, as in `moegap compare --base A B C --new D E F`."
        )
    return PlainRun(source, file, {benchmark.fullname: benchmark for benchmark in file.benchmarks})


def between(
    base: PlainRun,
    new: PlainRun,
    least: float = stats.LEAST_EFFECT,
    doubtful: Doubtful = "unclear",
    *,
    several: bool = False,
) -> Changes:
    """Return what changed from `base` to `new`; `least` is the smallest effect that counts, as a share.

    `doubtful` says what becomes of cases whose ratio is in doubt; `several` that they are one pair of several runs a
    side, whose spread tells what runs of one commit differ by. Raises `ReportError` if they have no benchmark in
    common.
    """
    partners = {name: name for name in base.benchmarks if name in new.benchmarks} or _behind_folders(base, new)
    if not partners:
        names = (next(iter(side.benchmarks)) for side in (base, new))
        raise nothing_in_common(str(base.source), str(new.source), *map(visible, names))
    matched = ((base.benchmarks[old], new.benchmarks[now]) for old, now in partners.items())
    pairs = [(old, now, _untimed(old, now)) for old, now in matched]
    same_run = base.file.datetime == new.file.datetime != ""
    differences = list(changed_conditions.differences([(base.file.facts, new.file.facts)]))
    commit = (
        ""
        if several or same_run or differences
        else changed_conditions.same_commit([base.file.commit], [new.file.commit])
    )
    doubt = changed_conditions.ONE_COMMIT if commit else ""
    return Changes(
        runs=(_run(base, "BASE"), _run(new, "NEW")),
        kind="group or module",
        least=least,
        changes=worst_first(
            _change(old, now, least, same_run, doubt, doubtful) for old, now, none in pairs if none is None
        ),
        untimed=tuple(none for _, _, none in pairs if none is not None),
        only_base=tuple(name for name in base.benchmarks if name not in partners),
        only_new=tuple(name for name in new.benchmarks if name not in partners.values()),
        warnings=(
            *differences,
            *_folders(partners),
            *([changed_conditions.of_one_commit(commit)] if commit else []),
            *_uncommitted(base.file, new.file),
        ),
    )


def _behind_folders(base: PlainRun, new: PlainRun) -> dict[str, str]:
    """Return the names of `new` by those of `base` that differ in leading folders alone, if no other name does too.

    Names that agree in more folders find each other first.
    """
    left, right = list(base.benchmarks), list(new.benchmarks)
    partners: dict[str, str] = {}
    for kept in range(max(name.partition("::")[0].count("/") for name in (*left, *right)) + 1, 0, -1):
        ends = [Counter(_end(name, kept) for name in side) for side in (left, right)]
        alone = {end for end, times in ends[0].items() if times == ends[1][end] == 1}
        here = {_end(name, kept): name for name in right}
        partners |= {name: here[end] for name in left if (end := _end(name, kept)) in alone}
        left = [name for name in left if name not in partners]
        right = [name for name in right if name not in partners.values()]
    return partners


def _end(name: str, kept: int) -> str:
    """Return a name with the last `kept` parts of its path."""
    path, colons, rest = name.partition("::")
    return "/".join(path.split("/")[-kept:]) + colons + rest


def _folders(partners: Mapping[str, str]) -> Iterator[str]:
    """Yield a warning if names differ, with an example."""
    differing = [(old, now) for old, now in partners.items() if old != now]
    if differing:
        old, now = (visible(name).partition("::")[0] for name in differing[0])
        yield (
            f"{units.plural(len(differing), 'benchmark')} matched without leading folders: "
            f"{old} {changed_conditions.ARROW} {now}."
        )


def _untimed(base: Benchmark, new: Benchmark) -> Untimed | None:
    return untimed(visible(new.fullname), base.side, new.side)


def _change(base: Benchmark, new: Benchmark, least: float, same_run: bool, doubt: str, doubtful: Doubtful) -> Change:
    before, after = base.side, new.side
    paired = same_run and before.samples.size == after.samples.size
    return change(
        before,
        after,
        case=visible(new.fullname),
        label=visible(new.fullname),
        family=visible(new.family),
        form="",
        together=new.fullname,
        interleaved=paired,
        doubt=doubt,
        least=least,
        doubtful=doubtful,
    )


def _uncommitted(base: PlainFile, new: PlainFile) -> Iterator[str]:
    for side, file in zip(SIDES, (base, new), strict=True):
        if file.commit[1]:
            yield changed_conditions.uncommitted(side)


def _run(run: PlainRun, side: str) -> RunFacts:
    facts = run.file.facts
    return RunFacts(
        file=str(run.source),
        commit=changed_conditions.commits([run.file.commit]),
        measured=units.date(str(run.file.datetime)) or UNKNOWN,
        machine=", ".join(filter(None, (facts["CPU"], facts["host"]))),
        side=side,
    )
