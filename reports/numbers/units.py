"""Numbers as a reader wants them: few digits, a unit, one way everywhere."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from math import floor, log10
from typing import TypeVar

from reports.numbers.seeds import Spread
from reports.numbers.stats import CONFIDENCE, Estimate
from reports.records.fields import moment as parsed

TIMES = "\N{MULTIPLICATION SIGN}"
MINUS = "\N{MINUS SIGN}"
INTERVAL = f"{100 * CONFIDENCE:g} % interval"
"""Of a median or a ratio of medians, as texts call it."""
LEAST, MOST = 1e-6, 1e15
"""Between these, numbers are written without a power of ten."""
_Value = TypeVar("_Value")
_UNITS = (("s", 10**12), ("ms", 10**9), ("µs", 10**6))  # in picoseconds


def count(value: int) -> str:
    """Return a whole number with thousands separated."""
    return f"{value:,}"


def rate(value: float) -> str:
    """Return how many per second: three digits, thousands separated."""
    return _rounded(float(f"{value:.3g}"), 3)


def factor(value: float) -> str:
    """Return a ratio with its sign, such as 1.92x."""
    return f"{ratio(value)}{TIMES}"


def ratio(value: float) -> str:
    """Return a ratio: two decimals or three digits, whichever is shorter, and at least two digits."""
    if value < 0.1:
        return _rounded(value, 2)
    return f"{value:.2f}" if value < 9.995 else _rounded(value, 3)


def factor_interval(estimate: Estimate) -> str:
    """Return the interval of a ratio, such as 1.85 to 2.00, or why there is none."""
    if estimate.low is None or estimate.high is None:
        return f"no interval from {plural(estimate.blocks, 'block')}"
    return f"{ratio(estimate.low)} to {ratio(estimate.high)}"


def seconds(value: float) -> str:
    """Return a duration to three digits in the unit that suits it, µs to s."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if value >= size * 0.9995:
            return f"{_rounded(value / size, 3)} {unit}"
    return f"{_rounded(value / 1e-6, 3)} µs"


def microseconds(value: float) -> str:
    """Return a duration in µs to three digits or to the whole one, without the unit, for a column of them."""
    return _rounded(value * 1e6, 3)


def signed_picoseconds(value: int) -> str:
    """Return whole picoseconds, which may be below zero, as a duration to three digits."""
    return f"{MINUS if value < 0 else ''}{seconds(abs(value * 1e-12))}"


def seconds_adding_up(total: int, shares: Sequence[int], like: int | None = None) -> tuple[str, list[str], str]:
    """Return `total` and its `shares`, all in picoseconds, in one unit and rounded so that the shown numbers add up.

    The total has four digits, or as many decimals as the time `like` would have. Shares are rounded down, and those
    that lost most are raised by one in the last place until they sum up (the method of largest remainders), so each is
    off by less than one in the last place. The unit comes last. Raises `ValueError` if the shares do not sum to the
    total.
    """
    if sum(shares) != total:
        raise ValueError(f"shares of {sum(shares)} ps do not sum to {total} ps: nothing may be lost.")
    scale = abs(total if like is None else like)
    unit, size = next(((unit, size) for unit, size in _UNITS if scale >= size), _UNITS[-1])
    decimals = max(0, 3 - floor(log10(max(scale, size) / size)))
    step = size // 10**decimals
    places = [share // step for share in shares]
    lost = sorted(range(len(shares)), key=lambda place: -(shares[place] % step))
    for place in lost[: round(total / step) - sum(places)]:
        places[place] += 1
    whole, *shown = (_places(value, decimals) for value in (round(total / step), *places))
    return whole, shown, unit


def seconds_in(picoseconds: int, unit: str, decimals: int) -> str:
    """Return a duration in s, ms or µs with `decimals`, without the unit."""
    size: int = dict(_UNITS)[unit] // 10**decimals
    return _places(round(picoseconds / size), decimals)


def seconds_interval(median: Estimate) -> str:
    """Return the interval of a median duration, or "" if it has none."""
    if median.low is None or median.high is None:
        return ""
    low, high = seconds(median.low).split(), seconds(median.high).split()
    return " ".join([*(low[:1] if low[1] == high[1] else low), "to", *high])


def megabytes(value: float) -> str:
    """Return a number of bytes in MB, a million bytes."""
    return f"{_rounded(value / 1e6, 3)} MB"


def millions(value: float) -> str:
    """Return a number in millions, without the word."""
    return _rounded(value / 1e6, 3)


def billions(value: float) -> str:
    """Return a number in thousands of millions, without the word."""
    return _rounded(value / 1e9, 3)


def percent(share: float) -> str:
    """Return a share as a percentage."""
    return f"{100 * share:.1f} %" if abs(share) < MOST else f"{quantity(100 * share)} %"


def signed_percent(share: float) -> str:
    """Return a share that may be below zero as a percentage."""
    return percent(share).replace("-", MINUS)


def percent_interval(share: Estimate) -> str:
    """Return the interval of a share, such as 1.9 to 2.1 %, or why there is none."""
    if share.low is None or share.high is None:
        return factor_interval(share)
    return f"{percent(share.low).removesuffix(' %')} to {percent(share.high)}"


def points(share: float) -> str:
    """Return a difference of shares in percentage points, with its sign."""
    return f"{100 * share:+.2f}".replace("-", MINUS)


def percent_spread(shares: Spread | None) -> str:
    """Return the mean of shares as a percentage with its standard deviation, such as 88.16 ± 0.21 %."""
    if shares is None:
        return ""
    return f"{100 * shares.mean:.2f}{'' if shares.sd is None else f' ± {100 * shares.sd:.2f}'} %"


def spread(values: Spread | None) -> str:
    """Return a mean with its standard deviation, such as 2.03 ± 0.04."""
    if values is None:
        return ""
    mean = quantity(values.mean)
    if values.sd is None:
        return mean
    if "e" in mean:
        return f"{mean} ± {quantity(values.sd, 2)}"
    return f"{mean} ± {values.sd:,.{len(mean.partition('.')[2])}f}"


def quantity(value: float | None, digits: int = 3) -> str:
    """Return a number of any size and sign to three digits, or "" for None."""
    if value is None:
        return ""
    size = abs(value)
    text = _rounded(size, digits) if size == 0 or 1e-3 <= size < 1e6 else _with_power(size, digits)
    return f"{MINUS}{text}" if value < 0 else text


def duration(value: float) -> str:
    """Return seconds as a person says them: 42 s, 12 min 30 s, 3 h 5 min."""
    if value < 59.95:
        return seconds(value)
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60:,} h {minutes % 60} min"


def deviation(value: float | None) -> str:
    """Return an error or a tolerance, or "" for None."""
    if value == 0:
        return "0"
    return "" if value is None else f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e").replace(".0e", "e")


def moment(time: datetime) -> str:
    """Return a time in UTC to the minute."""
    return f"{time:%Y-%m-%d %H:%M} UTC"


def commit(name: str, dirty: bool) -> str:
    """Return the first letters of a commit's name, and that there were uncommitted changes; "" for no commit."""
    return f"{name[:12]}{' with uncommitted changes' if name and dirty else ''}"


def known(value: _Value | None, text: Callable[[_Value], str]) -> str:
    """Return the `text` of a value, or "" for None."""
    return "" if value is None else text(value)


def date(text: str) -> str:
    """Return a time in ISO 8601 as `moment` writes it, and any other text as it is."""
    try:
        return moment(parsed(text))
    except ValueError:
        return text


def plural(number: int, noun: str, nouns: str = "") -> str:
    """Return a number with its noun."""
    return f"{count(number)} {noun if number == 1 else nouns or noun + 's'}"


def span(values: Iterable[float | None], decimals: int = 0) -> str:
    """Return the least and the greatest of the values that are not None, or "" without any."""
    known = sorted({round(value, decimals) for value in values if value is not None})
    if not known:
        return ""
    ends = [f"{value:,.{decimals}f}" for value in (known[0], known[-1])]
    return ends[0] if len(known) == 1 else " to ".join(ends)


def listing(items: Collection[str]) -> str:
    """Return items as in a sentence: a, b and c."""
    *most, last = items
    return f"{', '.join(most)} and {last}" if most else last


def row_counts(counts: Sequence[int]) -> str:
    """Return numbers of rows as in a sentence: 1, 32 and 256 rows."""
    return f"{listing([count(rows) for rows in counts])} {'row' if list(counts) == [1] else 'rows'}"


def some(items: Sequence[str], most: int) -> str:
    """Return a listing of the first `most` items, and how many more there are; at least one item."""
    more = [f"{count(len(items) - most)} more"] if len(items) > most else []
    return listing([*items[:most], *more])


def _with_power(value: float, digits: int) -> str:
    return f"{value:.{digits - 1}e}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")


def _places(value: int, decimals: int) -> str:
    """Return a whole number of units in the last of `decimals` places."""
    return f"{value / 10**decimals:,.{decimals}f}".replace("-", MINUS)


def _rounded(value: float, digits: int) -> str:
    """Return `value` to `digits` significant digits or the whole one, with a power of ten if that is too long."""
    if value <= 0:
        return "0"
    if not LEAST <= value < MOST:
        return _with_power(value, digits)
    magnitude = floor(log10(float(f"{value:.{digits - 1}e}")))
    return f"{value:,.{max(0, digits - 1 - magnitude)}f}"
