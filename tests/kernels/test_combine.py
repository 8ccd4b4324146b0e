"""Combine against a float64 sum."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels.combine import combine, combine_reference
from tests.kernels.oracle import assert_close, exact


def example(N: int, k: int, C: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Return outputs (M, C), weights (N, k) and slots (N, k) in random order."""
    g = torch.Generator().manual_seed(seed)
    slots = torch.randperm(N * k, generator=g).view(N, k).int()
    return torch.randn(N * k, C, generator=g).to(dtype), torch.rand(N, k, generator=g), slots


def check(got: Tensor, y: Tensor, weights: Tensor, slots: Tensor) -> None:
    """Fail unless `got` is the weighted sum of each row's outputs."""
    parts = exact(weights)[:, :, None] * exact(y)[slots.numpy()]
    assert_close(got, parts.sum(axis=1), np.abs(parts).sum(axis=1), got.dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(
    ("N", "k", "C"),
    [(0, 2, 3), (1, 1, 1), (7, 3, 10), (33, 2, 16), (65, 4, 17), (3, 60, 5), (2, 2, 300), (4, 1, 256)],
)
def test_sums_the_outputs_of_each_row(N: int, k: int, C: int, dtype: torch.dtype) -> None:
    y, weights, slots = example(N, k, C, dtype)
    for function in (combine, combine_reference):
        got = function(y, weights, slots)
        assert got.dtype == dtype
        check(got, y, weights, slots)


def test_sums_in_fp32_and_rounds_once() -> None:
    y, _, slots = example(4, 64, 3, torch.float16)
    weights = torch.full((4, 64), 1 / 64)
    exact_sum = (weights[:, :, None].double() * y.double()[slots]).sum(dim=1)
    for function in (combine, combine_reference):
        got = function(y, weights, slots, out_dtype=torch.float32)
        assert got.dtype == torch.float32
        assert (got - exact_sum).abs().max() < 1e-6
        assert torch.equal(function(y, weights, slots), got.half())


def test_any_strides() -> None:
    y, weights, slots = example(12, 2, 10)
    wide = torch.randn(48, 20)
    check(combine(y.t().contiguous().t(), weights, slots), y, weights, slots)
    check(combine(wide[::2, ::2], weights, slots), wide[::2, ::2], weights, slots)
    turned = (weights.t().contiguous().t(), slots.t().contiguous().t())
    check(combine(y, *turned), y, weights, slots)


def test_a_nan_weight_touches_one_row() -> None:
    y, weights, slots = example(9, 2, 4)
    clean = combine(y, weights, slots)
    weights[4, 1] = float("nan")
    bad = combine(y, weights, slots)
    others = torch.arange(9) != 4
    assert bad[4].isnan().all()
    assert torch.equal(bad[others], clean[others])


@settings(max_examples=20, deadline=None, derandomize=True)
@given(N=st.integers(0, 40), k=st.integers(1, 6), C=st.integers(1, 40), seed=st.integers(0, 99))
def test_any_shape(N: int, k: int, C: int, seed: int) -> None:
    y, weights, slots = example(N, k, C, seed=seed)
    check(combine(y, weights, slots), y, weights, slots)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_mutant_is_seen(dtype: torch.dtype) -> None:
    y, weights, slots = example(9, 2, 4, dtype)
    for mutant in (
        combine(y, torch.full_like(weights, 0.5), slots),
        combine(y, weights.flip(1), slots),
        combine(y, weights, slots.flip(0)),
        combine(y, weights * torch.tensor([1.0, 0.0]), slots),
    ):
        with pytest.raises(AssertionError, match="wrong, worst by"):
            check(mutant, y, weights, slots)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": torch.zeros(5, 3)}, "y must have N k = 6 rows, not 5"),
        ({"y": torch.zeros(6, 0)}, r"y must have the shape \(M, C\)"),
        ({"y": torch.zeros(6, 3, dtype=torch.int32)}, "y must be torch.float32"),
        ({"weights": torch.zeros(3, 3)}, r"weights must have the shape \(N = 3, k = 2\), not \(3, 3\)"),
        ({"weights": torch.zeros(3, 2, dtype=torch.float16)}, "weights must be torch.float32"),
        ({"slots": torch.zeros(3, 2)}, "slots must be torch.int32"),
    ],
)
def test_wrong_arguments_are_refused(change: dict[str, Any], message: str) -> None:
    right = {
        "y": torch.zeros(6, 3),
        "weights": torch.zeros(3, 2),
        "slots": torch.zeros(3, 2, dtype=torch.int32),
    }
    with pytest.raises(ValueError, match=message):
        combine(**{**right, **change})
