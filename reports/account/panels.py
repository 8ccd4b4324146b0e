"""Which waterfalls a report draws, each with the sentences it makes visible, and what all accounts say together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from reports.account import stage_bars
from reports.account import tables as account_tables
from reports.account.account import Account, account
from reports.account.cross_check import AGREE
from reports.account.figures import DATA, bars, waterfall_chart
from reports.account.order import by_interest
from reports.account.parts import FLOORS, UNATTRIBUTED
from reports.account.stage_figures import Stage
from reports.account.tables import by_setting
from reports.account.waterfall import LARGE, Waterfall
from reports.numbers import units
from reports.output import canvas
from reports.output.blocks import Chart, Choice, Panel, Table, choosing
from reports.reading.load import Case
from reports.speed.analysis import MAP_SUITE, Analysis, labels
from reports.speed.panels import is_drawn, panel
from reports.speed.tables import resident


@dataclass(frozen=True)
class AccountSection:
    """What both templates show of the accounts; `losses` says where the time of cases goes, `ceilings` may be None."""

    sentences: list[str]
    losses: dict[Case, str]
    panels: list[Panel]
    stages: list[Panel]
    stage_legend: list[Stage]
    waterfalls: list[Table]
    checks: list[Table]
    ceilings: Table | None


def section(analysis: Analysis) -> AccountSection | None:
    """Return the accounts of heads alone, or None without any; those of a map of break-even stand in that map."""
    accounts = [found for found in account(analysis) if found.setting.suite != MAP_SUITE]
    if not accounts:
        return None
    split = {found.setting for found in accounts if found.waterfall.basis != "floors"}
    told = [found for found in accounts if found.setting in split]
    stages = stage_bars.panels(analysis, told)
    return AccountSection(
        sentences=sentences(analysis, accounts),
        losses=losses(told),
        panels=panels(analysis, told),
        stages=stages,
        stage_legend=stage_bars.shown(stages),
        waterfalls=account_tables.waterfalls(analysis, told),
        checks=account_tables.checks(analysis, accounts),
        ceilings=account_tables.ceilings(analysis.results.ceilings),
    )


def panels(analysis: Analysis, accounts: Sequence[Account]) -> list[Panel]:
    """Return the waterfalls of all cases that something splits: one panel for each setting seen by the wall clock.

    Settings of cold caches and of made routings have none.
    """
    split = [found for found in accounts if found.waterfall.basis != "floors"]
    return [panel(setting, [_chart(analysis, own)]) for setting, own in by_setting(split) if is_drawn(setting)]


def sentences(analysis: Analysis, accounts: Sequence[Account]) -> list[str]:
    """Return what all accounts say together, and what they lack."""
    return [*_on_floors(analysis, accounts), *_on_parts(accounts), *_on_checks(accounts)]


def _on_floors(analysis: Analysis, accounts: Sequence[Account]) -> Iterator[str]:
    lacking = sum(account.floor is None for account in accounts)
    if not analysis.results.ceilings:
        yield "No ceilings were measured with these results, so nothing has a floor and nothing attainable is known."
    elif lacking:
        whole = units.plural(lacking, "case")
        yield f"{whole} without a floor: no ceilings fit the machine, threads and dtype, or bytes were not counted."


def _on_parts(accounts: Sequence[Account]) -> Iterator[str]:
    split = [account.waterfall for account in accounts if account.waterfall.basis == "steps"]
    small = sum(abs(found.unattributed) < LARGE for found in split)
    if split:
        whole, rest = units.plural(len(split), "case"), "; the others say why" if small < len(split) else ""
        yield f"Of {whole} measured in steps {units.count(small)} leave less than a tenth unattributed{rest}."
        yield (
            "The last step of a form is the call itself once more, so little unattributed says only that steps and "
            "call were sampled alike; the independent check of the parts between them is the trace."
        )
    else:
        yield "No case was measured in steps: parts come from traces; without one all beyond floors is unattributed."


def _on_checks(accounts: Sequence[Account]) -> Iterator[str]:
    checked = [found for account in accounts for found in account.agreements]
    agree = units.count(sum(not found.reason for found in checked))
    alike = units.count(sum(found.ratio is not None and abs(found.ratio - 1) <= AGREE for found in checked))
    if checked:
        whole = units.plural(len(checked), "stage")
        yield (
            f"Of {whole} measured by steps and by trace {agree} agree within a tenth of the call, which is the "
            f"criterion, and {alike} within a tenth of the stage itself."
        )


def message(analysis: Analysis, account: Account) -> str:
    """Return what the waterfall of a case shows: its time, the promise, the floor, the largest parts, what is left."""
    record, found = account.case.record, account.waterfall
    head = f"{analysis.labels[account.head]} in the form {record.form}"
    told = [f"At {units.plural(record.rows, 'row')} the {head} takes {units.signed_picoseconds(found.total)}"]
    if found.promised is not None:
        told.append(f"if the promise held it would take {units.signed_picoseconds(found.promised)}")
    if account.floor is not None:
        limit = f"{account.floor.limit}, {resident(account.floor)}"
        told.append(f"the machine needs {units.seconds(account.floor.seconds)} at least ({limit})")
    if largest := _largest(found):
        told.append(f"most of what comes on top is {units.listing(largest)}")
    told.append(f"{_share(found.parts[-1].picoseconds, found.total)} is unattributed")
    return " ".join([f"{'; '.join(told)}.", *found.notes])


def losses(accounts: Sequence[Account]) -> dict[Case, str]:
    """Return for each case of an MoE head where most of its time goes, in a sentence.

    That is told by the fastest form of the head at as many rows that something splits, which the sentence names.
    """
    told = {}
    for _, own in by_setting(accounts):
        mixtures = [found for found in own if found.head.kind != "dense"]
        split = [found for found in mixtures if found.waterfall.basis not in ("floors", "graph")]
        split.sort(key=lambda found: found.waterfall.total)
        for one in own:
            size = (one.head, one.case.record.rows)
            kin = [found for found in split if (found.head, found.case.record.rows) == size]
            chosen = one if one in kin else next(iter(kin), None)
            if chosen:
                told[one.case] = _loss(chosen)
    return told


def _loss(account: Account) -> str:
    record, found = account.case.record, account.waterfall
    least = f", of which the floors need {units.seconds(account.floor.seconds)}" if account.floor else ""
    most = f"; most of the rest is {units.listing(_largest(found))}" if _largest(found) else ""
    time = units.signed_picoseconds(found.total)
    return f"At {units.plural(record.rows, 'row')} {record.form} takes {time}{least}{most}."


def _largest(found: Waterfall) -> list[str]:
    """Return the two parts that take most beyond the floors, with their times and shares."""
    beyond = [part for part in found.parts if part.name not in (*FLOORS, UNATTRIBUTED) and part.picoseconds > 0]
    largest = sorted(beyond, key=lambda part: -part.picoseconds)[:2]
    return [f"{part.name}, {_share(part.picoseconds, found.total)}" for part in largest]


def _chart(analysis: Analysis, accounts: Sequence[Account]) -> Chart:
    """Return a chart of any of the `accounts` of a setting."""
    names = labels(found.head for found in accounts)
    order = by_interest(analysis, accounts, steps_first=True)
    choices = [_choice(analysis, names[found.head], found) for found in order]
    most = max(len(choice.data[DATA]) for choice in choices)
    return choosing("Gap waterfall of one case", canvas.spec(waterfall_chart(most)), choices)


def _choice(analysis: Analysis, head: str, account: Account) -> Choice:
    """Return the account of a case whose `head` is called so among those to choose from."""
    record, comparison = account.case.record, account.comparison
    dense = analysis.latencies[comparison.base].value if comparison else None
    label = f"{head}, {record.form}, {units.plural(record.rows, 'row')}"
    return Choice(label, {DATA: bars(account.waterfall, dense)}, message(analysis, account))


def _share(picoseconds: int, total: int) -> str:
    return f"{units.signed_picoseconds(picoseconds)} ({units.signed_percent(picoseconds / max(total, 1))})"
