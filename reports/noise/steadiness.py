"""What is known of how steady each machine was, as facts beside its versions: drift, and the self-test's result."""

from __future__ import annotations

from collections.abc import Sequence

from reports.noise import self_test
from reports.noise.sampling import DRIFTED, marked
from reports.numbers import units
from reports.records.record import CaseRecord, Group
from reports.records.self_test import SelfTest
from reports.speed import verdicts
from reports.speed.analysis import Analysis, Setting


def facts(analysis: Analysis, tests: Sequence[SelfTest]) -> dict[str, dict[str, str]]:
    """Return the facts of each machine, by what `verdicts.machine` calls it; what is not known is left out."""
    records: dict[str, list[CaseRecord]] = {}
    for record in analysis.results.records:
        records.setdefault(verdicts.machine(Setting.of(record)), []).append(record)
    found = {}
    for machine, own in records.items():
        groups = {record.group_id for record in own}
        told = {
            "drift": drift([group for group in analysis.results.groups if group.group_id in groups]),
            "self-test": "; ".join(self_test.in_brief(test) for test in tests if _is_of(test, own[0])),
        }
        found[machine] = {fact: value for fact, value in told.items() if value}
    return found


def drift(groups: Sequence[Group]) -> str:
    """Return in how many blocks of the groups the unchanged anchor was off, "" where no block has one."""
    blocks = sum(len(group.anchor) for group in groups)
    if not blocks:
        return ""
    off = units.count(sum(len(marked(group)) for group in groups))
    return f"in {off} of {units.plural(blocks, 'block')} the anchor was more than {100 * DRIFTED:g} % off its median"


def _is_of(test: SelfTest, record: CaseRecord) -> bool:
    """Return whether a self-test was measured on the machine of a record, with as many threads."""
    environment = test.environment
    device = environment.get("device_name") or environment.get("device")
    return (device, environment.get("threads")) == (record.device_name, str(record.threads))
