"""The state of the machine: what the numbers beside it rest on, and what weakens them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from reports.changes.conditions import beside_other_work
from reports.noise.sampling_section import DRIFTED, marked
from reports.noise.self_test import answers, holds, is_of
from reports.numbers import units
from reports.output.blocks import Facts
from reports.records.record import CaseRecord, Ceilings, Group
from reports.records.self_test import SelfTest
from reports.speed.analysis import Analysis, Setting
from reports.speed.floors import of_machine

UNSTEADY = 0.1
"""A machine drifts if its anchor was off in more than this share of the blocks."""
APART = 1.25
"""Ceilings are unstable if the greatest of one quantity is more than this many times the least."""

Fact = tuple[str, str, bool]
"""Its name, its value, and whether it weakens the numbers."""

_QUANTITIES: dict[str, Callable[[Ceilings], float]] = {
    "peak": lambda each: each.flops_per_s,
    "memory": lambda each: each.copies[-1].bytes_per_s,
    "launch": lambda each: each.launch,
}


def state(analysis: Analysis, setting: Setting, tests: Sequence[SelfTest]) -> Facts:
    """Return how steady the machine was while a setting was measured: its load, anchor, ceilings and self-tests."""
    records = [case.record for case in analysis.cases(setting)]
    names = {record.group_id for record in records}
    groups = [group for group in analysis.results.groups if group.group_id in names]
    facts = [
        ("measured", units.moment(max(record.moment for record in records)), False),
        _load(records),
        _anchor(groups),
        _throttled(groups),
        _ceilings(of_machine(records[0], analysis.results.ceilings)),
        *map(_self_test, (test for test in tests if is_of(test, records[0]))),
    ]
    known = [fact for fact in facts if fact[1]]
    return Facts(
        "State of the machine",
        [(name, value) for name, value, _ in known],
        warnings=[name for name, _, weak in known if weak],
    )


def _self_test(test: SelfTest) -> Fact:
    passed = holds(answers(test))
    return ("self-test", "passed" if passed else "not passed", not passed)


def _load(records: Sequence[CaseRecord]) -> Fact:
    loads = [record.load_1m for record in records if record.load_1m is not None]
    if not loads:
        return ("load", "", False)
    busy = records[0].device == "cpu" and any(map(beside_other_work, records))
    return ("load", f"{units.span(loads, decimals=1)}, {'beside other work' if busy else 'no other work'}", busy)


def _anchor(groups: Sequence[Group]) -> Fact:
    blocks = sum(len(group.anchor) for group in groups)
    if not blocks:
        return ("anchor", "", False)
    off = sum(len(marked(group)) for group in groups)
    drifted = off > UNSTEADY * blocks
    share = f"over {100 * DRIFTED:g} % in {units.count(off)} of {units.plural(blocks, 'block')}"
    return ("anchor", f"drifted {share}" if drifted else f"steady, off by {share}", drifted)


def _throttled(groups: Sequence[Group]) -> Fact:
    slowed = sum(len(group.throttled) for group in groups)
    return ("clock", f"lowered in {units.plural(slowed, 'block')}" if slowed else "", slowed > 0)


def _ceilings(measured: Sequence[Ceilings]) -> Fact:
    if not measured:
        return ("ceilings", "not measured: nothing attainable is known", True)
    if len(measured) == 1:
        return ("ceilings", "measured once, spread unknown", False)
    ratios = {
        name: max(map(value, measured)) / max(min(map(value, measured)), 1e-12) for name, value in _QUANTITIES.items()
    }
    apart = ", ".join(f"{name} {units.factor(ratio)}" for name, ratio in ratios.items())
    unstable = max(ratios.values()) > APART
    times = f"{'unstable' if unstable else 'stable'}, {units.plural(len(measured), 'time')} measured"
    return ("ceilings", f"{times}; greatest over least: {apart}", unstable)
