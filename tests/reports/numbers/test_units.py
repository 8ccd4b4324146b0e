"""Numbers as text."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.numbers import units
from reports.numbers.stats import Estimate
from reports.numbers.units import TIMES


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.042, "0.042"),
        (0.0999, "0.10"),
        (0.9949, "0.99"),
        (0.9951, "1.00"),
        (0.31, "0.31"),
        (1, "1.00"),
        (3.768, "3.77"),
        (9.996, "10.0"),
        (12.34, "12.3"),
        (1234, "1,234"),
    ],
)
def test_factor(value: float, expected: str) -> None:
    assert units.factor(value) == expected + TIMES


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (84e-6, "84.0 µs"),
        (999.96e-6, "1.00 ms"),
        (1.263e-3, "1.26 ms"),
        (13.87e-3, "13.9 ms"),
        (2.5, "2.50 s"),
        (4e-10, "0.000400 µs"),
        (1234.5, "1,234 s"),
    ],
)
def test_seconds(value: float, expected: str) -> None:
    assert units.seconds(value) == expected


@given(st.floats(1e-9, 1e5))
def test_seconds_keep_three_digits(value: float) -> None:
    number, unit = units.seconds(value).split()
    size = {"s": 1.0, "ms": 1e-3, "µs": 1e-6}[unit]
    assert float(number.replace(",", "")) * size == pytest.approx(value, rel=0.006)


def test_intervals_name_a_shared_unit_once() -> None:
    assert units.seconds_interval(Estimate(1e-3, 0.98e-3, 1.02e-3, 40, 20)) == "980 µs to 1.02 ms"
    assert units.seconds_interval(Estimate(1.5e-3, 1.4e-3, 1.6e-3, 40, 20)) == "1.40 to 1.60 ms"
    assert units.seconds_interval(Estimate(1e-3, None, None, 4, 2)) == ""
    assert units.factor_interval(Estimate(1.9, 1.85, 2.0, 40, 20)) == "1.85 to 2.00"
    assert units.factor_interval(Estimate(1.9, None, None, 4, 1)) == "no interval from 1 block"


def test_small_things() -> None:
    assert units.megabytes(267_786 * 4) == "1.07 MB"
    assert units.percent(0.8717) == "87.2 %"
    assert units.deviation(2.3e-7) == "2.3e-7"
    assert units.deviation(1e-5) == "1e-5"
    assert units.deviation(12.0) == "1.2e1"
    assert units.deviation(None) == ""
    assert units.deviation(float("nan")) == "nan"
    assert units.moment(datetime(2026, 11, 3, 12, tzinfo=UTC)) == "2026-11-03 12:00 UTC"
    assert units.plural(1, "row") == "1 row"
    assert units.plural(2048, "row") == "2,048 rows"
    assert units.span([None, 1755, 1980.4]) == "1,755 to 1,980"
    assert units.span([0.41, 0.42], decimals=1) == "0.4"
    assert units.span([None]) == ""
    assert units.listing(["a"]) == "a"
    assert units.listing(["a", "b", "c"]) == "a, b and c"


@given(st.lists(st.integers(-(10**15), 10**15), min_size=1, max_size=12))
def test_shares_add_up_as_shown(shares: list[int]) -> None:
    total = sum(shares)
    whole, shown, unit = units.seconds_adding_up(total, shares)
    exact = [Decimal(text.replace(",", "").replace(units.MINUS, "-")) for text in shown]
    assert sum(exact) == Decimal(whole.replace(",", "").replace(units.MINUS, "-"))
    size = Decimal({"s": 10**12, "ms": 10**9, "µs": 10**6}[unit])
    last = Decimal(1).scaleb(-len(whole.partition(".")[2]))
    for value, share in zip(exact, shares, strict=True):
        assert abs(value - share / size) < last


def test_shares_have_the_digits_of_their_total() -> None:
    assert units.seconds_adding_up(1_263_400_000, [1_263_399_999, 1]) == ("1.263", ["1.263", "0.000"], "ms")
    assert units.seconds_adding_up(84_215_000, [90_000_000, -5_785_000]) == ("84.22", ["90.00", "−5.78"], "µs")
    assert units.seconds_adding_up(10_000_000, [3_333_333, 3_333_333, 3_333_334]) == (
        "10.00",
        ["3.33", "3.33", "3.34"],
        "µs",
    )


def test_shares_may_be_shown_as_another_time_is() -> None:
    assert units.seconds_adding_up(1_005_500_000, [1_005_000_000, 500_000], like=171_500_000) == (
        "1,005.5",
        ["1,005.0", "0.5"],
        "µs",
    )


def test_shares_that_lose_time_are_refused() -> None:
    with pytest.raises(ValueError, match="do not sum"):
        units.seconds_adding_up(3, [1, 1])
