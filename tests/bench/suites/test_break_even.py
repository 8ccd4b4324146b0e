"""The search for break-even: found on machines whose answer is known, in few probes, from whatever is known."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from math import ceil, comb, log2
from statistics import median

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.suites.break_even import (
    MOST_UNCLEAR,
    Cell,
    MapGrid,
    Probe,
    Side,
    Sizes,
    expected_probes,
    expected_rows,
    map_grid,
    next_probes,
    next_rows,
)

F, S, U, A = Side.FASTER, Side.SLOWER, Side.UNCLEAR, Side.ABSENT
ROWS = tuple(2**power for power in range(17))
LEVELS = ceil(log2(len(ROWS) - 1))

Planner = Callable[[Sequence[int], Mapping[int, Side]], list[int]]


def searched(truth: Callable[[int], Side], rows: Sequence[int] = ROWS, plan: Planner = next_rows) -> dict[int, Side]:
    """Return what a search finds out on a machine whose sides are `truth`."""
    sides: dict[int, Side] = {}
    while wanted := plan(rows, sides):
        assert not set(wanted) & sides.keys()
        assert set(wanted) <= set(rows)
        sides |= {count: truth(count) for count in wanted}
    return sides


def bracket(sides: Mapping[int, Side]) -> tuple[int, int]:
    """Return the most rows clearly below and the fewest clearly above."""
    return (
        max((rows for rows, side in sides.items() if side is S), default=0),
        min((rows for rows, side in sides.items() if side is F), default=2 * ROWS[-1]),
    )


def crossing_at(first: int) -> Callable[[int], Side]:
    return lambda rows: F if rows >= first else S


@given(st.lists(st.integers(1, 10**6), min_size=2, max_size=40, unique=True).map(sorted), st.data())
def test_a_single_crossing_is_found_between_neighbours_in_as_few_probes_as_bisection_takes(rows, data):
    place = data.draw(st.integers(1, len(rows) - 1))
    sides = searched(crossing_at(rows[place]), rows)
    assert bracket(sides) == (rows[place - 1], rows[place])
    assert len(sides) <= 2 + ceil(log2(len(rows) - 1))


def full_grid(rows, sides):
    return [count for count in rows if count not in sides]


def ends_alone(rows, sides):
    return [count for count in (rows[0], rows[-1]) if count not in sides]


def wrong_half(rows, sides):
    """Go on beyond the bracket, not inside it."""
    if missing := ends_alone(rows, sides):
        return missing
    low, high = rows.index(bracket(sides)[0]), rows.index(bracket(sides)[1])
    return [rows[(high + len(rows)) // 2]] if high - low > 1 and rows[(high + len(rows)) // 2] not in sides else []


@pytest.mark.parametrize("mutant", [full_grid, ends_alone, wrong_half])
def test_a_wrong_search_is_noticed(mutant):
    found = {first: searched(crossing_at(first), plan=mutant) for first in ROWS[1:]}
    missed = [first for first, sides in found.items() if bracket(sides) != (first // 2, first)]
    assert missed or max(map(len, found.values())) > 2 + LEVELS


@pytest.mark.parametrize("side", [F, S, U])
def test_where_both_ends_agree_only_the_middle_is_looked_at(side):
    assert searched(lambda rows: side) == dict.fromkeys((1, 256, 65536), side)


@given(st.integers(1, 15), st.integers(1, 15))
def test_unclear_rows_are_kept_and_narrowed_from_both_sides(start, width):
    zone = ROWS[start : min(16, start + width)]
    sides = searched(lambda rows: U if rows in zone else S if rows < zone[0] else F)
    low, high = bracket(sides)
    assert low < zone[0]
    assert zone[-1] < high
    assert len(sides) <= 2 * LEVELS + 1
    if sum(side is U for side in sides.values()) <= MOST_UNCLEAR:
        assert (low, high) == (zone[0] // 2, 2 * zone[-1])


@given(st.lists(st.sampled_from([F, S, U]), min_size=1, max_size=17))
def test_any_machine_is_done_with_and_neighbours_that_clearly_disagree_stand_next_to_each_other(truth):
    rows = ROWS[: len(truth)]
    sides = searched(dict(zip(rows, truth, strict=True)).__getitem__, rows)
    for one, other in pairwise(sorted(sides)):
        if {sides[one], sides[other]} == {F, S}:
            assert other == 2 * one
    assert {rows[0], rows[-1]} <= sides.keys()


def test_a_dip_within_the_bracket_is_found_where_the_search_meets_it_and_nowhere_else():
    hill = {**dict.fromkeys(ROWS, S), 128: F, 256: F, 512: F}
    assert {rows for rows, side in searched(hill.__getitem__).items() if side is F} == {128, 256, 512}
    missed = {**dict.fromkeys(ROWS, S), 16: F}
    assert F not in searched(missed.__getitem__).values()


@given(st.integers(0, 16), st.integers(1, 16))
def test_rows_that_do_not_fit_are_left_out_and_the_search_goes_on_below_them(most, first):
    sides = searched(lambda rows: A if rows > ROWS[most] else crossing_at(ROWS[first])(rows))
    measured = {rows: side for rows, side in sides.items() if side is not A}
    assert max(measured) == ROWS[most]
    if first <= most:
        assert bracket(measured) == (ROWS[first - 1], ROWS[first])
    assert F in measured.values() or first > most


def test_a_head_that_cannot_be_measured_at_one_row_is_given_up():
    assert searched(lambda rows: A) == {1: A, 65536: A}


@given(
    st.lists(st.sampled_from([F, S]), min_size=17, max_size=17),
    st.sets(st.sampled_from(ROWS), max_size=MOST_UNCLEAR),
    st.sampled_from(ROWS),
    st.data(),
)
def test_a_search_goes_on_from_what_is_known_as_if_it_had_never_stopped(clear, unclear, most, data):
    machine = {**dict(zip(ROWS, clear, strict=True)), **dict.fromkeys(unclear, U)}
    machine |= {rows: A for rows in ROWS if rows > most}
    whole = searched(machine.__getitem__)
    sides: dict[int, Side] = {}
    while wanted := next_rows(ROWS, sides):
        kept = data.draw(st.lists(st.sampled_from(wanted), min_size=1, unique=True))
        sides = {rows: machine[rows] for rows in random.Random(0).sample([*sides, *kept], len(sides) + len(kept))}
    assert sides == whole


@given(st.integers(1, 16))
def test_the_probes_still_to_come_are_as_many_as_come(place):
    sides: dict[int, Side] = {}
    counts = []
    while wanted := next_rows(ROWS, sides):
        counts.append((expected_rows(ROWS, sides), len(sides)))
        sides |= {rows: crossing_at(ROWS[place])(rows) for rows in wanted}
    assert all(expected + spent == len(sides) for expected, spent in counts)
    assert expected_rows(ROWS, sides) == 0


def noisy(ratio: float, rng: np.random.Generator, blocks: int = 10, noise: float = 0.03) -> Probe:
    """Return a probe of a machine whose blocks disturb both heads alike by a fifth and each for itself by `noise`."""
    shared = rng.lognormal(0, 0.2, blocks)
    dense, sparse = (shared * rng.lognormal(0, noise, blocks) for _ in range(2))
    return Probe(dict(enumerate(ratio * dense)), dict(enumerate(sparse)))


def test_the_crossing_is_found_through_noise():
    rng = np.random.default_rng(5)
    hits = 0
    for trial in range(300):
        true = 2 ** rng.uniform(0.5, 15.5)
        sides = searched(lambda rows, true=true: noisy((rows / true) ** 0.7, rng).side)
        low, high = bracket(sides)
        hits += low < true < high
        assert len(sides) <= 2 * LEVELS + 1, trial
    assert hits >= 0.97 * 300


def test_a_ratio_is_clear_as_often_as_its_interval_promises():
    rng = np.random.default_rng(6)
    wrong = sum(noisy(1.0, rng).side is not U for _ in range(1000))
    assert wrong <= 0.01 * 1000 + 10
    assert sum(noisy(1.05, rng, noise=0.01).side is F for _ in range(300)) > 290
    assert sum(noisy(1 / 1.05, rng, noise=0.01).side is S for _ in range(300)) > 290


def test_blocks_are_paired_so_that_what_disturbs_both_heads_cancels():
    rng = np.random.default_rng(7)
    probes = [noisy(1.1, rng) for _ in range(200)]
    shuffled = [Probe(probe.dense, dict(zip(probe.sparse, rng.permutation(list(probe.sparse.values())), strict=True)))
                for probe in probes]  # fmt: skip
    assert sum(probe.side is F for probe in probes) > 160
    assert sum(probe.side is F for probe in shuffled) < 80


@given(st.lists(st.floats(0.5, 2.0), min_size=1, max_size=41))
def test_the_side_is_that_of_the_interval_between_order_statistics(ratios):
    ratios = sorted(ratios)
    n = len(ratios)
    places = [place for place in range(n // 2) if sum(comb(n, j) for j in range(place + 1)) / 2**n < 0.005]
    low, high = (ratios[max(places)], ratios[n - 1 - max(places)]) if places else (0.0, float("inf"))
    expected = F if low > 1 else S if high < 1 else U
    probe = Probe(dict(enumerate(ratios)), dict.fromkeys(range(n), 1.0))
    assert probe.side is expected
    assert probe.speedup == median(ratios)
    assert n >= 8 or expected is U


def test_without_a_pair_there_is_no_side():
    for probe in (Probe({}, {}), Probe({0: 1.0}, {}), Probe({0: 1.0}, {1: 1.0})):
        assert probe.side is A
        assert probe.speedup is None


def answered(grid: MapGrid, truth: Callable[[Cell, int], Side]) -> dict[Cell, dict[int, Probe]]:
    """Return what is known of a grid once nothing more is asked for; all cells of a layer are measured together."""
    ratio = {F: 2.0, S: 0.5, U: 1.0}
    known: dict[Cell, dict[int, Probe]] = {}
    while wanted := next_probes(grid, known):
        assert sum(expected_probes(grid, known).values()) >= len(wanted)
        for layer, rows in {(cell.layer, rows) for cell, rows in wanted}:
            for cell in grid.of(layer):
                probe = Probe(dict.fromkeys(range(8), ratio[truth(cell, rows)]), dict.fromkeys(range(8), 1.0))
                known.setdefault(cell, {})[rows] = probe
    return known


@settings(max_examples=20)
@given(st.integers(0, 2**32))
def test_every_cell_of_a_grid_gets_its_crossing(seed):
    grid = map_grid(quick=True, device="cpu")
    rng = random.Random(seed)
    first = {cell: rng.choice(grid.rows(cell.layer)[1:]) for cell in grid.cells}
    known = answered(grid, lambda cell, rows: crossing_at(first[cell])(rows))
    for cell in grid.cells:
        assert bracket({rows: probe.side for rows, probe in known[cell].items()}) == (first[cell] // 2, first[cell])
    places = {(cell.layer, rows) for cell in grid.cells for rows in known[cell]}
    assert len(places) < 0.75 * sum(len(grid.rows(layer)) for layer in grid.layers)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("quick", [False, True])
def test_a_grid_has_the_cells_it_should_and_rows_within_its_bounds(quick, device):
    grid = map_grid(quick=quick, device=device)
    assert len(set(grid.cells)) == len(grid.cells)
    assert all(cell.k <= cell.layer.experts for cell in grid.cells)
    for layer in grid.layers:
        rows = grid.rows(layer)
        assert rows[0] == 1
        assert all(more == 2 * fewer for fewer, more in pairwise(rows))
        assert rows[-1] == 65536 or device == "cpu"
        assert rows[-1] * layer.dense_flops <= grid.most_flops


def test_a_layer_too_large_for_any_bound_is_still_measured_at_one_row():
    assert MapGrid((), seconds=1, most_flops=1).rows(Sizes(512, 64, 8)) == (1,)


def test_the_quick_grid_says_what_it_leaves_out():
    grid = map_grid(quick=True, device="cpu")
    assert "compile" in grid.left_out
    assert grid.excluded("compile", 1)
    assert "export" in grid.excluded("onnxruntime", 64)
    assert not grid.excluded("onnxruntime", 16)
    assert not grid.excluded("onnxruntime", 1)
    assert not map_grid(quick=False, device="cpu").excluded("compile", 64)
