"""The tables of the account: where the time of each case went, by either method, and the ceilings of the machine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from reports.account.account import Account, by_setting
from reports.account.cross_check import Agreement
from reports.numbers import units
from reports.output.blocks import Column, Table, numeric, without_blanks, worded
from reports.reading.validated import moment
from reports.records.record import Ceilings
from reports.speed.analysis import KINDS, MAP_SUITE, Analysis, Comparison, Setting, Speedup
from reports.speed.settings import caption, name, resident

_STAGE_NAMES = {"route": "gate and top-k", "experts": "expert products"}


def speedups(analysis: Analysis) -> list[Table]:
    """Return, for each setting, the theoretical, attainable and best realised speed-up of each MoE head, by rows.

    The heads of a map of break-even stand in that map.
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
        rows.setdefault(setting, []).extend(_speedup_row(analysis, found) for found in analysis.of(setting, head))
    return [without_blanks(Table(caption(setting), columns, tuple(found))) for setting, found in rows.items()]


def waterfalls(analysis: Analysis, accounts: Sequence[Account]) -> list[Table]:
    """Return one table for each setting: the parts of each case side by side, which add up as they are shown."""
    return [_waterfalls(analysis, setting, own) for setting, own in by_setting(accounts)]


def checks(analysis: Analysis, accounts: Sequence[Account]) -> list[Table]:
    """Return, for each setting, the seconds of stages by steps and by trace, where cases have both."""
    columns = (
        *_CASE,
        *worded("stage"),
        *numeric("by steps", "by trace", "trace − steps, of the call", "trace / steps"),
        *worded("agree", "why not"),
    )
    tables = []
    for setting, own in by_setting(accounts):
        rows = [_check_row(analysis, account, found) for account in own for found in account.agreements]
        if rows:
            tables.append(without_blanks(Table(caption(setting), columns, tuple(rows))))
    return tables


def ceilings(measured: Iterable[Ceilings]) -> Table | None:
    """Return what each machine can do in each dtype, the latest first, or None where nothing was measured."""
    order = sorted(measured, key=lambda found: moment(found.measured_at), reverse=True)
    rows = tuple(dict.fromkeys(_ceiling_row(found) for found in order))
    return without_blanks(Table("Ceilings", _CEILINGS, rows)) if rows else None


_CASE = (*worded("head", "form"), *numeric("rows"))
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
        _interval(best),
        best.verdict,
        best.case.record.form,
        best.base.record.form,
        units.count(best.realised.samples),
    )


def _interval(comparison: Comparison) -> str:
    notes = [] if comparison.realised.paired else ["unpaired"]
    notes += [] if comparison.matched else ["unmatched"]
    return ", ".join([units.factor_interval(comparison.realised), *notes])


def _waterfalls(analysis: Analysis, setting: Setting, accounts: Sequence[Account]) -> Table:
    places = {part.name: part.place for account in accounts for part in account.waterfall.parts}
    names = sorted(places, key=lambda part: (places[part], part))
    columns = (
        *_CASE,
        *worded("measured by", "unit"),
        *numeric("theoretical", "call"),
        *(Column(part) for part in names),
        *worded("notes"),
    )
    rows = tuple(_waterfall_row(analysis, account, names) for account in accounts)
    return without_blanks(Table(caption(setting), columns, rows))


def _waterfall_row(analysis: Analysis, account: Account, names: Sequence[str]) -> tuple[str, ...]:
    found = account.waterfall
    whole, shown, unit = units.seconds_adding_up(found.total, [part.picoseconds for part in found.parts])
    cells = {part.name: text for part, text in zip(found.parts, shown, strict=True)}
    return (
        *_case(analysis, account),
        found.basis,
        unit,
        ""
        if found.theoretical is None
        else units.seconds_in(found.theoretical, unit, decimals=len(whole.partition(".")[2])),
        whole,
        *(cells.get(part, "") for part in names),
        " ".join(found.notes),
    )


def _check_row(analysis: Analysis, account: Account, found: Agreement) -> tuple[str, ...]:
    return (
        *_case(analysis, account),
        units.listing([_STAGE_NAMES.get(stage, stage) for stage in found.stages]),
        units.seconds(found.steps),
        units.seconds(found.traced),
        units.signed_percent(found.share),
        "" if found.ratio is None else units.factor(found.ratio),
        "no" if found.reason else "yes",
        found.reason,
    )


def _case(analysis: Analysis, account: Account) -> tuple[str, str, str]:
    record = account.case.record
    return (name(analysis, account.head), record.form, units.count(record.rows))


def _ceiling_row(found: Ceilings) -> tuple[str, ...]:
    copies = [f"{units.megabytes(copy.working_set)}: {units.billions(copy.bytes_per_s)}" for copy in found.copies]
    return (
        found.device_name,
        found.dtype,
        f"{found.threads} {found.thread_wait.lower()}".strip(),
        units.billions(found.flops_per_s),
        found.product,
        units.seconds(found.launch),
        units.seconds(found.operator),
        "" if found.parallel is None else units.seconds(found.parallel),
        "" if found.graph_replay is None else units.seconds(found.graph_replay),
        units.count(found.samples),
        units.moment(moment(found.measured_at)),
        ", ".join(copies),
    )
