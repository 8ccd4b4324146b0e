"""The grouped GEMM against float64 products of one row at a time."""

from dataclasses import replace
from itertools import product as product_of
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels.launch.launch import recording
from kernels.ops.dispatch import Dispatch, dispatch_reference
from kernels.ops.grouped_gemm import grouped_gemm, grouped_gemm_reference
from kernels.problem.options import Product
from tests.kernels.oracle import activated_magnitudes, assert_close, exact, product

PLAIN = Product(columns=16, depth=16, warps=4, stages=2, group=2)
SWAPPED = replace(PLAIN, columns=64, swapped=True)
DESCRIBED = replace(PLAIN, described=True)
PERSISTENT = replace(PLAIN, persistent=True)
FORMS = {
    "plain": PLAIN,
    "swapped": SWAPPED,
    "described": DESCRIBED,
    "persistent": PERSISTENT,
    "all three": replace(SWAPPED, described=True, persistent=True),
}
forms = pytest.mark.parametrize("options", FORMS.values(), ids=FORMS.keys())


def normal(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def apart(values: Tensor) -> Tensor:
    """Return the same values in rows of 64 or 128 amid NaN, which descriptors can read."""
    width = 64 if values.shape[-1] <= 64 else 128
    wide = torch.full((*values.shape[:-1], width), float("nan"), dtype=values.dtype)
    wide[..., : values.shape[-1]] = values
    return wide[..., : values.shape[-1]]


def dispatch_of(experts: list[int], E: int, k: int = 1) -> Dispatch:
    """Return the dispatch of one assignment after another, k to a row, in tiles of 16."""
    return dispatch_reference(torch.tensor(experts, dtype=torch.int32), E, tile_rows=16, k=k)


def slot_experts(dispatch: Dispatch) -> np.ndarray:
    """Return the expert of each slot that has one."""
    return np.repeat(np.arange(dispatch.experts), np.diff(dispatch.offsets.numpy()))


def check(
    got: Tensor, a: Tensor, w: Tensor, bias: Tensor | None, dispatch: Dispatch, *, gather: bool, activation: str | None
) -> None:
    """Fail unless `got` is the grouped product, or for partial sums adds up to it."""
    experts = slot_experts(dispatch)
    used = len(experts)
    rows = exact(a)[dispatch.rows[:used].numpy()] if gather else exact(a)[:used]
    weights, biases = exact(w), np.zeros(w.shape[::2]) if bias is None else exact(bias)
    expected = product(rows, experts, weights, biases, activation)
    sums = product(np.abs(rows), experts, np.abs(weights), np.abs(biases), None)
    sizes = activated_magnitudes(sums, activation)
    dtype = got.dtype
    if got.ndim == 3:
        got = got.double().sum(dim=0)
    assert_close(got[:used], expected, sizes, dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(
    ("activation", "form"),
    [
        ("relu", "plain"),
        ("gelu", "plain"),
        ("silu", "plain"),
        *product_of((None, "swiglu", "interleaved_swiglu"), FORMS),
    ],
)
def test_multiplies_by_each_expert(activation: Any, form: str, dtype: torch.dtype) -> None:
    dispatch = dispatch_of([0, 2, 1, 2, 0, 2] * 3, 3, k=2)  # 9 rows, 18 slots
    w, bias = apart(normal(3, 33, 48, dtype=dtype, seed=1)), normal(3, 48, dtype=dtype, seed=2)
    for gather in (True, False):
        a = apart(normal(9 if gather else 18, 33, dtype=dtype))
        how: dict[str, Any] = {"gather": gather, "activation": activation}
        check(grouped_gemm(a, w, bias, dispatch, options=FORMS[form], **how), a, w, bias, dispatch, **how)
        check(grouped_gemm_reference(a, w, bias, dispatch, **how), a, w, bias, dispatch, **how)


@forms
@pytest.mark.parametrize(
    "experts",
    [[0], [6], [3] * 17, [6] * 33, [0] * 15 + [6] * 16 + [3] * 17, [1, 2, 3, 4, 5] * 4, list(range(7))],
    ids=["first", "last", "one", "only the last", "around a tile", "ends empty", "one row each"],
)
def test_empty_experts_and_ragged_tiles(experts: list[int], options: Product) -> None:
    dispatch = dispatch_of(experts, 7)
    a, w, bias = apart(normal(len(experts), 9)), apart(normal(7, 9, 5, seed=1)), normal(7, 5, seed=2)
    for gather in (True, False):
        how: dict[str, Any] = {"gather": gather, "activation": None}
        check(grouped_gemm(a, w, bias, dispatch, options=options, **how), a, w, bias, dispatch, **how)


def test_no_assignments_give_an_empty_result_without_a_launch() -> None:
    with recording() as records:
        got = grouped_gemm(
            normal(0, 8), normal(3, 8, 4), None, dispatch_of([], 3), gather=True, activation=None, options=PLAIN
        )
    assert got.shape == (0, 4)
    assert records == []


@forms
@pytest.mark.parametrize(("D", "H"), [(1, 1), (16, 16), (97, 47), (17, 65)])
def test_any_width(D: int, H: int, options: Product) -> None:
    dispatch = dispatch_of([0] * 3 + [2] * 17, 3)
    a, w, bias = normal(20, D), apart(normal(3, D, H, seed=1)), normal(3, H, seed=2)
    options = replace(options, depth=32, stages=3)
    how: dict[str, Any] = {"gather": True, "activation": "relu"}
    check(grouped_gemm(a, w, bias, dispatch, options=options, **how), a, w, bias, dispatch, **how)


@pytest.mark.parametrize("splits", [1, 2])
@pytest.mark.parametrize(("group", "programs"), [(1, None), (3, None), (100, None), (3, 1), (2, 3), (1, 1000)])
def test_the_order_of_tiles_and_the_number_of_programs_change_nothing(splits: int, group: int, programs: Any) -> None:
    dispatch = dispatch_of([0] * 17 + [2] * 3, 3)
    a, w, bias = normal(20, 20), normal(3, 20, 40, seed=1), normal(3, 40, seed=2)
    how: dict[str, Any] = {"gather": True, "activation": None}
    options = replace(PLAIN, group=group, splits=splits, persistent=programs is not None)
    got = grouped_gemm(a, w, bias, dispatch, options=options, programs=programs, **how)
    assert torch.equal(got, grouped_gemm(a, w, bias, dispatch, options=replace(PLAIN, splits=splits), **how))
    check(got, a, w, bias, dispatch, **how)


@forms
@pytest.mark.parametrize("splits", [2, 4])
@pytest.mark.parametrize("D", [17, 64])
def test_partial_sums_add_up(D: int, splits: int, options: Product) -> None:
    dispatch = dispatch_of([0, 2, 1, 2, 0, 2] * 3, 3)
    a, w, bias = apart(normal(18, D)), apart(normal(3, D, 10, seed=1)), normal(3, 10, seed=2)
    how: dict[str, Any] = {"gather": False, "activation": None}
    got = grouped_gemm(a, w, bias, dispatch, options=replace(options, splits=splits), **how)
    assert got.shape == (splits, 18, 10)
    check(got, a, w, bias, dispatch, **how)


def test_partial_sums_of_half_precision_stay_fp32() -> None:
    dispatch = dispatch_of([1, 0, 1], 2)
    a, w = normal(3, 32, dtype=torch.float16), normal(2, 32, 4, dtype=torch.float16, seed=1)
    how: dict[str, Any] = {"gather": False, "activation": None}
    got = grouped_gemm(a, w, None, dispatch, options=replace(PLAIN, splits=2), **how)
    assert got.dtype == torch.float32
    check(got, a, w, None, dispatch, **how)


@pytest.mark.parametrize("gather", [True, False])
@pytest.mark.parametrize("activation", ["relu", "swiglu", "interleaved_swiglu"])
@pytest.mark.parametrize("layout", ["transposed", "sliced", "expanded", "misaligned", "padded", "permuted"])
def test_any_strides(layout: str, activation: Any, gather: bool) -> None:
    N, D, H, E = 20, 12, 10, 3
    a, w, bias = normal(N, D), normal(E, D, H, seed=1), normal(E, H, seed=2)
    if layout == "transposed":
        a, w, bias = normal(D, N).t(), normal(E, H, D).transpose(1, 2), normal(H, E).t()
    elif layout == "sliced":
        a, w, bias = (normal(2 * N, 2 * D)[::2, 1::2], normal(E, 2 * D, H + 3)[:, ::2, 3:], normal(E, 2 * H)[:, ::2])
    elif layout == "expanded":
        a, w, bias = normal(1, D).expand(N, D), normal(1, D, H).expand(E, D, H), normal(H).expand(E, H)
    elif layout == "misaligned":
        a, w = normal(N * D + 1)[1:].view(N, D), normal(E * D * H + 3)[3:].view(E, D, H)
    elif layout == "padded":
        a, w, bias = normal(N, 64)[:, :D], normal(E, 16, 64)[:, :D, :H], normal(E, 16)[:, :H]
    else:
        w = normal(D, H, E).permute(2, 0, 1)
    dispatch = dispatch_of([2, 0, 0, 1] * 5, E)
    how: dict[str, Any] = {"gather": gather, "activation": activation}
    check(grouped_gemm(a, w, bias, dispatch, options=PLAIN, **how), a, w, bias, dispatch, **how)


@pytest.mark.parametrize("aligned", [True, False])
def test_described_weights_leave_the_rows_any_strides(aligned: bool) -> None:
    dispatch = dispatch_of([2, 0, 0, 1] * 5, 3)
    a = apart(normal(20, 13)) if aligned else normal(20, 13)
    w = apart(normal(3, 13, 10, seed=1))
    how: dict[str, Any] = {"gather": False, "activation": None}
    with recording() as records:
        grouped_gemm(a, w, None, dispatch, options=DESCRIBED, **how)
    assert records[0].arguments["described_rows"] == aligned
    check(grouped_gemm(a, w, None, dispatch, options=DESCRIBED, **how), a, w, None, dispatch, **how)


@forms
@pytest.mark.parametrize("activation", [None, "swiglu"])
@pytest.mark.parametrize("gather", [True, False])
def test_weights_of_other_experts_touch_no_row(gather: bool, activation: Any, options: Product) -> None:
    dispatch = dispatch_of([1] * 20 + [3] * 5, 5)
    a, w, bias = apart(normal(25, 19)), apart(normal(5, 19, 24, seed=1)), normal(5, 24, seed=2)
    w[::2] = float("nan")
    bias[::2] = float("nan")
    how: dict[str, Any] = {"gather": gather, "activation": activation}
    check(grouped_gemm(a, w, bias, dispatch, options=options, **how), a, w, bias, dispatch, **how)
    w[3] = float("inf")
    got = grouped_gemm(a, w, bias, dispatch, options=options, **how)
    assert got[:20].isfinite().all()
    assert not got[20:].isfinite().any()


@forms
@pytest.mark.parametrize("gather", [True, False])
def test_slots_of_no_expert_are_left_alone(gather: bool, options: Product) -> None:
    dispatch = dispatch_of([1, -1, 0, -1, 1] * 4, 2)
    a, w = apart(normal(20, 8)), apart(normal(2, 8, 4, seed=1))
    how: dict[str, Any] = {"gather": gather, "activation": "relu"}
    got = grouped_gemm(a, w, None, dispatch, options=options, **how)
    check(got, a, w, None, dispatch, **how)
    assert got[12:].isnan().all()  # as the memory was poisoned


@pytest.mark.parametrize("activation", [None, "swiglu"])
@pytest.mark.parametrize("precision", ["ieee", "tf32"])
def test_without_a_bias_in_either_precision(precision: Any, activation: Any) -> None:
    dispatch = dispatch_of([1, 0, 1], 2)
    a, w = normal(3, 8), normal(2, 8, 4, seed=1)
    how: dict[str, Any] = {"gather": True, "activation": activation}
    check(grouped_gemm(a, w, None, dispatch, options=PLAIN, precision=precision, **how), a, w, None, dispatch, **how)
    check(grouped_gemm_reference(a, w, None, dispatch, **how), a, w, None, dispatch, **how)


def test_the_result_may_have_another_dtype() -> None:
    dispatch = dispatch_of([1, 0, 1], 2)
    a, w, bias = (normal(*shape, dtype=torch.float16) for shape in ((3, 8), (2, 8, 4), (2, 4)))
    how: dict[str, Any] = {"gather": True, "activation": None}
    for got in (
        grouped_gemm(a, w, bias, dispatch, options=PLAIN, out_dtype=torch.float32, **how),
        grouped_gemm_reference(a, w, bias, dispatch, out_dtype=torch.float32, **how),
    ):
        assert got.dtype == torch.float32
        check(got, a, w, bias, dispatch, **how)


@forms
@pytest.mark.parametrize("activation", ["relu", "swiglu", "interleaved_swiglu"])
def test_a_nan_row_touches_no_other_and_no_activation_hides_it(activation: Any, options: Product) -> None:
    dispatch = dispatch_of([0, 1] * 9, 2)
    a, w, bias = normal(18, 8), apart(normal(2, 8, 8, seed=1)), normal(2, 8, seed=2)
    how: dict[str, Any] = {"gather": True, "activation": activation, "options": options}
    clean = grouped_gemm(a, w, bias, dispatch, **how)
    a[0] = float("nan")
    bad = grouped_gemm(a, w, bias, dispatch, **how)
    slot = int(dispatch.slots[0])
    assert bad[slot].isnan().all()
    others = torch.arange(18) != slot
    assert torch.equal(bad[others], clean[others])


def test_a_gate_far_below_zero_closes() -> None:
    w = torch.tensor([[[-1e4, -60.0, 60.0, 1.0, 1.0, 2.0]]])
    got = grouped_gemm(torch.ones(1, 1), w, None, dispatch_of([0], 1), gather=True, activation="swiglu", options=PLAIN)
    assert got[0].tolist() == [0.0, pytest.approx(0.0, abs=1e-20), 120.0]


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    data=st.data(),
    E=st.integers(1, 9),
    D=st.integers(1, 40),
    H=st.integers(1, 20),
    gather=st.booleans(),
    form=st.sampled_from(sorted(FORMS)),
    activation=st.sampled_from(["relu", "swiglu", "interleaved_swiglu"]),
)
def test_any_routing(data: st.DataObject, E: int, D: int, H: int, gather: bool, form: str, activation: Any) -> None:
    dispatch = dispatch_of(data.draw(st.lists(st.integers(-1, E - 1), max_size=40)), E)
    wide = 8 * (H // 4 + 1) if "swiglu" in activation else H  # halves that descriptors can read
    a, w, bias = normal(dispatch.rows.shape[0], D), apart(normal(E, D, wide, seed=1)), normal(E, wide, seed=2)
    how: dict[str, Any] = {"gather": gather, "activation": activation}
    check(grouped_gemm(a, w, bias, dispatch, options=FORMS[form], **how), a, w, bias, dispatch, **how)


MUTANTS = [
    "experts swapped",
    "row dropped",
    "no bias",
    "activation",
    "halves swapped",
    "gate and up swapped",
    "not gathered",
    "short",
    "next row",
]


@forms
@pytest.mark.parametrize("gather", [True, False])
@pytest.mark.parametrize("D", [24, 859])
def test_of_all_numbers_only_m_follows_the_rows(D: int, gather: bool, options: Product) -> None:
    seen = []
    for M in (1, 2, 16, 500):
        w, dispatch = apart(normal(3, D, 32)), dispatch_of([0] * M, 3)
        with recording() as records:
            grouped_gemm(normal(M, D), w, None, dispatch, gather=gather, activation=None, options=options)
        arguments = records[0].arguments
        seen.append({name: value for name, value in arguments.items() if isinstance(value, int) and name != "M"})
    assert seen == seen[:1] * 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_is_seen(mutant: str, dtype: torch.dtype) -> None:
    dispatch = dispatch_of([0, 1, 2, 1, 0, 2] * 3, 3)
    a = normal(18, 32, dtype=dtype)
    w, bias = normal(3, 32, 8, dtype=dtype, seed=1), normal(3, 8, dtype=dtype, seed=2)
    activations = {"halves swapped": "swiglu", "gate and up swapped": "interleaved_swiglu"}
    activation: Any = activations.get(mutant, "gelu")
    wrong: dict[str, Any] = {"a": a, "w": w, "bias": bias, "gather": True, "activation": activation}
    if mutant == "experts swapped":
        wrong["w"] = w[[1, 0, 2]]
    elif mutant == "no bias":
        wrong["bias"] = None
    elif mutant == "activation":
        wrong["activation"] = "silu"
    elif mutant == "halves swapped":
        wrong |= {"w": w.roll(4, dims=2), "bias": bias.roll(4, dims=1)}
    elif mutant == "gate and up swapped":
        wrong |= {"w": w.unflatten(2, (4, 2)).flip(3).flatten(2), "bias": bias.unflatten(1, (4, 2)).flip(2).flatten(1)}
    elif mutant == "not gathered":
        wrong["gather"] = False
    elif mutant == "short":
        wrong["a"] = a.clone()
        wrong["a"][:, -1] = 0
    got = grouped_gemm(**wrong, dispatch=dispatch, options=PLAIN)
    if mutant == "row dropped":
        got[5] = 0
    elif mutant == "next row":
        got = got.roll(1, dims=0)
    with pytest.raises(AssertionError, match="wrong, worst by"):
        check(got, a, w, bias, dispatch, gather=True, activation=activation)


@pytest.mark.parametrize("part", [0, 1, 3])
def test_a_dropped_part_is_seen(part: int) -> None:
    dispatch = dispatch_of([0, 1, 2, 1, 0, 2] * 3, 3)
    a, w, bias = normal(18, 64), normal(3, 64, 8, seed=1), normal(3, 8, seed=2)
    how: dict[str, Any] = {"gather": True, "activation": None}
    got = grouped_gemm(a, w, bias, dispatch, options=replace(PLAIN, splits=4), **how)
    got[part] = 0
    with pytest.raises(AssertionError, match="wrong, worst by"):
        check(got, a, w, bias, dispatch, **how)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a": torch.zeros(4, 9)}, r"w must have the shape \(E, D = 9, H\), not \(2, 8, 4\)"),
        ({"a": torch.zeros(5, 8), "gather": False}, r"a must have the shape \(M = 4, D\), not \(5, 8\)"),
        ({"a": torch.zeros(4, 8, dtype=torch.float16)}, "w must have the dtype of a, torch.float16"),
        ({"a": torch.zeros(4, 8, dtype=torch.float64)}, "a must be torch.float32 or torch.float16 or torch.bfloat16"),
        (
            {"w": torch.zeros(3, 8, 4), "bias": torch.zeros(3, 4)},
            "w must have the E = 2 experts of the dispatch, not 3",
        ),
        ({"w": torch.zeros(2, 8, 0)}, "w must have the shape"),
        ({"bias": torch.zeros(2, 5)}, r"bias must have the shape \(E = 2, H = 4\), not \(2, 5\)"),
        (
            {"activation": "swiglu", "bias": torch.zeros(2, 2)},
            r"bias must have the shape \(E = 2, 2H = 4\), not \(2, 2\)",
        ),
        ({"activation": "swiglu", "w": torch.zeros(2, 8, 3), "bias": None}, "w must have 2H columns for swiglu, not 3"),
        ({"activation": "tanh"}, "activation must be one of relu, gelu, silu, swiglu, interleaved_swiglu, not 'tanh'"),
        (
            {"activation": "relu", "options": replace(PLAIN, splits=2)},
            "a product in 2 parts cannot apply relu: no part knows the sum",
        ),
        ({"w": torch.zeros(2, 8, 5)[:, :, :4], "options": DESCRIBED}, "w cannot be read through a tensor descriptor"),
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
        "options": PLAIN,
    }
    with pytest.raises(ValueError, match=message):
        grouped_gemm(**{**right, **change})
