"""The section on the environment: each machine with its versions and how steady it was, and public models."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from reports.noise.sampling_section import DRIFTED, marked
from reports.noise.self_test import in_brief, is_of
from reports.numbers import units
from reports.numbers.groups import grouped
from reports.output.blocks import Block, Facts, Section, Table, Text, without_blanks
from reports.output.tables import Field, number, tabulated, word
from reports.reading.load import MeasuredCase
from reports.records.record import CaseRecord, Group
from reports.records.self_test import SelfTest
from reports.speed import settings
from reports.speed.analysis import MAP_SUITE, Analysis, Setting


def environment_section(analysis: Analysis, tests: Sequence[SelfTest], others: Sequence[Facts]) -> Section | None:
    """Return the machines of benchmark results and `others`, of studies and profiles; None without any."""
    blocks: list[Block] = [*machines(analysis, tests), *others]
    if models := public(analysis):
        blocks.append(models)
    if replaced := len(analysis.results.replaced):
        blocks.append(Text(f"{units.plural(replaced, 'case')} in more than one file; the latest of each counts."))
    return (
        Section(
            "environment",
            "Environment",
            blocks,
            about="each machine, its versions, and how steady it was",
        )
        if blocks
        else None
    )


def machines(analysis: Analysis, tests: Sequence[SelfTest] = ()) -> list[Facts]:
    """Return what each machine was, when and with which versions it measured, and how its self-tests ended."""
    order = sorted(analysis.results.records, key=lambda record: Setting.of(record).rank())
    records = grouped(order, lambda record: settings.machine(Setting.of(record)))
    cases = grouped(analysis.results.cases, lambda case: settings.machine(Setting.of(case.record)))
    return [
        Facts(machine, _facts(analysis, group, cases.get(machine, []), tests)) for machine, group in records.items()
    ]


def public(analysis: Analysis) -> Table | None:
    """Return the measured layers of public models and the source of their sizes; None without any."""
    fields: list[Field[CaseRecord]] = [
        word("layer", lambda record: record.checkpoint),
        number("features", lambda record: units.count(record.features)),
        number("hidden width of an expert", lambda record: units.count(record.hidden)),
        number("experts", lambda record: units.count(record.experts)),
        number("per row", lambda record: units.count(record.k)),
        word("sizes from", lambda record: record.source),
        word("shrunk", lambda record: record.shrunk),
    ]
    records = [record for record in analysis.results.records if record.source and record.head != "dense"]
    table = tabulated("Layers of public models", fields, records)
    return without_blanks(replace(table, rows=tuple(dict.fromkeys(table.rows)))) if records else None


def _facts(
    analysis: Analysis, records: Sequence[CaseRecord], cases: Sequence[MeasuredCase], tests: Sequence[SelfTest]
) -> list[tuple[str, str]]:
    """Return the known facts of one machine and its runs; different values of one fact are joined."""
    versions = sorted({f"{name}\u00a0{version}" for record in records for name, version in record.versions.items()})
    times = sorted(record.moment for record in records)
    groups = {record.group_id for record in records}
    facts = {
        "device": _joined(record.device_name for record in records),
        "CPU": _joined(record.cpu for record in records),
        "threads": _joined(f"{record.threads} {record.thread_wait.lower()}".strip() for record in records),
        "load, 1 minute": units.span((record.load_1m for record in records), decimals=1),
        "GPU clock, MHz": units.span(record.gpu_clock_mhz for record in records),
        "GPU temperature, °C": units.span(record.gpu_temperature_c for record in records),
        "driver": _joined(record.driver for record in records),
        "versions": _joined(versions),
        "commit": _joined(units.commit(record.commit, bool(record.dirty)) for record in records),
        "measured": " to ".join(dict.fromkeys(units.moment(time) for time in (times[0], times[-1]))),
        "clocks": _joined(record.clock for record in records),
        "samples": _samples(cases),
        "heads": _joined(f"{record.checkpoint} ({record.weights})" for record in records if record.suite != MAP_SUITE),
        "trained on": _joined(record.data for record in records),
        "rows from": _joined(record.routing for record in records),
        "drift": _drift([group for group in analysis.results.groups if group.group_id in groups]),
        "self-test": "; ".join(in_brief(test) for test in tests if is_of(test, records[0])),
    }
    return [(name, value) for name, value in facts.items() if value]


def _samples(cases: Sequence[MeasuredCase]) -> str:
    if not cases:
        return "none"
    sizes = [case.samples.size for case in cases]
    return f"{units.count(sum(sizes))} in {units.plural(len(cases), 'case')}, {units.span(sizes)} each"


def _joined(values: Iterable[str]) -> str:
    return ", ".join(sorted({value for value in values if value}))


def _drift(groups: Sequence[Group]) -> str:
    """Say in how many blocks of the groups the unchanged anchor was off; "" if no block has one."""
    blocks = sum(len(group.anchor) for group in groups)
    if not blocks:
        return ""
    off = units.count(sum(len(marked(group)) for group in groups))
    return f"in {off} of {units.plural(blocks, 'block')} the anchor was more than {100 * DRIFTED:g} % off its median"
