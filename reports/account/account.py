"""The account of the gap: for each case the theoretical, attainable and realised speed-up, and where its time went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from reports.account.cross_check import Agreement, agreements
from reports.account.waterfall import Waterfall, waterfall
from reports.numbers.groups import grouped
from reports.reading.load import MeasuredCase
from reports.speed.analysis import Analysis, Comparison, Head, Setting, by_speed
from reports.speed.floors import Floor
from reports.speed.settings import INTEREST, from_batch

FORMAT = 2


@dataclass(frozen=True, eq=False)
class Account:
    """What is known of a head alone in one form at one number of rows.

    `comparison` is with the best dense form, whose median in seconds is `dense`: both are None for a dense head, and if
    no dense head was measured. `floor` is None without ceilings.
    """

    case: MeasuredCase
    setting: Setting
    head: Head
    comparison: Comparison | None
    dense: float | None
    floor: Floor | None
    waterfall: Waterfall
    agreements: tuple[Agreement, ...]


def account(analysis: Analysis) -> list[Account]:
    """Return the account of every head alone, by setting, head, form and rows."""
    compared = {item.case: item for speedup in analysis.speedups for item in speedup.against_best}
    steps = grouped(analysis.results.steps, _key)
    return [
        _account(analysis, case, compared.get(case), steps.get(_key(case), []))
        for setting in analysis.settings
        if setting.part == "head"
        for case in analysis.cases(setting)
    ]


def by_setting(accounts: Sequence[Account]) -> list[tuple[Setting, list[Account]]]:
    """Return the accounts of each setting, in their order."""
    return list(grouped(accounts, lambda account: account.setting).items())


def by_size(accounts: Sequence[Account]) -> list[list[Account]]:
    """Return the accounts of each head at each number of rows together, in their order."""
    return list(grouped(accounts, lambda account: (account.head, account.case.record.rows)).values())


def by_interest(analysis: Analysis, accounts: Sequence[Account], *, steps_first: bool = False) -> list[Account]:
    """Return `accounts` in the order in which a reader can choose them: sparse heads, then soft, then dense ones.

    In each kind the rows nearest to the paper's batch come first, then the others, fewest rows first. At one number of
    rows the fastest comes first, and stored weights last; with `steps_first`, accounts from steps come before others.
    """
    kinds = grouped(accounts, lambda account: account.head.kind)
    nearest = {
        kind: min((each.case.record.rows for each in members), key=from_batch) for kind, members in kinds.items()
    }

    speed = by_speed(analysis.latencies)

    def rank(account: Account) -> tuple[int, bool, int, bool, tuple[bool, float]]:
        kind, rows = account.head.kind, account.case.record.rows
        later = steps_first and account.waterfall.basis != "steps"
        return (INTEREST.index(kind), rows != nearest[kind], rows, later, speed(account.case))

    return sorted(accounts, key=rank)


def as_json(analysis: Analysis) -> dict[str, Any]:
    """Return every account as JSON can hold it: times in seconds, parts in whole picoseconds."""
    return {"moegap_account": FORMAT, "cases": [_case(analysis, each) for each in account(analysis)]}


def _account(
    analysis: Analysis, case: MeasuredCase, comparison: Comparison | None, steps: list[MeasuredCase]
) -> Account:
    dense = theoretical = None
    if comparison:
        dense = analysis.latencies[comparison.base].value
        theoretical = dense / comparison.theoretical
    floor = analysis.floors.get(case)
    fall = waterfall(case, analysis.latencies[case].value, floor, steps, theoretical)
    setting, head = Setting.of(case.record), Head.of(case.record)
    return Account(case, setting, head, comparison, dense, floor, fall, tuple(agreements(fall)))


def _key(case: MeasuredCase) -> object:
    """Return what a case and its steps share."""
    record = case.record
    return (case.source, record.group_id, Setting.of(record), Head.of(record), record.form, record.rows)


def _case(analysis: Analysis, account: Account) -> dict[str, Any]:
    record, latency = account.case.record, analysis.latencies[account.case]
    fall = account.waterfall
    named = ("case_id", "checkpoint", "head", "form", "rows", "passes", "cache", "routing", "clock", "dtype", "device")
    return {
        **_fields(record, *named, "threads", "device_name", "suite", "source", "shrunk"),
        "median": {"seconds": latency.value, **_fields(latency, "low", "high", "samples")},
        "floor": _floor(account.floor) if account.floor else None,
        "speedup": _speedup(account.comparison) if account.comparison else None,
        "waterfall": {
            "basis": fall.basis,
            "picoseconds": fall.total,
            "theoretical_picoseconds": fall.theoretical,
            "parts": [_fields(part, "name", "picoseconds", "low", "high") for part in fall.parts],
            "notes": list(fall.notes),
        },
        "cross_check": [asdict(agreement) for agreement in account.agreements],
    }


def _fields(item: object, *names: str) -> dict[str, Any]:
    return {name: getattr(item, name) for name in names}


def _floor(floor: Floor) -> dict[str, Any]:
    limits = _fields(floor, "seconds", "arithmetic", "bandwidth", "launch", "limit")
    return {**limits, "bytes_per_s": floor.rate, "cache_resident": floor.cached}


def _speedup(comparison: Comparison) -> dict[str, Any]:
    return {
        "dense_form": comparison.base.record.form,
        **_fields(comparison, "matched", "theoretical", "attainable"),
        "realised": comparison.realised.value,
        **_fields(comparison.realised, "low", "high"),
        "verdict": comparison.verdict,
    }
