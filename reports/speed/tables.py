"""The tables of a report, as text ready to be set: numbers with their units, in the order they are read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reports.numbers import units
from reports.output.blocks import Column, Table, without_blanks
from reports.reading.load import Case, measured_at
from reports.records.record import CaseRecord, Status
from reports.speed import verdicts
from reports.speed.analysis import KINDS, MAP_SUITE, Analysis, Comparison, Head, Setting, Speedup
from reports.speed.floors import Floor
from reports.speed.panels import nearest_batch

BYTES_PER_FLOAT32 = 4
_GRAVEST_FIRST = (Status.WRONG, Status.FAILED, Status.UNAVAILABLE, Status.SKIPPED)


@dataclass(frozen=True)
class Reason:
    """Cases that have no time, for one and the same reason."""

    status: Status
    reason: str
    cases: tuple[str, ...]


def environment(analysis: Analysis, more: Mapping[str, Mapping[str, str]] | None = None) -> list[Table]:
    """Return one table for each machine: what the numbers were measured on, with and when.

    `more` has further facts of machines, by what `verdicts.machine` calls them.
    """
    machines: dict[str, list[CaseRecord]] = {}
    measured: dict[str, list[Case]] = {}
    for record in sorted(analysis.results.records, key=lambda record: Setting.of(record).rank()):
        machines.setdefault(verdicts.machine(Setting.of(record)), []).append(record)
    for case in analysis.results.cases:
        measured.setdefault(verdicts.machine(Setting.of(case.record)), []).append(case)
    columns = (Column("fact", numeric=False), Column("value", numeric=False))
    return [
        Table(name, columns, (*_facts(records, measured.get(name, [])), *(more or {}).get(name, {}).items()))
        for name, records in machines.items()
    ]


def public(analysis: Analysis) -> Table | None:
    """Return the layers of public models that were measured, and where their sizes stand; None without any."""
    columns = (
        Column("layer", numeric=False),
        Column("features"),
        Column("hidden width of an expert"),
        Column("experts"),
        Column("per row"),
        Column("sizes from", numeric=False),
        Column("shrunk", numeric=False),
    )
    rows = dict.fromkeys(
        (
            record.checkpoint,
            *map(units.count, (record.features, record.hidden, record.experts, record.k)),
            record.source,
            record.shrunk,
        )
        for record in analysis.results.records
        if record.source and record.head != "dense"
    )
    return without_blanks(Table("Layers of public models", columns, tuple(rows))) if rows else None


def speedups(analysis: Analysis) -> list[Table]:
    """Return, for each setting, what each MoE head was promised, could attain and realised at best, by rows.

    The heads of a map of break-even stand in that map.
    """
    columns = (
        Column("head", numeric=False),
        Column("rows"),
        Column("theoretical"),
        Column("attainable"),
        Column("limited by", numeric=False),
        Column("least bytes"),
        Column("realised"),
        Column(units.INTERVAL),
        Column("verdict", numeric=False),
        Column("form", numeric=False),
        Column("dense form", numeric=False),
        Column("n"),
    )
    groups = {
        (speedup.setting, speedup.head): None for speedup in analysis.speedups if speedup.setting.suite != MAP_SUITE
    }
    order = sorted(groups, key=lambda group: (group[0].rank(), KINDS.index(group[1].kind), analysis.labels[group[1]]))
    rows: dict[Setting, list[tuple[str, ...]]] = {}
    for setting, head in order:
        rows.setdefault(setting, []).extend(_speedup_row(analysis, found) for found in analysis.of(setting, head))
    return [without_blanks(Table(caption(setting), columns, tuple(found))) for setting, found in rows.items()]


def caption(setting: Setting) -> str:
    """Return the title of a table about one setting."""
    return f"{verdicts.title(setting)}; {verdicts.machine(setting)}"


def efficiency(analysis: Analysis) -> list[Table]:
    """Return the paper's efficiency table for each setting of the suite `paper`, at the batch nearest to its 256."""
    tables = []
    for setting in analysis.usual:
        cases = analysis.cases(setting) if setting.suite == "paper" else []
        if cases:
            batch = nearest_batch(cases)
            rows = tuple(_efficiency_row(analysis, case) for case in cases if case.record.rows == batch)
            heading = f"{verdicts.title(setting)}, batch of {units.count(batch)}; {verdicts.machine(setting)}"
            tables.append(Table(heading, _EFFICIENCY, rows))
    return tables


def cold_start(analysis: Analysis) -> list[Table]:
    """Return, for each setting, what preparing a form costs and how much memory a call takes, over all its rows."""
    columns = (
        Column("head", numeric=False),
        Column("form", numeric=False),
        Column("cold start, least"),
        Column("cold start, most"),
        Column("peak memory"),
        Column("at rows"),
        Column("runs on", numeric=False),
    )
    tables = []
    for setting in analysis.usual:
        groups: dict[tuple[Head, str], list[CaseRecord]] = {}
        for case in analysis.cases(setting):
            groups.setdefault((Head.of(case.record), case.record.form), []).append(case.record)
        rows = [_cold_start_row(analysis, head, form, records) for (head, form), records in groups.items()]
        told = tuple(row for row in rows if any(row[2:5]))
        if told:
            tables.append(Table(caption(setting), columns, told))
    return tables


def work(analysis: Analysis) -> list[Table]:
    """Return, for each setting, what the forms that count their own work execute and request, beside what is needed."""
    columns = (
        Column("head", numeric=False),
        Column("form", numeric=False),
        Column("rows"),
        Column("launches"),
        Column("MFLOP executed"),
        Column("MFLOP needed"),
        Column("executed / needed"),
        Column("requested"),
        Column("least"),
    )
    tables = []
    for setting in analysis.settings:
        counted = [case.record for case in analysis.cases(setting) if case.record.launches is not None]
        if counted:
            tables.append(Table(caption(setting), columns, tuple(_work_row(analysis, record) for record in counted)))
    return tables


def reasons(analysis: Analysis) -> list[Reason]:
    """Return what has no time and why, the gravest first, each reason once."""
    groups: dict[tuple[Status, str], list[CaseRecord]] = {}
    for record in analysis.results.not_measured:
        groups.setdefault((record.status, record.reason or "No reason was recorded."), []).append(record)
    order = sorted(groups.items(), key=lambda item: _GRAVEST_FIRST.index(item[0][0]))
    return [Reason(status, reason, tuple(_scopes(analysis, records))) for (status, reason), records in order]


_EFFICIENCY = (
    Column("head", numeric=False),
    Column("form", numeric=False),
    Column("parameters"),
    Column("in fp32"),
    Column("peak memory"),
    Column("mean"),
    Column("std"),
    Column("median"),
    Column("n"),
    Column("images/s"),
)


def _facts(records: Sequence[CaseRecord], cases: Sequence[Case]) -> Iterable[tuple[str, str]]:
    """Return what the records say of the machine and the run, several values joined; what none says is left out."""
    versions = sorted({f"{name}\u00a0{version}" for record in records for name, version in record.versions.items()})
    times = sorted(measured_at(record) for record in records)
    facts = {
        "device": _joined(record.device_name for record in records),
        "CPU": _joined(record.cpu for record in records),
        "threads": _joined(f"{record.threads} {record.thread_wait.lower()}".strip() for record in records),
        "load, 1 minute": units.span((record.load_1m for record in records), decimals=1),
        "GPU clock, MHz": units.span(record.gpu_clock_mhz for record in records),
        "GPU temperature, °C": units.span(record.gpu_temperature_c for record in records),
        "driver": _joined(record.driver for record in records),
        "versions": _joined(versions),
        "commit": _joined(_commit(record) for record in records),
        "measured": " to ".join(dict.fromkeys(units.moment(time) for time in (times[0], times[-1]))),
        "clocks": _joined(record.clock for record in records),
        "samples": _samples(cases),
        "heads": _joined(f"{record.checkpoint} ({record.weights})" for record in records if record.suite != MAP_SUITE),
        "trained on": _joined(record.data for record in records),
        "rows from": _joined(record.routing for record in records),
    }
    return ((name, value) for name, value in facts.items() if value)


def name(analysis: Analysis, head: Head) -> str:
    """Return a head's label for a column of heads."""
    return analysis.labels[head].replace(" head", "", 1)


def _commit(record: CaseRecord) -> str:
    state = {True: " with uncommitted changes", False: "", None: ""}[record.dirty]
    return f"{record.commit[:12]}{state}" if record.commit else ""


def _samples(cases: Sequence[Case]) -> str:
    if not cases:
        return "none"
    sizes = [case.samples.size for case in cases]
    return f"{units.count(sum(sizes))} in {units.plural(len(cases), 'case')}, {units.span(sizes)} each"


def _joined(values: Iterable[str]) -> str:
    return ", ".join(sorted({value for value in values if value}))


def _speedup_row(analysis: Analysis, speedup: Speedup) -> tuple[str, ...]:
    best = speedup.best
    floor = analysis.floors.get(best.case)
    return (
        name(analysis, speedup.head),
        units.count(speedup.rows),
        units.factor(best.theoretical),
        "" if best.attainable is None else units.factor(best.attainable),
        floor.limit if floor else "",
        f"{units.megabytes(best.case.record.least_bytes or 0)}, {resident(floor)}" if floor else "",
        units.factor(best.realised.value),
        _interval(best),
        best.verdict,
        best.case.record.form,
        best.base.record.form,
        units.count(best.realised.samples),
    )


def resident(floor: Floor) -> str:
    """Return where what a case must move lies."""
    return "cache-resident" if floor.cached else "in memory"


def _interval(comparison: Comparison) -> str:
    notes = [] if comparison.realised.paired else ["unpaired"]
    notes += [] if comparison.matched else ["unmatched"]
    return ", ".join([units.factor_interval(comparison.realised), *notes])


def _speedup(comparison: Comparison) -> str:
    return f"{units.factor(comparison.realised.value)} ({_interval(comparison)})"


def _efficiency_row(analysis: Analysis, case: Case) -> tuple[str, ...]:
    record = case.record
    mean = float(np.mean(case.samples))
    std = units.seconds(float(np.std(case.samples, ddof=1))) if case.samples.size > 1 else ""
    return (
        name(analysis, Head.of(record)),
        record.form,
        units.count(record.parameters),
        units.megabytes(record.parameters * BYTES_PER_FLOAT32),
        "" if record.peak_memory is None else units.megabytes(record.peak_memory),
        units.seconds(mean),
        std,
        units.seconds(analysis.latencies[case].value),
        units.count(case.samples.size),
        units.count(round(record.rows / mean)),
    )


def _cold_start_row(analysis: Analysis, head: Head, form: str, records: Sequence[CaseRecord]) -> tuple[str, ...]:
    starts = [record.cold_start for record in records if record.cold_start is not None]
    memory = max(
        (record for record in records if record.peak_memory is not None),
        key=lambda record: record.peak_memory or 0,
        default=None,
    )
    runs_on = {f"{key} {value}" for record in records for key, value in record.runs_on.items() if key != "device"}
    return (
        name(analysis, head),
        form,
        units.seconds(min(starts)) if starts else "",
        units.seconds(max(starts)) if starts else "",
        units.megabytes(memory.peak_memory or 0) if memory else "",
        units.count(memory.rows) if memory else "",
        _joined(runs_on),
    )


def _work_row(analysis: Analysis, record: CaseRecord) -> tuple[str, ...]:
    executed, requested, least = record.executed_flops, record.requested_bytes, record.least_bytes
    return (
        name(analysis, Head.of(record)),
        record.form,
        units.count(record.rows),
        units.count(record.launches or 0),
        "" if executed is None else units.millions(executed),
        units.millions(record.flops),
        units.factor(executed / record.flops) if executed is not None and record.flops else "",
        "" if requested is None else units.megabytes(requested),
        "" if least is None else units.megabytes(least),
    )


def _scopes(analysis: Analysis, records: Sequence[CaseRecord]) -> Iterable[str]:
    """Name the cases of one reason, those that differ only in rows together."""
    scopes: dict[tuple[str, ...], set[int]] = {}
    for record in records:
        label = name(analysis, Head.of(record))
        scope = (label, record.form, record.part, record.dtype, record.device, f"{record.clock} clock", record.suite)
        scopes.setdefault(scope, set()).add(record.rows)
    for (label, form, *details, suite), rows in scopes.items():
        sizes = units.listing([units.count(size) for size in sorted(rows)])
        noun = "row" if rows == {1} else "rows"
        yield f"{label}, {form} ({', '.join(details)}, suite {suite}): {sizes} {noun}"
