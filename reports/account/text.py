"""The account for a terminal: a line for each head and number of rows, and every waterfall, forms side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from reports.account.account import Account, account, by_setting
from reports.numbers import units
from reports.speed.analysis import Analysis, Comparison
from reports.speed.settings import caption, resident

THEORETICAL, SUM, DENSE, BASIS = "in theory", "sum, the measured median", "best dense form", "parts by"
MARGIN = 2


def speedups(analysis: Analysis) -> Iterator[str]:
    """Yield the three speed-ups of each MoE head and number of rows, setting by setting."""
    for setting, own in by_setting([found for found in account(analysis) if found.comparison]):
        yield caption(setting)
        yield from (f"{' ' * MARGIN}{_speedups(analysis, group)}" for group in _by_head(own))


def waterfalls(analysis: Analysis) -> Iterator[str]:
    """Yield the account of each MoE head and number of rows, line by line, the forms of one side by side."""
    for setting, own in by_setting([found for found in account(analysis) if found.comparison]):
        yield caption(setting)
        for group in _by_head(own):
            yield ""
            yield from _group(analysis, group)
        yield ""


def _by_head(accounts: Iterable[Account]) -> list[list[Account]]:
    """Return the accounts of each head and number of rows together."""
    groups: dict[object, list[Account]] = {}
    for found in accounts:
        groups.setdefault((found.head, found.case.record.rows), []).append(found)
    return list(groups.values())


def _best(analysis: Analysis, accounts: Sequence[Account]) -> tuple[Account, Comparison]:
    """Return the account of the fastest form, and how it compares."""
    best = min(accounts, key=lambda found: analysis.latencies[found.case].value)
    assert best.comparison is not None
    return best, best.comparison


def _group(analysis: Analysis, accounts: Sequence[Account]) -> Iterator[str]:
    """Yield the speed-ups of one head at one number of rows, and the waterfalls of its forms."""
    yield _speedups(analysis, accounts)
    if all(found.waterfall.basis == "floors" for found in accounts):
        yield f"{' ' * MARGIN}No form was measured in steps or traced here, so all beyond floors is unattributed."
        return
    yield from _columns(_table(analysis, accounts, _best(analysis, accounts)[1]))
    for found in accounts:
        yield from (f"{' ' * MARGIN}{found.case.record.form}: {note}" for note in found.waterfall.notes)


def _speedups(analysis: Analysis, accounts: Sequence[Account]) -> str:
    best, comparison = _best(analysis, accounts)
    told = [f"theoretical {units.factor(comparison.theoretical)}"]
    if comparison.attainable is not None and best.floor is not None:
        told.append(f"attainable {units.factor(comparison.attainable)} ({best.floor.limit}, {resident(best.floor)})")
    interval = units.factor_interval(comparison.realised)
    told.append(f"realised {units.factor(comparison.realised.value)} ({interval}), {comparison.verdict}")
    forms = f"{best.case.record.form} against {comparison.base.record.form} dense"
    rows = units.plural(best.case.record.rows, "row")
    return f"{analysis.labels[best.head]}, {rows}: {', '.join(told)}, {forms}"


def _table(analysis: Analysis, accounts: Sequence[Account], comparison: Comparison) -> list[list[str]]:
    """Return the rows of a table with a column for each form, all times in the one unit that heads the first column."""
    least = min(found.waterfall.total for found in accounts)
    names = sorted({(part.place, part.name) for found in accounts for part in found.waterfall.parts})
    dense = round(analysis.latencies[comparison.base].value * 1e12)
    columns = []
    for found in accounts:
        fall = found.waterfall
        whole, shown, unit = units.seconds_adding_up(fall.total, [part.picoseconds for part in fall.parts], least)
        decimals = len(whole.partition(".")[2])
        cells = {part.name: text for part, text in zip(fall.parts, shown, strict=True)}
        theoretical = "" if fall.theoretical is None else units.seconds_in(fall.theoretical, unit, decimals)
        ends = [whole, units.seconds_in(dense, unit, decimals), fall.basis]
        columns.append([found.case.record.form, theoretical, *(cells.get(name, "") for _, name in names), *ends])
    headings = [unit, THEORETICAL, *(name for _, name in names), SUM, DENSE, BASIS]
    return [list(row) for row in zip(headings, *columns, strict=True)]


def _columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the rows with their cells below one another, the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *rest in rows:
        cells = [text.rjust(width + MARGIN) for text, width in zip(rest, widths[1:], strict=True)]
        yield f"{' ' * MARGIN}{first.ljust(widths[0])}{''.join(cells)}"
