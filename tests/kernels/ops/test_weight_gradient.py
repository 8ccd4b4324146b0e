"""The gradient of a grouped product's weights against float64 products of one expert at a time, and its work."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from kernels.cost.work import histogram
from kernels.launch.launch import recording
from kernels.ops.dispatch import Dispatch, dispatch_reference
from kernels.ops.weight_gradient import weight_gradient, weight_gradient_reference, weight_gradient_work
from kernels.problem.options import WeightTile
from kernels.problem.problem import Problem
from tests.kernels.counting import counting
from tests.kernels.oracle import assert_close, exact

TILE = WeightTile(rows=16, columns=16, depth=16, warps=4, stages=2, group=2)
IDS = [4, 1, 4, 4, 2, 1, -1, 4] * 5
"""Experts of 40 assignments: of six experts the first, one in the middle and the last have no row."""


def normal(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def sorted_rows(k: int = 2) -> Dispatch:
    return dispatch_reference(torch.tensor(IDS, dtype=torch.int32), 6, tile_rows=16, k=k)


def expected(a: Tensor, b: Tensor, dispatch: Dispatch, gather_a: bool, gather_b: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the right gradients, and those of the operands' absolute values."""
    offsets, rows = dispatch.offsets.tolist(), dispatch.rows.numpy()
    right, sizes = np.zeros((2, 6, a.shape[1], b.shape[1]))
    for e in range(6):
        for slot in range(offsets[e], offsets[e + 1]):
            left, other = exact(a)[rows[slot] if gather_a else slot], exact(b)[rows[slot] if gather_b else slot]
            right[e] += np.outer(left, other)
            sizes[e] += np.abs(np.outer(left, other))
    return right, sizes


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("splits", [1, 3])
@pytest.mark.parametrize(("gather_a", "gather_b"), [(True, False), (False, True), (False, False)])
def test_sums_over_the_rows_of_each_expert(gather_a: bool, gather_b: bool, splits: int, dtype: torch.dtype) -> None:
    dispatch = sorted_rows()
    a = normal(20 if gather_a else 40, 33, dtype=dtype)
    b = normal(7, 20 if gather_b else 40, dtype=dtype, seed=1).t()
    right, sizes = expected(a, b, dispatch, gather_a, gather_b)
    got = weight_gradient(a, b, dispatch, gather_a=gather_a, gather_b=gather_b, options=replace(TILE, splits=splits))
    assert_close(got, right, sizes, dtype)
    assert_close(weight_gradient_reference(a, b, dispatch, gather_a=gather_a, gather_b=gather_b), right, sizes, dtype)
    swapped = got[[0, 2, 1, 3, 4, 5]]
    with pytest.raises(AssertionError, match="wrong, worst by"):
        assert_close(swapped, right, sizes, dtype)


@pytest.mark.parametrize("splits", [1, 3])
def test_its_work(splits: int) -> None:
    dispatch = dispatch_reference(torch.tensor([0, 2, 2, 1] * 10), 3, tile_rows=16, k=2)
    a, b, options = normal(20, 33), normal(40, 20), replace(TILE, splits=splits)
    problem = Problem(20, 33, 20, 3, 4, 2, 40, torch.float32, routing="top_k")
    product, *added = weight_gradient_work(problem, 33, 20, options, histogram([10, 10, 20]), precision="ieee")
    with counting() as counted:
        weight_gradient(a, b, dispatch, gather_a=True, options=options)
    assert (product.read, product.written) == (counted.read["f"], counted.written["f"])
    assert counted.dots <= product.flops  # a part without rows ends at once
    assert len(added) == (splits > 1)
    with recording() as records:
        weight_gradient(a, b, dispatch, gather_a=True, options=options)
    assert [product.programs] == [launch.grid[0] for launch in records]


def test_no_assignments_give_zeros_without_a_launch() -> None:
    dispatch = dispatch_reference(torch.tensor([], dtype=torch.int32), 3, tile_rows=16, k=1)
    with recording() as records:
        got = weight_gradient(normal(0, 5), normal(0, 4), dispatch, options=TILE)
    assert got.shape == (3, 5, 4)
    assert got.count_nonzero() == len(records) == 0


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"b must have the shape \(M = 40, H\)"):
        weight_gradient(normal(20, 5), normal(20, 4), sorted_rows(), gather_a=True, options=TILE)
    with pytest.raises(ValueError, match="b must have the dtype of a"):
        weight_gradient(normal(40, 5), normal(40, 4).half(), sorted_rows(), options=TILE)
