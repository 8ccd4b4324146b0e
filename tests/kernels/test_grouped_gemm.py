"""The grouped GEMM against float64 products of one row at a time."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels.dispatch import Dispatch, dispatch_rows
from kernels.grouped_gemm import grouped_gemm, grouped_gemm_reference
from kernels.options import ProductOptions
from tests.kernels.oracle import assert_close, exact, product

SMALL = ProductOptions(columns=16, depth=16, warps=4, stages=2, group=2)


def normal(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def dispatch_of(experts_of_rows: list[int], experts: int, k: int = 1) -> Dispatch:
    """Return the dispatch of one assignment after another, k to a row, in tiles of 16."""
    return dispatch_rows(torch.tensor(experts_of_rows, dtype=torch.int32).view(-1, k), experts, tile_rows=16)


def slot_experts(dispatch: Dispatch) -> np.ndarray:
    """Return the expert of each slot."""
    return np.repeat(np.arange(dispatch.experts), np.diff(dispatch.offsets.numpy()))


def check(
    got: Tensor, a: Tensor, w: Tensor, bias: Tensor, dispatch: Dispatch, gather: bool, activation: str | None
) -> None:
    """Fail unless `got` is the grouped product."""
    rows = exact(a)[dispatch.rows.numpy()] if gather else exact(a)
    experts = slot_experts(dispatch)
    expected = product(rows, experts, exact(w), exact(bias), activation)
    magnitudes = product(np.abs(rows), experts, np.abs(exact(w)), np.abs(exact(bias)), None)
    assert_close(got, expected, magnitudes, got.dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("activation", [None, "relu", "gelu", "silu"])
@pytest.mark.parametrize("gather", [True, False])
def test_multiplies_by_each_expert(gather: bool, activation: Any, dtype: torch.dtype) -> None:
    dispatch = dispatch_of([0, 2, 1, 2, 0, 2] * 7, 3, k=2)  # 21 rows, 42 slots
    a = normal(21 if gather else 42, 33, dtype=dtype)
    w, bias = normal(3, 33, 20, dtype=dtype, seed=1), normal(3, 20, dtype=dtype, seed=2)
    how: dict[str, Any] = {"gather": gather, "activation": activation}
    check(grouped_gemm(a, w, bias, dispatch, options=SMALL, **how), a, w, bias, dispatch, **how)
    check(grouped_gemm_reference(a, w, bias, dispatch, **how), a, w, bias, dispatch, **how)


@pytest.mark.parametrize(
    "experts_of_rows",
    [[], [0], [6], [3] * 17, [6] * 33, [0] * 15 + [6] * 16 + [3] * 17, [1, 2, 3, 4, 5] * 4, list(range(7))],
    ids=["no rows", "first", "last", "one", "only the last", "around a tile", "ends empty", "one row each"],
)
def test_empty_experts_and_ragged_tiles(experts_of_rows: list[int]) -> None:
    dispatch = dispatch_of(experts_of_rows, 7)
    a, w, bias = normal(len(experts_of_rows), 9), normal(7, 9, 5, seed=1), normal(7, 5, seed=2)
    how: dict[str, Any] = {"gather": True, "activation": None}
    check(grouped_gemm(a, w, bias, dispatch, options=SMALL, **how), a, w, bias, dispatch, **how)


@pytest.mark.parametrize(("D", "H"), [(1, 1), (16, 16), (15, 17), (97, 47), (17, 65)])
@pytest.mark.parametrize("group", [1, 3, 100])
def test_any_width_and_order_of_tiles(D: int, H: int, group: int) -> None:
    dispatch = dispatch_of([0] * 40 + [1] * 3 + [2] * 17, 3)
    a, w, bias = normal(60, D), normal(3, D, H, seed=1), normal(3, H, seed=2)
    options = ProductOptions(columns=16, depth=32, warps=4, stages=3, group=group)
    how: dict[str, Any] = {"gather": True, "activation": "relu"}
    check(grouped_gemm(a, w, bias, dispatch, options=options, **how), a, w, bias, dispatch, **how)


@pytest.mark.parametrize("gather", [True, False])
@pytest.mark.parametrize("layout", ["transposed", "sliced", "expanded", "misaligned", "padded", "permuted"])
def test_any_strides(layout: str, gather: bool) -> None:
    N, D, H, E = 20, 12, 10, 3
    a, w, bias = normal(N, D), normal(E, D, H, seed=1), normal(E, H, seed=2)
    if layout == "transposed":
        a, w, bias = normal(D, N).t(), normal(E, H, D).transpose(1, 2), normal(H, E).t()
    elif layout == "sliced":
        a, w, bias = (
            normal(2 * N, 2 * D)[::2, 1::2],
            normal(E, 2 * D, H + 3)[:, ::2, 3:],
            normal(E, 2 * H)[:, ::2],
        )
    elif layout == "expanded":
        a, w, bias = normal(1, D).expand(N, D), normal(1, D, H).expand(E, D, H), normal(H).expand(E, H)
    elif layout == "misaligned":
        a, w = normal(N * D + 1)[1:].view(N, D), normal(E * D * H + 3)[3:].view(E, D, H)
    elif layout == "padded":
        a, w, bias = normal(N, 64)[:, :D], normal(E, 16, 64)[:, :D, :H], normal(E, 16)[:, :H]
    else:
        w = normal(D, H, E).permute(2, 0, 1)
    dispatch = dispatch_of([2, 0, 0, 1] * 5, E)
    how: dict[str, Any] = {"gather": gather, "activation": None}
    check(grouped_gemm(a, w, bias, dispatch, options=SMALL, **how), a, w, bias, dispatch, **how)


def test_the_result_may_have_another_dtype() -> None:
    dispatch = dispatch_of([1, 0, 1], 2)
    a, w, bias = (normal(*shape, dtype=torch.float16) for shape in ((3, 8), (2, 8, 4), (2, 4)))
    how: dict[str, Any] = {"gather": True, "activation": None}
    for got in (
        grouped_gemm(a, w, bias, dispatch, options=SMALL, out_dtype=torch.float32, **how),
        grouped_gemm_reference(a, w, bias, dispatch, out_dtype=torch.float32, **how),
    ):
        assert got.dtype == torch.float32
        check(got, a, w, bias, dispatch, **how)


@pytest.mark.parametrize("activation", [None, "relu", "gelu", "silu"])
def test_a_nan_row_touches_no_other_and_no_activation_hides_it(activation: Any) -> None:
    dispatch = dispatch_of([0, 1] * 9, 2)
    a, w, bias = normal(18, 8), normal(2, 8, 4, seed=1), normal(2, 4, seed=2)
    how: dict[str, Any] = {"gather": True, "activation": activation, "options": SMALL}
    clean = grouped_gemm(a, w, bias, dispatch, **how)
    a[0] = float("nan")
    bad = grouped_gemm(a, w, bias, dispatch, **how)
    slot = int(dispatch.slots[0, 0])
    assert bad[slot].isnan().all()
    others = torch.arange(18) != slot
    assert torch.equal(bad[others], clean[others])


@settings(max_examples=20, deadline=None, derandomize=True)
@given(data=st.data(), E=st.integers(1, 9), D=st.integers(1, 40), H=st.integers(1, 40), gather=st.booleans())
def test_any_routing(data: st.DataObject, E: int, D: int, H: int, gather: bool) -> None:
    dispatch = dispatch_of(data.draw(st.lists(st.integers(0, E - 1), max_size=50)), E)
    a, w, bias = normal(dispatch.rows.shape[0], D), normal(E, D, H, seed=1), normal(E, H, seed=2)
    how: dict[str, Any] = {"gather": gather, "activation": None}
    check(grouped_gemm(a, w, bias, dispatch, options=SMALL, **how), a, w, bias, dispatch, **how)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("mutant", ["experts swapped", "row dropped", "no bias", "activation", "not gathered", "short"])
def test_a_mutant_is_seen(mutant: str, dtype: torch.dtype) -> None:
    dispatch = dispatch_of([0, 1, 2, 1, 0, 2] * 3, 3)
    a, w, bias = (
        normal(18, 32, dtype=dtype),
        normal(3, 32, 8, dtype=dtype, seed=1),
        normal(3, 8, dtype=dtype, seed=2),
    )
    wrong: dict[str, Any] = {"a": a, "w": w, "bias": bias, "gather": True, "activation": "gelu"}
    if mutant == "experts swapped":
        wrong["w"] = w[[1, 0, 2]]
    elif mutant == "no bias":
        wrong["bias"] = torch.zeros_like(bias)
    elif mutant == "activation":
        wrong["activation"] = "silu"
    elif mutant == "not gathered":
        wrong["gather"] = False
    elif mutant == "short":
        wrong["a"] = a.clone()
        wrong["a"][:, -1] = 0
    got = grouped_gemm(**wrong, dispatch=dispatch, options=SMALL)
    if mutant == "row dropped":
        got[5] = 0
    with pytest.raises(AssertionError, match="wrong, worst by"):
        check(got, a, w, bias, dispatch, gather=True, activation="gelu")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a": torch.zeros(4, 9)}, r"w must have the shape \(E, D = 9, H\), not \(2, 8, 4\)"),
        ({"a": torch.zeros(5, 8), "gather": False}, r"a must have the shape \(M = 4, D\), not \(5, 8\)"),
        ({"a": torch.zeros(4, 8, dtype=torch.float16)}, "w must have the dtype of a, torch.float16"),
        (
            {"a": torch.zeros(4, 8, dtype=torch.float64)},
            "a must be torch.float32 or torch.float16 or torch.bfloat16",
        ),
        (
            {"w": torch.zeros(3, 8, 4), "bias": torch.zeros(3, 4)},
            "w must have the E = 2 experts of the dispatch, not 3",
        ),
        ({"w": torch.zeros(2, 8, 0)}, "w must have the shape"),
        ({"bias": torch.zeros(2, 5)}, r"bias must have the shape \(E = 2, H = 4\), not \(2, 5\)"),
        ({"activation": "tanh"}, "activation must be one of relu, gelu, silu, not 'tanh'"),
    ],
)
def test_wrong_arguments_are_refused(change: dict[str, Any], message: str) -> None:
    right = {
        "a": torch.zeros(4, 8),
        "w": torch.zeros(2, 8, 4),
        "bias": torch.zeros(2, 4),
        "dispatch": dispatch_of([0, 1, 0, 1], 2),
        "gather": True,
        "activation": None,
        "options": SMALL,
    }
    with pytest.raises(ValueError, match=message):
        grouped_gemm(**{**right, **change})
