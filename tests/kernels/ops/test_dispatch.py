"""Dispatch against a stable sort in NumPy."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels.ops.dispatch import COUNTED, PLACED, Dispatch, count, dispatch, dispatch_reference, most_programs


def check(result: Dispatch, ids: Tensor, experts: int, rows: Tensor) -> None:
    """Fail unless `result` sorts the assignments stably by expert, cuts experts into tiles and names their rows."""
    flat = ids.numpy()
    there = (flat >= 0) & (flat < experts)
    order = [m for m in np.argsort(flat, kind="stable") if there[m]]
    used = len(order)
    np.testing.assert_array_equal(result.rows[:used], rows.numpy()[order])
    np.testing.assert_array_equal(result.slots.numpy()[order], np.arange(used))
    np.testing.assert_array_equal(result.slots.numpy()[~there], -1)
    counts = [int((flat == e).sum()) for e in range(experts)]
    np.testing.assert_array_equal(result.offsets, np.cumsum([0, *counts]))
    tiles = [-(-number // result.tile_rows) for number in counts]
    np.testing.assert_array_equal(result.tile_starts, np.cumsum([0, *tiles]))
    assert result.experts == experts
    assert sum(tiles) <= result.most_tiles
    for field in (result.rows, result.slots, result.offsets, result.tile_starts):
        assert field.dtype == torch.int32


def counts_of(ids: Tensor, experts: int, block: int) -> Tensor:
    """Return the counts (B, E) of blocks of any length."""
    parts = [torch.bincount(part, minlength=experts) for part in ids.split(block)] if len(ids) else []
    return torch.stack(parts).int() if parts else torch.empty(0, experts, dtype=torch.int32)


def by_blocks(ids: Tensor, experts: int, block: int, **how: Any) -> Dispatch:
    """Return the dispatch of ids without negative ones, counted in blocks of any length."""
    return dispatch(ids, counts_of(ids, experts, block), block, **how)


def by_count(ids: Tensor, experts: int, **how: Any) -> Dispatch:
    """Return the dispatch of ids that `count` counted."""
    return dispatch(ids, *count(ids, experts), **how)


def random_ids(N: int, k: int, experts: int, seed: int = 0) -> Tensor:
    """Return ids (M,) of k distinct experts for each row."""
    return torch.rand(N, experts, generator=torch.Generator().manual_seed(seed)).argsort(dim=1)[:, :k].flatten().int()


def top_k_rows(ids: Tensor, k: int) -> Tensor:
    return torch.arange(len(ids)) // k


@pytest.mark.parametrize("build", [by_count, dispatch_reference])
@pytest.mark.parametrize(
    ("N", "k", "experts"),
    [
        (0, 2, 4),
        (1, 1, 1),
        (1, 2, 384),
        (7, 7, 7),
        (33, 2, 8),
        (PLACED - 1, 1, 7),
        (PLACED, 1, 7),
        (PLACED + 1, 1, 60),
        (PLACED // 2, 2, 8),
        (200, 3, 60),
        (50, 8, 384),
        (COUNTED, 1, 512),
        (COUNTED + 1, 1, 33),
    ],
)
def test_sorts_stably(build: Callable[..., Dispatch], N: int, k: int, experts: int) -> None:
    ids = random_ids(N, k, experts)
    check(build(ids, experts, tile_rows=16, k=k), ids, experts, top_k_rows(ids, k))


@pytest.mark.parametrize("block", [1, 2, 32, 100, 128, 130, 1000])
def test_blocks_of_any_length(block: int) -> None:
    ids = random_ids(min(150, 10 * block), 2, 7)
    check(by_blocks(ids, 7, block, tile_rows=16, k=2), ids, 7, top_k_rows(ids, 2))


@pytest.mark.parametrize("experts", [3, 130])
def test_more_blocks_than_programs(experts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kernels.ops.dispatch.most_programs", lambda B, E: 3)
    ids = random_ids(700, 1, experts)
    check(by_blocks(ids, experts, 16, tile_rows=64, k=1), ids, experts, top_k_rows(ids, 1))


def test_many_programs_only_while_each_reads_few_counts() -> None:
    assert most_programs(512, 8) >= 512
    assert most_programs(2**16, 512) == 128


@pytest.mark.parametrize("used", [[0], [6], [3], [1, 2, 3, 4, 5, 6], [0, 1, 2, 4, 5, 6], [0, 1, 2, 3, 4, 5]])
def test_empty_experts_anywhere(used: list[int]) -> None:
    ids = torch.tensor(used)[torch.arange(300) % len(used)].int()
    check(by_count(ids, 7, tile_rows=32, k=1), ids, 7, top_k_rows(ids, 1))


@pytest.mark.parametrize("build", [by_count, dispatch_reference])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_ids_out_of_range_get_no_slot(build: Callable[..., Dispatch], dtype: torch.dtype) -> None:
    ids = random_ids(400, 2, 9).to(dtype)
    ids[::3] = -1
    ids[1::7] = -(2**31)
    ids[-50:] = -3
    ids[5] = 9
    check(build(ids, 9, tile_rows=16, k=2), ids, 9, top_k_rows(ids, 2))
    nothing = torch.full((300,), -1, dtype=dtype)
    check(build(nothing, 9, tile_rows=16, k=2), nothing, 9, top_k_rows(nothing, 2))


@pytest.mark.parametrize("build", [by_count, dispatch_reference])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_rows_that_are_given(build: Callable[..., Dispatch], dtype: torch.dtype) -> None:
    ids = random_ids(500, 1, 5).to(dtype)
    ids[-40:] = -1
    rows = torch.randint(0, 90, (500,), generator=torch.Generator().manual_seed(1)).to(dtype)
    check(build(ids, 5, tile_rows=16, rows=rows), ids, 5, rows)
    none = torch.empty(0, dtype=dtype)
    check(build(none, 5, tile_rows=16, rows=none), none, 5, none)


def test_any_strides() -> None:
    ids, rows = random_ids(40, 4, 9), torch.arange(320)
    check(by_count(ids[::2], 9, tile_rows=16, rows=rows[:160:2]), ids[::2], 9, rows[:160:2])
    check(by_count(ids[3:], 9, tile_rows=16, rows=rows[1:158]), ids[3:], 9, rows[1:158])


def test_every_slot_lies_in_one_tile() -> None:
    result = by_count(random_ids(150, 2, 5), 5, tile_rows=16, k=2)
    covered: list[int] = []
    for e in range(5):
        for tile in range(int(result.tile_starts[e]), int(result.tile_starts[e + 1])):
            begin = int(result.offsets[e]) + (tile - int(result.tile_starts[e])) * 16
            covered += range(begin, min(begin + 16, int(result.offsets[e + 1])))
    assert covered == list(range(300))


@pytest.mark.parametrize(("M", "tiles"), [(0, 0), (1, 1), (5, 5), (16, 9), (160, 18)])
def test_most_tiles_is_a_bound_that_a_routing_reaches(M: int, tiles: int) -> None:
    ids = torch.arange(M, dtype=torch.int32).clamp(max=7)  # one row each, the rest on the last expert
    result = by_count(ids, 8, tile_rows=16, k=1)
    assert result.most_tiles == tiles
    assert int(result.tile_starts[-1]) <= tiles


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    ids=st.integers(1, 12).flatmap(lambda E: st.tuples(st.just(E), st.lists(st.integers(0, E - 1), max_size=150))),
    block=st.integers(1, 70),
    k=st.integers(1, 3),
    tile_rows=st.sampled_from([16, 64]),
)
def test_any_routing(ids: tuple[int, list[int]], block: int, k: int, tile_rows: int) -> None:
    experts, flat = ids[0], torch.tensor(ids[1], dtype=torch.int32)
    check(by_blocks(flat, experts, block, tile_rows=tile_rows, k=k), flat, experts, top_k_rows(flat, k))


@settings(max_examples=20, deadline=None, derandomize=True)
@given(data=st.data(), M=st.integers(0, 600), E=st.sampled_from([1, 2, 7, 60, 384]))
def test_any_count(data: st.DataObject, M: int, E: int) -> None:
    ids = torch.randint(-1, E, (M,), generator=torch.Generator().manual_seed(data.draw(st.integers(0, 99)))).int()
    counts, block = count(ids, E)
    expected = [[int((part == e).sum()) for e in range(E)] for part in ids.split(block)] if M else []
    assert counts.tolist() == expected


def test_a_wrong_dispatch_is_seen() -> None:
    ids = random_ids(33, 2, 8)
    rows = top_k_rows(ids, 2)
    result = by_count(ids, 8, tile_rows=16, k=2)
    check(result, ids, 8, rows)
    swapped = result.slots.clone()
    pair = (ids == 3).nonzero()[:2, 0]
    swapped[pair] = swapped[pair.flip(0)]
    for mutant in (
        replace(result, slots=swapped),
        replace(result, rows=result.rows.flip(0)),
        replace(result, offsets=result.offsets - 1),
        replace(result, tile_starts=result.tile_starts + 1),
        replace(result, tile_rows=8),
    ):
        with pytest.raises(AssertionError):
            check(mutant, ids, 8, rows)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ids": torch.zeros(3, 2).int()}, r"ids must have the shape \(M\), not \(3, 2\)"),
        ({"ids": torch.zeros(6)}, "ids must be torch.int32 or torch.int64"),
        ({"counts": torch.zeros(2, 4)}, "counts must be torch.int32, not torch.float32"),
        ({"counts": torch.zeros(1, 4).int()}, "counts must have 2 blocks of 4 assignments, not 1"),
        ({"k": None}, "by k or by rows"),
        ({"rows": torch.zeros(6).int()}, "by k or by rows"),
        ({"k": None, "rows": torch.zeros(5).int()}, r"rows must have the shape \(M = 6\), not \(5,\)"),
        ({"k": None, "rows": torch.zeros(6)}, "rows must be torch.int32 or torch.int64"),
        ({"ids": torch.zeros(1).int().expand(2**30)}, "assignments are too many: at most 1073741823"),
    ],
)
def test_wrong_arguments_are_refused(change: dict[str, Any], message: str) -> None:
    right: dict[str, Any] = {
        "ids": torch.zeros(6).int(),
        "counts": torch.zeros(2, 4).int(),
        "block": 4,
        "tile_rows": 16,
        "k": 2,
    }
    with pytest.raises(ValueError, match=message):
        dispatch(**{**right, **change})


def test_count_refuses_wrong_ids() -> None:
    with pytest.raises(ValueError, match=r"ids must have the shape \(M\), not \(3, 2\)"):
        count(torch.zeros(3, 2).int(), 4)
    with pytest.raises(ValueError, match=r"ids must be torch\.int32 or torch\.int64"):
        count(torch.zeros(3), 4)
