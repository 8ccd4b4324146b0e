"""The tables of the account: where the time of each case went, by both methods, and the ceilings of the machine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from reports.account.account import Account, by_setting
from reports.account.cross_check import Agreement
from reports.account.waterfall import shown
from reports.numbers import units
from reports.output.blocks import Column, Table, numeric, without_blanks, worded
from reports.records.record import Ceilings
from reports.speed import settings, verdicts
from reports.speed.analysis import KINDS, MAP_SUITE, Analysis, Setting, Speedup
from reports.speed.settings import CASE, identity, name, resident

_STAGE_NAMES = {"route": "gate and top-k", "experts": "expert products"}


def speedups(analysis: Analysis) -> list[Table]:
    """Return, for each setting, the theoretical, attainable and best realised speed-up of each MoE head, by rows.

    The heads of a break-even map are not among them: the map shows them.
    """
    columns = (
        *worded("head"),
        *numeric("rows", "theoretical", "attainable"),
        *worded("limited by"),
        *numeric("least bytes", "realised", units.INTERVAL),
        *worded("verdict", "form", "dense form"),
        *numeric("n"),
    )
    groups = {
        (speedup.setting, speedup.head): None for speedup in analysis.speedups if speedup.setting.suite != MAP_SUITE
    }
    order = sorted(groups, key=lambda group: (group[0].rank(), KINDS.index(group[1].kind), analysis.labels[group[1]]))
    rows: dict[Setting, list[tuple[str, ...]]] = {}
    for setting, head in order:
        rows.setdefault(setting, []).extend(_speedup_row(analysis, speedup) for speedup in analysis.of(setting, head))
    return [without_blanks(table) for table in settings.tables(columns, rows)]


def waterfalls(analysis: Analysis, accounts: Sequence[Account]) -> list[Table]:
    """Return one table for each setting: the parts of each case side by side, which add up as they are shown."""
    return [_waterfalls(analysis, setting, group) for setting, group in by_setting(accounts)]


def checks(analysis: Analysis, accounts: Sequence[Account]) -> list[Table]:
    """Return, for each setting, the seconds of stages by steps and by trace, for cases that have both."""
    columns = (
        *CASE,
        *worded("stage"),
        *numeric("by steps", "by trace", "trace − steps, of the call", "trace / steps"),
        *worded("agree", "why not"),
    )
    rows = {
        setting: [_check_row(analysis, account, each) for account in group for each in account.agreements]
        for setting, group in by_setting(accounts)
    }
    return [without_blanks(table) for table in settings.tables(columns, rows)]


def ceilings(measured: Iterable[Ceilings]) -> Table | None:
    """Return what each machine can do in each dtype, the latest first; None if no ceilings were measured."""
    order = sorted(measured, key=lambda each: each.moment, reverse=True)
    rows = tuple(dict.fromkeys(map(_ceiling_row, order)))
    return without_blanks(Table("Ceilings", _CEILINGS, rows)) if rows else None


_CEILINGS = (
    *worded("device", "dtype", "threads"),
    *numeric("GFLOP/s"),
    *worded("of the product"),
    *numeric("launch", "operator", "waking threads", "graph replay", "n"),
    *worded("measured", "copies, GB/s by working set"),
)


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
        ", ".join([units.factor_interval(best.realised), *verdicts.weaknesses(best)]),
        best.verdict,
        best.case.record.form,
        best.base.record.form,
        units.count(best.realised.samples),
    )


def _waterfalls(analysis: Analysis, setting: Setting, accounts: Sequence[Account]) -> Table:
    places = {part.name: part.place for account in accounts for part in account.waterfall.parts}
    names = sorted(places, key=lambda part: (places[part], part))
    columns = (
        *CASE,
        *worded("measured by", "unit"),
        *numeric("theoretical", "call"),
        *(Column(part) for part in names),
        *worded("notes"),
    )
    rows = tuple(_waterfall_row(analysis, account, names) for account in accounts)
    return without_blanks(Table(settings.caption(setting), columns, rows))


def _waterfall_row(analysis: Analysis, account: Account, names: Sequence[str]) -> tuple[str, ...]:
    texts = shown(account.waterfall)
    return (
        *identity(analysis, account.case),
        account.waterfall.basis,
        texts.unit,
        texts.theoretical,
        texts.call,
        *(texts.parts.get(part, "") for part in names),
        " ".join(account.waterfall.notes),
    )


def _check_row(analysis: Analysis, account: Account, agreement: Agreement) -> tuple[str, ...]:
    return (
        *identity(analysis, account.case),
        units.listing([_STAGE_NAMES.get(stage, stage) for stage in agreement.stages]),
        units.seconds(agreement.steps),
        units.seconds(agreement.traced),
        units.signed_percent(agreement.share),
        "" if agreement.ratio is None else units.factor(agreement.ratio),
        "no" if agreement.reason else "yes",
        agreement.reason,
    )


def _ceiling_row(ceilings: Ceilings) -> tuple[str, ...]:
    copies = [f"{units.megabytes(copy.working_set)}: {units.billions(copy.bytes_per_s)}" for copy in ceilings.copies]
    return (
        ceilings.device_name,
        ceilings.dtype,
        f"{ceilings.threads} {ceilings.thread_wait.lower()}".strip(),
        units.billions(ceilings.flops_per_s),
        ceilings.product,
        units.seconds(ceilings.launch),
        units.seconds(ceilings.operator),
        "" if ceilings.parallel is None else units.seconds(ceilings.parallel),
        "" if ceilings.graph_replay is None else units.seconds(ceilings.graph_replay),
        units.count(ceilings.samples),
        units.moment(ceilings.moment),
        ", ".join(copies),
    )
