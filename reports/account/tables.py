"""The tables of the account: where the time of each case went, by both methods, and the ceilings of the machine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from reports.account.account import Account, by_setting
from reports.account.cross_check import Agreement
from reports.account.waterfall import shown
from reports.numbers import units
from reports.output.blocks import Table, without_blanks
from reports.output.tables import Field, number, tabulated, word
from reports.records.record import Ceilings
from reports.speed import settings, verdicts
from reports.speed.analysis import KINDS, MAP_SUITE, Analysis, Setting, Speedup
from reports.speed.floors import Floor
from reports.speed.settings import identity, name, resident

_STAGE_NAMES = {"route": "gate and top-k", "experts": "expert products"}


def speedups(analysis: Analysis) -> list[Table]:
    """Return, for each setting, the theoretical, attainable and best realised speed-up of each MoE head, by rows.

    The heads of a break-even map are not among them: the map shows them.
    """

    def floor(speedup: Speedup) -> Floor | None:
        return analysis.floors.get(speedup.best.case)

    def least_bytes(speedup: Speedup) -> str:
        known, size = floor(speedup), speedup.best.case.record.least_bytes or 0
        return f"{units.megabytes(size)}, {resident(known)}" if known else ""

    def interval(speedup: Speedup) -> str:
        return ", ".join([units.factor_interval(speedup.best.realised), *verdicts.weaknesses(speedup.best)])

    fields: list[Field[Speedup]] = [
        word("head", lambda speedup: name(analysis, speedup.head)),
        number("rows", lambda speedup: units.count(speedup.rows)),
        number("theoretical", lambda speedup: units.factor(speedup.best.theoretical)),
        number("attainable", lambda speedup: units.known(speedup.best.attainable, units.factor)),
        word("limited by", lambda speedup: units.known(floor(speedup), lambda known: known.limit)),
        number("least bytes", least_bytes),
        number("realised", lambda speedup: units.factor(speedup.best.realised.value)),
        number(units.INTERVAL, interval),
        word("verdict", lambda speedup: speedup.best.verdict),
        word("form", lambda speedup: speedup.best.case.record.form),
        word("dense form", lambda speedup: speedup.best.base.record.form),
        number("n", lambda speedup: units.count(speedup.best.realised.samples)),
    ]
    groups = {
        (speedup.setting, speedup.head): None for speedup in analysis.speedups if speedup.setting.suite != MAP_SUITE
    }
    order = sorted(groups, key=lambda group: (group[0].rank(), KINDS.index(group[1].kind), analysis.labels[group[1]]))
    items: dict[Setting, list[Speedup]] = {}
    for setting, head in order:
        items.setdefault(setting, []).extend(analysis.of(setting, head))
    return [without_blanks(table) for table in settings.tables(fields, items)]


def waterfalls(analysis: Analysis, accounts: Sequence[Account]) -> list[Table]:
    """Return one table for each setting: the parts of each case side by side, which add up as they are shown."""
    return [_waterfalls(analysis, setting, group) for setting, group in by_setting(accounts)]


def _waterfalls(analysis: Analysis, setting: Setting, accounts: Sequence[Account]) -> Table:
    places = {part.name: part.place for account in accounts for part in account.waterfall.parts}
    names = sorted(places, key=lambda part: (places[part], part))
    texts = {account: shown(account.waterfall) for account in accounts}

    def part(name: str) -> Field[Account]:
        return number(name, lambda account: texts[account].parts.get(name, ""))

    fields: list[Field[Account]] = [
        *identity(analysis, lambda account: account.case),
        word("measured by", lambda account: account.waterfall.basis),
        word("unit", lambda account: texts[account].unit),
        number("theoretical", lambda account: texts[account].theoretical),
        number("call", lambda account: texts[account].call),
        *map(part, names),
        word("notes", lambda account: " ".join(account.waterfall.notes)),
    ]
    return without_blanks(tabulated(settings.caption(setting), fields, accounts))


def checks(analysis: Analysis, accounts: Sequence[Account]) -> list[Table]:
    """Return, for each setting, the seconds of stages by steps and by trace, for cases that have both."""
    fields: list[Field[tuple[Account, Agreement]]] = [
        *identity(analysis, lambda check: check[0].case),
        word("stage", lambda check: units.listing(stages(check[1]))),
        number("by steps", lambda check: units.seconds(check[1].steps)),
        number("by trace", lambda check: units.seconds(check[1].traced)),
        number("trace − steps, of the call", lambda check: units.signed_percent(check[1].share)),
        number("trace / steps", lambda check: units.known(check[1].ratio, units.factor)),
        word("agree", lambda check: "no" if check[1].reason else "yes"),
        word("why not", lambda check: check[1].reason),
    ]
    items = {
        setting: [(account, agreement) for account in group for agreement in account.agreements]
        for setting, group in by_setting(accounts)
    }
    return [without_blanks(table) for table in settings.tables(fields, items)]


def stages(agreement: Agreement) -> list[str]:
    """Return the stages of an agreement in words."""
    return [_STAGE_NAMES.get(stage, stage) for stage in agreement.stages]


def ceilings(measured: Iterable[Ceilings]) -> Table | None:
    """Return what each machine can do in each dtype, the latest first; None if no ceilings were measured."""
    order = sorted(measured, key=lambda each: each.moment, reverse=True)
    table = tabulated("Ceilings", _CEILINGS, order)
    return without_blanks(replace(table, rows=tuple(dict.fromkeys(table.rows)))) if order else None


def _copies(ceilings: Ceilings) -> str:
    rates = [f"{units.megabytes(copy.working_set)}: {units.billions(copy.bytes_per_s)}" for copy in ceilings.copies]
    return ", ".join(rates)


_CEILINGS: list[Field[Ceilings]] = [
    word("device", lambda each: each.device_name),
    word("dtype", lambda each: each.dtype),
    word("threads", lambda each: f"{each.threads} {each.thread_wait.lower()}".strip()),
    number("GFLOP/s", lambda each: units.billions(each.flops_per_s)),
    word("of the product", lambda each: each.product),
    number("launch", lambda each: units.seconds(each.launch)),
    number("operator", lambda each: units.seconds(each.operator)),
    number("waking threads", lambda each: units.known(each.parallel, units.seconds)),
    number("graph replay", lambda each: units.known(each.graph_replay, units.seconds)),
    number("n", lambda each: units.count(each.samples)),
    word("measured", lambda each: units.moment(each.moment)),
    word("copies, GB/s by working set", _copies),
    number("reading, GB/s", lambda each: units.known(each.read, units.billions)),
]
