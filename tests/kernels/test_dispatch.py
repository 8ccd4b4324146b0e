"""Dispatch against a stable sort in NumPy."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels.dispatch import BLOCK_M, Dispatch, dispatch_reference, dispatch_rows


def check(dispatch: Dispatch, ids: Tensor, experts: int) -> None:
    """Fail unless `dispatch` sorts the assignments of `ids` stably by expert and cuts experts into tiles."""
    N, k = ids.shape
    flat = ids.numpy().reshape(-1)
    order = np.argsort(flat, kind="stable")
    np.testing.assert_array_equal(dispatch.rows, order // k)
    np.testing.assert_array_equal(dispatch.slots.flatten()[torch.from_numpy(order)], np.arange(N * k))
    counts = [int((flat == e).sum()) for e in range(experts)]
    np.testing.assert_array_equal(dispatch.offsets, np.cumsum([0, *counts]))
    tiles = [-(-count // dispatch.tile_rows) for count in counts]
    np.testing.assert_array_equal(dispatch.tile_starts, np.cumsum([0, *tiles]))
    assert sum(tiles) <= dispatch.most_tiles
    for field in (dispatch.rows, dispatch.slots, dispatch.offsets, dispatch.tile_starts):
        assert field.dtype == torch.int32


def random_ids(N: int, k: int, experts: int, seed: int = 0) -> Tensor:
    """Return ids (N, k), distinct in each row."""
    return torch.rand(N, experts, generator=torch.Generator().manual_seed(seed)).argsort(dim=1)[:, :k].int()


@pytest.mark.parametrize("build", [dispatch_rows, dispatch_reference])
@pytest.mark.parametrize(
    ("N", "k", "experts"),
    [
        (0, 2, 4),
        (1, 1, 1),
        (1, 2, 384),
        (7, 7, 7),
        (33, 2, 8),
        (BLOCK_M - 1, 1, 7),
        (BLOCK_M, 1, 7),
        (BLOCK_M + 1, 1, 60),
        (BLOCK_M // 2, 2, 8),
        (200, 3, 60),
        (50, 8, 384),
    ],
)
def test_sorts_stably(build: Callable[..., Dispatch], N: int, k: int, experts: int) -> None:
    ids = random_ids(N, k, experts)
    check(build(ids, experts, tile_rows=16), ids, experts)


@pytest.mark.parametrize("used", [[0], [6], [3], [1, 2, 3, 4, 5, 6], [0, 1, 2, 4, 5, 6], [0, 1, 2, 3, 4, 5]])
def test_empty_experts_anywhere(used: list[int]) -> None:
    ids = torch.tensor(used)[torch.arange(300) % len(used)].int()[:, None]
    check(dispatch_rows(ids, 7, tile_rows=32), ids, 7)


def test_any_strides() -> None:
    ids = random_ids(40, 4, 9)
    check(dispatch_rows(ids[::2, 1:3], 9, tile_rows=16), ids[::2, 1:3], 9)
    check(dispatch_rows(ids.t(), 9, tile_rows=16), ids.t(), 9)


def test_every_slot_lies_in_one_tile() -> None:
    dispatch = dispatch_rows(random_ids(150, 2, 5), 5, tile_rows=16)
    covered: list[int] = []
    for e in range(5):
        for tile in range(int(dispatch.tile_starts[e]), int(dispatch.tile_starts[e + 1])):
            begin = int(dispatch.offsets[e]) + (tile - int(dispatch.tile_starts[e])) * 16
            covered += range(begin, min(begin + 16, int(dispatch.offsets[e + 1])))
    assert covered == list(range(300))


@pytest.mark.parametrize(("M", "tiles"), [(0, 0), (1, 1), (5, 5), (16, 9), (160, 18)])
def test_most_tiles_is_a_bound_that_a_routing_reaches(M: int, tiles: int) -> None:
    ids = torch.arange(M, dtype=torch.int32)[:, None].clamp(max=7)  # one row each, the rest on the last expert
    dispatch = dispatch_rows(ids, 8, tile_rows=16)
    assert dispatch.most_tiles == tiles
    assert int(dispatch.tile_starts[-1]) <= tiles


@settings(max_examples=25, deadline=None, derandomize=True)
@given(data=st.data(), experts=st.integers(1, 12), k=st.integers(1, 3), tile_rows=st.sampled_from([16, 64]))
def test_any_routing(data: st.DataObject, experts: int, k: int, tile_rows: int) -> None:
    flat = data.draw(st.lists(st.integers(0, experts - 1), max_size=60))
    ids = torch.tensor(flat[: len(flat) // k * k], dtype=torch.int32).view(-1, k)
    check(dispatch_rows(ids, experts, tile_rows=tile_rows), ids, experts)


def test_a_wrong_order_is_seen() -> None:
    ids = random_ids(33, 2, 8)
    dispatch = dispatch_rows(ids, 8, tile_rows=16)
    with pytest.raises(AssertionError):
        check(dispatch, ids.flip(0), 8)
    dispatch.rows[0] += 1
    with pytest.raises(AssertionError):
        check(dispatch, ids, 8)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (torch.zeros(3, dtype=torch.int32), r"ids must have the shape \(N, k\)"),
        (torch.zeros(3, 2, dtype=torch.int64), "ids must be torch.int32, not torch.int64"),
        (torch.zeros(1, 1, dtype=torch.int32).expand(2**30, 1), "assignments are too many"),
    ],
)
def test_wrong_arguments_are_refused(ids: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dispatch_rows(ids, 4, tile_rows=16)
