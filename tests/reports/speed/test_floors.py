"""Floors against numbers worked out by hand, and the choice of the ceilings behind them."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.records.record import Copy
from reports.speed.floors import Floor, fitting, floor, operations
from tests.reports.synthetic import ceilings, record


def found(least_bytes: int, flops: int = 2_000_000, **fields: Any) -> Floor:
    result = floor(record(flops=flops, least_bytes=least_bytes, **fields), [ceilings()])
    assert result is not None
    return result


def test_a_floor_is_the_longer_of_arithmetic_and_movement_and_one_launch() -> None:
    arithmetic = found(100_000, flops=2_000_000)  # 2e6 / 200e9 = 10 us; 1e5 / 40e9 = 2.5 us; 1 us
    assert arithmetic.seconds == pytest.approx(11e-6)
    assert (arithmetic.limit, arithmetic.memory) == ("arithmetic", 0.0)
    moved = found(50_000_000, flops=2_000_000)  # 5e7 / 10e9 = 5 ms
    assert moved.seconds == pytest.approx(5.001e-3)
    assert moved.memory == pytest.approx(4.99e-3)
    assert moved.limit == "bandwidth"
    launched = found(1_000, flops=1_000)
    assert launched.limit == "launches"
    assert launched.seconds == pytest.approx(1.025e-6)


@pytest.mark.parametrize(
    ("least_bytes", "rate", "cached"),
    [
        (1, 40e9, True),
        (131_072, 40e9, True),
        (262_144, 25e9, True),
        (8_388_608, 25e9, True),
        (16_777_216, 10e9, False),
        (10**12, 10e9, False),
    ],
)
def test_the_rate_at_the_working_set_of_a_copy_is_that_copys(least_bytes: int, rate: float, cached: bool) -> None:
    assert found(least_bytes).rate == pytest.approx(rate)
    assert found(least_bytes).cached is cached


def test_between_two_working_sets_the_rate_is_their_geometric_mean_halfway() -> None:
    halfway = found(round(math.sqrt(8_388_608 * 16_777_216)))
    assert halfway.rate == pytest.approx(math.sqrt(25e9 * 10e9), rel=1e-6)


@given(st.integers(1, 10**9))
def test_a_little_more_to_move_is_never_a_cliff(least_bytes: int) -> None:
    rate, beyond = found(least_bytes).rate, found(least_bytes + max(1, least_bytes // 100)).rate
    assert beyond <= rate * (1 + 1e-12)
    assert beyond > 0.97 * rate or least_bytes < 100


def test_a_small_copy_slowed_by_its_launch_does_not_lower_the_rate() -> None:
    copies = [Copy(working_set=10_000, bytes_per_s=1e9), Copy(working_set=10**8, bytes_per_s=3e12)]
    result = floor(record(least_bytes=1_000), [ceilings(copies=copies)])
    assert result is not None
    assert result.rate == pytest.approx(3e12)
    assert not result.cached


def test_cold_caches_are_read_at_the_rate_of_memory() -> None:
    cold = found(1_000, cache="cold")
    assert (cold.rate, cold.cached) == (10e9, False)


@pytest.mark.parametrize(
    "fields",
    [
        {"device_name": "other"},
        {"cpu": "other"},
        {"threads": 2},
        {"dtype": "bfloat16"},
        {"device": "cuda"},
        {"least_bytes": None},
        {"rows": 0, "least_bytes": 0},
    ],
    ids=str,
)
def test_without_fitting_ceilings_or_work_there_is_no_floor(fields: dict[str, Any]) -> None:
    assert floor(record(**({"least_bytes": 1_000} | fields)), [ceilings()]) is None


def test_of_several_ceilings_the_last_before_the_case_count_or_else_the_first_after_it() -> None:
    times = {"early": "2026-11-03T10:00:00Z", "before": "2026-11-03T12:30:00+01:00", "after": "2026-11-03T12:01:00Z"}
    given_ = {name: ceilings(measured_at=time, product=name) for name, time in times.items()}
    case = record(least_bytes=1)
    assert fitting(case, list(given_.values())) is given_["before"]
    assert fitting(case, [given_["after"], ceilings(measured_at="2026-11-04T12:00:00")]) is given_["after"]


def test_threads_that_wait_alike_come_first() -> None:
    active, passive = ceilings(thread_wait="ACTIVE"), ceilings(thread_wait="PASSIVE", measured_at="2026-11-01T00:00:00")
    assert fitting(record(thread_wait="PASSIVE"), [active, passive]) is passive
    assert fitting(record(), [active]) is active


def test_operations_are_split_as_they_were_counted() -> None:
    case = record(rows=10)  # 512 features, 8 experts of 64, 2 per row, 10 classes
    split = operations(case)
    assert split.gate == 10 * 2 * 512 * 8
    assert split.combine == 10 * 2 * 2 * 10
    assert split.experts == 10 * 2 * 2 * (512 * 64 + 64 * 10)
    assert operations(record(assignments=7, rows=10)).combine == 2 * 10 * 7
    trained = operations(record(rows=10, passes="training", flops=3 * case.flops))
    assert (trained.gate, trained.combine, trained.experts) == (3 * split.gate, 3 * split.combine, 3 * split.experts)
    assert operations(record(head="dense")).experts == record(head="dense").flops


@given(st.integers(1, 10**12), st.integers(1, 10**12))
def test_more_work_never_lowers_the_floor(flops: int, least_bytes: int) -> None:
    smaller, larger = found(least_bytes, flops), found(2 * least_bytes, 2 * flops)
    assert smaller.seconds <= larger.seconds
    assert smaller.seconds >= max(smaller.arithmetic, smaller.bandwidth, smaller.launch)
