"""The account of the gap: for each case what was promised, what its machine could give, what arrived, where it went."""

from __future__ import annotations

from dataclasses import dataclass

from reports.compare import Analysis, Comparison, Head, Setting
from reports.cross_check import Agreement, agreements
from reports.floors import Floor
from reports.load import Case
from reports.waterfall import Waterfall, waterfall


@dataclass(frozen=True)
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


def _account(analysis: Analysis, case: Case, comparison: Comparison | None, steps: list[Case]) -> Account:
    promised = analysis.latencies[comparison.base].value / comparison.theoretical if comparison else None
    found = waterfall(case, analysis.latencies[case].value, analysis.floors.get(case), steps, promised)
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
