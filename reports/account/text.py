"""The account for a terminal: a line for each head and number of rows, and all waterfalls with forms side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reports.account.account import Account, account, by_setting, by_size
from reports.account.waterfall import shown
from reports.numbers import units
from reports.speed.alarm import alarm
from reports.speed.analysis import Analysis, by_speed
from reports.speed.settings import caption, resident

THEORETICAL, SUM, DENSE, BASIS = "in theory", "sum, the measured median", "best dense form", "parts by"
MARGIN = 2


def speedups(analysis: Analysis) -> Iterator[str]:
    """Yield the three speed-ups of each MoE head and number of rows, setting by setting, and the alarm if there is one.

    See `reports.speed.alarm`.
    """
    for setting, group in by_setting([each for each in account(analysis) if each.comparison]):
        yield caption(setting)
        yield from (f"{' ' * MARGIN}{_speedups(analysis, same_head)}" for same_head in by_size(group))
    yield from alarm(analysis)


def waterfalls(analysis: Analysis) -> Iterator[str]:
    """Yield the account of each MoE head and number of rows, line by line, with its forms side by side."""
    for setting, group in by_setting([each for each in account(analysis) if each.comparison]):
        yield caption(setting)
        for same_head in by_size(group):
            yield ""
            yield from _group(analysis, same_head)
        yield ""
    yield from alarm(analysis)


def _group(analysis: Analysis, accounts: Sequence[Account]) -> Iterator[str]:
    """Yield the speed-ups of one head at one number of rows, and the waterfalls of its forms."""
    yield _speedups(analysis, accounts)
    if all(each.waterfall.basis == "floors" for each in accounts):
        yield f"{' ' * MARGIN}No form was measured in steps or traced here, so all beyond floors is unattributed."
        return
    yield from _columns(_table(accounts))
    for each in accounts:
        yield from (f"{' ' * MARGIN}{each.case.record.form}: {note}" for note in each.waterfall.notes)


def _speedups(analysis: Analysis, accounts: Sequence[Account]) -> str:
    speed = by_speed(analysis.latencies)
    best = min(accounts, key=lambda each: speed(each.case))
    comparison = best.comparison
    assert comparison is not None
    ratios = [f"theoretical {units.factor(comparison.theoretical)}"]
    if comparison.attainable is not None and best.floor is not None:
        ratios.append(f"attainable {units.factor(comparison.attainable)} ({best.floor.limit}, {resident(best.floor)})")
    interval = units.factor_interval(comparison.realised)
    ratios.append(f"realised {units.factor(comparison.realised.value)} ({interval}), {comparison.verdict}")
    forms = f"{best.case.record.form} against {comparison.base.record.form} dense"
    rows = units.plural(best.case.record.rows, "row")
    return f"{analysis.labels[best.head]}, {rows}: {', '.join(ratios)}, {forms}"


def _table(accounts: Sequence[Account]) -> list[list[str]]:
    """Return the rows of a table with a column for each form, all times in the unit that heads the first column."""
    least = min(each.waterfall.total for each in accounts)
    placed = sorted({(part.place, part.name) for each in accounts for part in each.waterfall.parts})
    names = [name for _, name in placed]
    columns = []
    for each in accounts:
        texts = shown(each.waterfall, each.dense, unit_of=least)
        parts = [texts.theoretical, *(texts.parts.get(name, "") for name in names)]
        columns.append([each.case.record.form, *parts, texts.call, texts.dense, each.waterfall.basis])
    return [list(row) for row in zip([texts.unit, THEORETICAL, *names, SUM, DENSE, BASIS], *columns, strict=True)]


def _columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the rows with their cells in line, the first aligned left, the others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *rest in rows:
        cells = [text.rjust(width + MARGIN) for text, width in zip(rest, widths[1:], strict=True)]
        yield f"{' ' * MARGIN}{first.ljust(widths[0])}{''.join(cells)}"
