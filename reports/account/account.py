"""The account of the gap: for each case the theoretical, attainable and realised speed-up, and where its time went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from reports.account.cross_check import Agreement, agreements
from reports.account.waterfall import Waterfall, waterfall
from reports.reading.load import Case
from reports.speed.analysis import Analysis, Comparison, Head, Setting
from reports.speed.floors import Floor
from reports.speed.settings import INTEREST, from_batch

FORMAT = 2


@dataclass(frozen=True, eq=False)
class Account:
    """What is known of a head alone in one form at one number of rows.

    `comparison` with the best dense form is None of dense heads and where none was measured; `floor` is None without
    ceilings.
    """

    case: Case
    setting: Setting
    head: Head
    comparison: Comparison | None
    floor: Floor | None
    waterfall: Waterfall
    agreements: tuple[Agreement, ...]


def account(analysis: Analysis) -> list[Account]:
    """Return the account of every head alone, by setting, head, form and rows."""
    compared = {item.case: item for speedup in analysis.speedups for item in speedup.against_best}
    steps: dict[object, list[Case]] = {}
    for step in analysis.results.steps:
        steps.setdefault(_key(step), []).append(step)
    return [
        _account(analysis, case, compared.get(case), steps.get(_key(case), []))
        for setting in analysis.settings
        if setting.part == "head"
        for case in analysis.cases(setting)
    ]


def by_setting(accounts: Sequence[Account]) -> list[tuple[Setting, list[Account]]]:
    """Return the accounts of each setting, in their order."""
    groups: dict[Setting, list[Account]] = {}
    for account in accounts:
        groups.setdefault(account.setting, []).append(account)
    return list(groups.items())


def by_interest(analysis: Analysis, accounts: Sequence[Account], *, steps_first: bool = False) -> list[Account]:
    """Return `accounts` in the order in which they are offered: sparse heads first, soft and dense ones after them.

    Of each kind those at the rows nearest to the paper's batch come first, then the others from the fewest on, and of
    each number of rows the fastest first; with `steps_first` those measured in steps before those told by a trace.
    """
    nearest = {
        kind: min(
            (found.case.record.rows for found in accounts if found.head.kind == kind),
            key=from_batch,
        )
        for kind in {found.head.kind for found in accounts}
    }

    def rank(found: Account) -> tuple[int, bool, int, bool, float]:
        kind, rows = found.head.kind, found.case.record.rows
        later = steps_first and found.waterfall.basis != "steps"
        return (INTEREST.index(kind), rows != nearest[kind], rows, later, analysis.latencies[found.case].value)

    return sorted(accounts, key=rank)


def as_json(analysis: Analysis) -> dict[str, Any]:
    """Return every account as JSON can hold it: times in seconds, parts in whole picoseconds."""
    return {"moegap_account": FORMAT, "cases": [_case(analysis, found) for found in account(analysis)]}


def _account(analysis: Analysis, case: Case, comparison: Comparison | None, steps: list[Case]) -> Account:
    theoretical = analysis.latencies[comparison.base].value / comparison.theoretical if comparison else None
    found = waterfall(case, analysis.latencies[case].value, analysis.floors.get(case), steps, theoretical)
    return Account(
        case=case,
        setting=Setting.of(case.record),
        head=Head.of(case.record),
        comparison=comparison,
        floor=analysis.floors.get(case),
        waterfall=found,
        agreements=tuple(agreements(found)),
    )


def _key(case: Case) -> object:
    """Return what a case and its steps share."""
    record = case.record
    return (case.source, record.group_id, Setting.of(record), Head.of(record), record.form, record.rows)


def _case(analysis: Analysis, found: Account) -> dict[str, Any]:
    record, latency = found.case.record, analysis.latencies[found.case]
    named = ("case_id", "checkpoint", "head", "form", "rows", "cache", "routing", "clock", "dtype", "device", "threads")
    return {
        **{name: getattr(record, name) for name in (*named, "device_name", "suite", "source", "shrunk")},
        "median": {"seconds": latency.value, "low": latency.low, "high": latency.high, "samples": latency.samples},
        "floor": _floor(found.floor),
        "speedup": _speedup(found.comparison),
        "waterfall": _waterfall(found.waterfall),
        "cross_check": [asdict(agreement) for agreement in found.agreements],
    }


def _floor(floor: Floor | None) -> dict[str, Any] | None:
    if floor is None:
        return None
    return {
        "seconds": floor.seconds,
        "arithmetic": floor.arithmetic,
        "bandwidth": floor.bandwidth,
        "launch": floor.launch,
        "limit": floor.limit,
        "bytes_per_s": floor.rate,
        "cache_resident": floor.cached,
    }


def _speedup(comparison: Comparison | None) -> dict[str, Any] | None:
    if comparison is None:
        return None
    return {
        "dense_form": comparison.base.record.form,
        "matched": comparison.matched,
        "theoretical": comparison.theoretical,
        "attainable": comparison.attainable,
        "realised": comparison.realised.value,
        "low": comparison.realised.low,
        "high": comparison.realised.high,
        "verdict": comparison.verdict,
    }


def _waterfall(found: Waterfall) -> dict[str, Any]:
    parts = [
        {"name": part.name, "picoseconds": part.picoseconds, "low": part.low, "high": part.high} for part in found.parts
    ]
    return {
        "basis": found.basis,
        "picoseconds": found.total,
        "theoretical_picoseconds": found.theoretical,
        "parts": parts,
        "notes": list(found.notes),
    }
