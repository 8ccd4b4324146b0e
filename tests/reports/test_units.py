"""Numbers as text."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports import units
from reports.stats import Estimate
from reports.units import TIMES


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
