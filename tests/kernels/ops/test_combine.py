"""Combine against a float64 sum."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels.ops.combine import combine, combine_reference, row_order
from tests.kernels.oracle import assert_close, exact
from tests.kernels.process import run_compiled


def example(
    N: int, k: int, C: int, dtype: torch.dtype = torch.float32, seed: int = 0, parts: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return outputs (M, C), or (parts, M, C), with weights (M,) and slots (M,) in random order."""
    g = torch.Generator().manual_seed(seed)
    M = N * k
    y = torch.randn((M, C) if parts is None else (parts, M, C), generator=g).to(dtype)
    return y, torch.rand(M, generator=g), torch.randperm(M, generator=g).int()


def uneven(N: int, most: int, seed: int = 0) -> Tensor:
    """Return the rows (M,) of assignments in random order, from none to `most` for each."""
    g = torch.Generator().manual_seed(seed)
    rows = torch.arange(N).repeat_interleave(torch.randint(0, most + 1, (N,), generator=g))
    return rows[torch.randperm(len(rows), generator=g)]


def check(got: Tensor, y: Tensor, weights: Tensor, slots: Tensor, rows: Tensor, N: int) -> None:
    """Fail unless `got` is the weighted sum of the outputs of each row's assignments."""
    whole = exact(y) if y.ndim == 2 else exact(y).sum(axis=0)
    size = np.abs(exact(y)) if y.ndim == 2 else np.abs(exact(y)).sum(axis=0)
    total, magnitude = np.zeros((N, y.shape[-1])), np.zeros((N, y.shape[-1]))
    for m, n in enumerate(rows.tolist()):
        if slots[m] >= 0:
            total[n] += float(weights[m]) * whole[slots[m]]
            magnitude[n] += abs(float(weights[m])) * size[slots[m]]
    assert_close(got, total, magnitude, got.dtype)


def check_top_k(got: Tensor, y: Tensor, weights: Tensor, slots: Tensor, k: int) -> None:
    """Fail unless `got` is right for k assignments of each row."""
    check(got, y, weights, slots, torch.arange(len(slots)) // k, len(slots) // k)


@pytest.mark.parametrize("function", [combine, combine_reference])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(
    ("N", "k", "C"),
    [(0, 2, 3), (1, 1, 1), (7, 3, 10), (33, 2, 16), (65, 9, 17), (3, 60, 5), (2, 2, 300), (4, 1, 512), (3, 2, 700)],
)
def test_sums_the_outputs_of_each_row(function: Any, N: int, k: int, C: int, dtype: torch.dtype) -> None:
    y, weights, slots = example(N, k, C, dtype)
    got = function(y, weights, slots, rows=N, k=k)
    assert got.dtype == dtype
    check_top_k(got, y, weights, slots, k)


@pytest.mark.parametrize("function", [combine, combine_reference])
@pytest.mark.parametrize("parts", [1, 2, 4])
def test_adds_the_parts_of_an_output(function: Any, parts: int) -> None:
    y, weights, slots = example(20, 3, 10, parts=parts)
    check_top_k(function(y, weights, slots, rows=20, k=3), y, weights, slots, 3)
    starts, order = row_order(torch.arange(60) // 3, 20, ordered=True)
    again = function(y, weights, slots, rows=20, starts=starts, order=order, out_dtype=torch.float16)
    assert again.dtype == torch.float16
    check_top_k(again, y, weights, slots, 3)


@pytest.mark.parametrize("function", [combine, combine_reference])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(("N", "most", "C"), [(1, 1, 1), (30, 4, 10), (70, 3, 33), (5, 20, 16), (9, 0, 4), (0, 3, 4)])
def test_any_number_of_experts_for_a_row(function: Any, N: int, most: int, C: int, dtype: torch.dtype) -> None:
    rows = uneven(N, most)
    y, weights, slots = example(len(rows), 1, C, dtype)
    starts, order = row_order(rows, N, ordered=False)
    check(function(y, weights, slots, rows=N, starts=starts, order=order), y, weights, slots, rows, N)
    rows = rows.sort().values
    starts, order = row_order(rows, N, ordered=True)
    assert order is None
    check(function(y, weights, slots, rows=N, starts=starts), y, weights, slots, rows, N)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_row_order_is_stable(dtype: torch.dtype) -> None:
    rows = uneven(20, 5).to(dtype)
    starts, order = row_order(rows, 20, ordered=False)
    assert order is not None
    assert starts.dtype == torch.int32
    assert [order[starts[n] : starts[n + 1]].tolist() for n in range(20)] == [
        (rows == n).nonzero()[:, 0].tolist() for n in range(20)
    ]
    assert torch.equal(row_order(rows.sort().values, 20, ordered=True)[0], starts)


def test_the_order_of_assignments_decides_no_more_than_a_rounding_and_is_kept() -> None:
    y, weights, slots = torch.tensor([[1e8], [1.0], [-1e8]]), torch.ones(3), torch.tensor([0, 2, 1]).int()
    assert combine(y, weights, slots, rows=1, k=3).item() == 1.0
    starts, order = row_order(torch.zeros(3).int(), 1, ordered=False)
    assert combine(y, weights, slots, rows=1, starts=starts, order=order).item() == 1.0


@pytest.mark.parametrize("function", [combine, combine_reference])
def test_an_assignment_without_a_slot_adds_nothing(function: Any) -> None:
    y, weights, slots = example(30, 3, 10)
    slots[::4] = -1
    slots[6:9] = -1
    weights[slots < 0] = float("nan")
    check_top_k(function(y, weights, slots, rows=30, k=3), y, weights, slots, 3)
    rows = torch.arange(90) // 3
    starts, order = row_order(rows, 30, ordered=False)
    got = function(y, weights, slots, rows=30, starts=starts, order=order)
    assert (got[2] == 0).all()
    check(got, y, weights, slots, rows, 30)


def test_sums_in_fp32_and_rounds_once() -> None:
    y, _, slots = example(4, 64, 3, torch.float16)
    weights = torch.full((256,), 1 / 64)
    exact_sum = (weights[:, None].double() * y.double()[slots]).reshape(4, 64, 3).sum(dim=1)
    for function in (combine, combine_reference):
        got = function(y, weights, slots, rows=4, k=64, out_dtype=torch.float32)
        assert got.dtype == torch.float32
        assert (got - exact_sum).abs().max() < 1e-6
        assert torch.equal(function(y, weights, slots, rows=4, k=64), got.half())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_weights_of_any_float(dtype: torch.dtype) -> None:
    y, weights, slots = example(12, 2, 10)
    weights = weights.to(dtype)
    check_top_k(combine(y, weights, slots, rows=12, k=2), y, weights, slots, 2)


def test_any_strides() -> None:
    y, weights, slots = example(12, 2, 10)
    wide = torch.randn(48, 20)
    check_top_k(combine(y.t().contiguous().t(), weights, slots, rows=12, k=2), y, weights, slots, 2)
    check_top_k(combine(wide[::2, ::2], weights, slots, rows=12, k=2), wide[::2, ::2], weights, slots, 2)
    apart = torch.stack([weights, weights * 2], dim=1)[:, 0]
    odd = torch.cat([slots[:1], slots])[1:]
    check_top_k(combine(y.expand(3, 24, 10), apart, odd, rows=12, k=2), y.expand(3, 24, 10), weights, slots, 2)


def test_a_nan_weight_touches_one_row() -> None:
    y, weights, slots = example(9, 2, 4)
    clean = combine(y, weights, slots, rows=9, k=2)
    weights[9] = float("nan")
    bad = combine(y, weights, slots, rows=9, k=2)
    others = torch.arange(9) != 4
    assert bad[4].isnan().all()
    assert torch.equal(bad[others], clean[others])


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    N=st.integers(0, 40),
    k=st.integers(1, 12),
    C=st.integers(1, 40),
    seed=st.integers(0, 99),
    parts=st.sampled_from([None, 1, 2]),
    flat=st.booleans(),
)
def test_any_shape(N: int, k: int, C: int, seed: int, parts: int | None, flat: bool) -> None:
    rows = uneven(N, k, seed) if flat else torch.arange(N).repeat_interleave(k)
    y, weights, slots = example(len(rows), 1, C, seed=seed, parts=parts)
    slots[seed % 5 :: 5] = -1
    starts, order = row_order(rows, N, ordered=False)
    how: dict[str, Any] = {"starts": starts, "order": order} if flat else {"k": k}
    for function in (combine, combine_reference):
        check(function(y, weights, slots, rows=N, **how), y, weights, slots, rows, N)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_mutant_is_seen(dtype: torch.dtype) -> None:
    y, weights, slots = example(9, 2, 4, dtype)
    dropped = slots.clone()
    dropped[5] = -1
    for mutant in (
        (y, torch.full_like(weights, 0.5), slots),
        (y, weights.view(9, 2).flip(1).reshape(18), slots),
        (y, weights, slots.flip(0)),
        (y, weights, dropped),
        (y * (torch.arange(18) != 7)[:, None], weights, slots),
    ):
        with pytest.raises(AssertionError, match="wrong, worst by"):
            check_top_k(combine(*mutant, rows=9, k=2), y, weights, slots, 2)
    starts, order = row_order(torch.arange(18) // 2, 9, ordered=False)
    with pytest.raises(AssertionError, match="wrong, worst by"):
        check_top_k(combine(y, weights, slots, rows=9, starts=starts, order=order.flip(0)), y, weights, slots, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": torch.zeros(5, 3)}, r"y must have the shape \(S, M = 6, C\), not \(1, 5, 3\)"),
        ({"y": torch.zeros(6, 0)}, r"y must have the shape \(S, M = 6, C\), not \(1, 6, 0\)"),
        ({"y": torch.zeros(6, 3, dtype=torch.int32)}, r"y must be torch\.float32"),
        ({"weights": torch.zeros(3)}, r"weights must have the shape \(M = 6\), not \(3,\)"),
        ({"weights": torch.zeros(6).int()}, r"weights must be torch\.float64 or"),
        ({"slots": torch.zeros(6)}, r"slots must be torch\.int32"),
        ({"k": 3}, "there must be N k = 9 assignments, not 6"),
        ({"order": torch.arange(6)}, "and no order"),
        ({"k": None}, "by k or by starts"),
        ({"starts": torch.zeros(4).int()}, "by k or by starts"),
        ({"k": None, "starts": torch.zeros(4)}, r"starts must be torch\.int32"),
        ({"k": None, "starts": torch.zeros(3).int()}, r"starts must have the shape \(N \+ 1 = 4\), not \(3,\)"),
        ({"k": None, "starts": torch.zeros(4).int(), "order": torch.zeros(5).int()}, "order must have the shape"),
        ({"k": None, "starts": torch.zeros(4).int(), "order": torch.zeros(6)}, r"order must be torch\.int32 or"),
    ],
)
def test_wrong_arguments_are_refused(change: dict[str, Any], message: str) -> None:
    right: dict[str, Any] = {
        "y": torch.zeros(6, 3),
        "weights": torch.zeros(6),
        "slots": torch.zeros(6).int(),
        "rows": 3,
        "k": 2,
    }
    with pytest.raises(ValueError, match=message):
        combine(**{**right, **change})


SCRIPT = """
import re
import torch
from kernels.ops.combine import combine
from kernels.compiled.job import specialise
from kernels.launch.launch import recording


def meta(*shape, dtype=torch.int32):
    return torch.empty(shape, dtype=dtype, device="meta")


with recording() as records:
    y, weights = meta(4, 999, 2048, dtype=torch.float32), meta(999, dtype=torch.float32)
    combine(y, weights, meta(999), rows=333, k=3, out_dtype=torch.bfloat16)
ptx = specialise(records[0], "sm_90").compile().asm["ptx"]
print(sorted(set(re.findall(r"ld\\.global\\S*", ptx))), len(re.findall(r"ld\\.global\\.b32", ptx)))
"""
"""Prints how memory is read by a thread, and how many reads are of single weights and slots."""


def test_parts_are_read_16_bytes_at_once_whatever_their_rows() -> None:
    done = run_compiled("-c", SCRIPT)
    assert done.stdout == "['ld.global.b32', 'ld.global.v4.b32'] 8\n", done.stderr[-3000:]
