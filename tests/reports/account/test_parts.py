"""What a call's time is divided into: names, order, and the floors that lie in each part, against the floors whole."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.account import parts
from reports.account.parts import (
    CHOICE,
    COMBINE,
    DISPATCH,
    FLOORS,
    GATE,
    GEMM,
    HOST,
    IMBALANCE,
    UNATTRIBUTED,
    WORK,
    Part,
)
from reports.records.record import CaseRecord
from reports.speed.floors import Floor, floor
from tests.reports.synthetic import ceilings, record

HEADS = ("dense", "soft", "sparse")


def known(case: CaseRecord) -> Floor:
    found = floor(case, [ceilings()])
    assert found is not None
    return found


@given(st.sampled_from(HEADS), st.integers(1, 4096), st.integers(1, 10**9))
def test_the_floors_within_all_works_are_the_floors(head: str, rows: int, least_bytes: int) -> None:
    """However works are grouped into parts, nothing of a floor is lost or counted twice, the launch apart."""
    case = record(head=head, rows=rows, least_bytes=least_bytes)
    counted = known(case)
    done = parts.done_by(case, WORK)
    each = sum(parts.floor_within([work], case, counted) for work in done)
    assert each == pytest.approx(counted.seconds - counted.launch)
    assert parts.floor_within(done, case, counted) == pytest.approx(each)
    floors = parts.floors(counted)
    assert [part.name for part in floors] == list(FLOORS)
    assert sum(part.picoseconds for part in floors) == pytest.approx(counted.seconds * 1e12, abs=1.5)  # each is rounded


def test_without_ceilings_nothing_has_a_floor() -> None:
    assert parts.floors(None) == []
    assert parts.floor_within(WORK, record(), None) == 0


@pytest.mark.parametrize(
    ("head", "done"), [("dense", {GEMM}), ("soft", {GEMM, GATE, CHOICE, COMBINE}), ("sparse", set(WORK))]
)
def test_a_head_does_only_what_it_has(head: str, done: set[str]) -> None:
    assert set(parts.done_by(record(head=head), WORK)) == done


@pytest.mark.parametrize(
    ("works", "named", "bare"),
    [
        ((GEMM,), "GEMM inefficiency", "expert products"),
        ((GEMM, IMBALANCE), "imbalance + GEMM", "imbalance + products"),
        ((COMBINE, DISPATCH), "dispatch + combine", "dispatch + combine"),
        ((CHOICE,), "top-k", "top-k"),
    ],
)
def test_a_part_is_called_by_its_works_in_their_order(works: tuple[str, ...], named: str, bare: str) -> None:
    case = record(least_bytes=1)
    assert parts.name(works, known(case)) == named
    assert parts.name(works, None) == bare


def test_parts_stand_in_the_order_of_a_call() -> None:
    joined = Part("dispatch + combine", 0, works=(COMBINE, DISPATCH))
    mixed = [Part(UNATTRIBUTED, 0), Part(HOST, 0), joined, Part(GATE, 0, works=(GATE,)), Part(FLOORS[0], 0)]
    placed = [part.name for part in sorted(mixed, key=lambda part: part.place)]
    assert placed == [FLOORS[0], GATE, joined.name, HOST, UNATTRIBUTED]
