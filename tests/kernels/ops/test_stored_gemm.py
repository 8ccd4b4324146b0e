"""The grouped GEMM with weights stored in 8 and 4 bits, against float64 products with weights decoded bit by bit."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kernels.cost.machine import A100, H100, Machine, assuming
from kernels.launch.launch import recording
from kernels.ops.dispatch import Dispatch, dispatch_reference
from kernels.ops.stored_gemm import stored_gemm
from kernels.problem.options import Product
from kernels.problem.stored import SCHEMES, Stored, stored
from tests.kernels.narrow import decoded
from tests.kernels.oracle import activated_magnitudes, assert_close, exact, product

PLAIN = Product(columns=64, depth=32, warps=4, stages=2, group=2, swapped=True)
schemes = pytest.mark.parametrize("scheme", SCHEMES)


def normal(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def weights(scheme: Any, E: int, D: int, H: int) -> Stored:
    """Return random weights; their scales differ from expert to expert, and from column to column if they can."""
    E_, H_ = torch.arange(1, E + 1)[:, None, None], 1 + torch.arange(H) % 3
    return stored(normal(E, D, H, seed=1) * E_ * H_, scheme)


def dispatch_of(experts: list[int], E: int) -> Dispatch:
    return dispatch_reference(torch.tensor(experts, dtype=torch.int32), E, tile_rows=16, k=1)


def check(
    got: Tensor, a: Tensor, w: Stored, bias: Tensor | None, dispatch: Dispatch, *, gather: bool, activation: Any
) -> None:
    """Fail unless `got` is the grouped product, or for partial sums adds up to it."""
    experts = np.repeat(np.arange(dispatch.experts), np.diff(dispatch.offsets.numpy()))
    rows = exact(a)[dispatch.rows[: len(experts)].numpy()] if gather else exact(a)[: len(experts)]
    full = decoded(w)
    biases = np.zeros(full.shape[::2]) if bias is None else exact(bias)
    expected = product(rows, experts, full, biases, activation)
    sums = product(np.abs(rows), experts, np.abs(full), np.abs(biases), None)
    dtype = got.dtype
    got = got.double().sum(dim=0) if got.ndim == 3 else got
    assert_close(got[: len(experts)], expected, activated_magnitudes(sums, activation), dtype)


@schemes
@pytest.mark.parametrize(
    ("activation", "dtype"),
    [(None, torch.float32), ("gelu", torch.float16), ("swiglu", torch.float16), ("interleaved_swiglu", torch.float32)],
)
def test_multiplies_by_each_expert(activation: Any, dtype: torch.dtype, scheme: Any) -> None:
    dispatch = dispatch_of([0, 2, 3, 2, 0, 2] * 3 + [2] * 16, 5)  # experts 1 and 4 are empty
    w, bias = weights(scheme, 5, 160, 140), normal(5, 140, dtype=dtype, seed=2)
    how: dict[str, Any] = {"gather": True, "activation": activation}
    a = normal(34, 160, dtype=dtype)
    check(stored_gemm(a, w, bias, dispatch, options=PLAIN, **how), a, w, bias, dispatch, **how)


@schemes
@pytest.mark.parametrize(
    ("D", "H", "depth"),
    [(32, 1, 64), (96, 129, 32), (96, 65, 128), (160, 65, 64), (1, 1, 32), (33, 7, 128), (129, 131, 64)],
)
def test_any_width(D: int, H: int, depth: int, scheme: Any) -> None:
    if scheme == "mxfp4" and D % 32:
        pytest.skip("mxfp4 shares a scale among 32 input columns")
    dispatch = dispatch_of([0] * 3 + [2] * 17, 3)
    a, w, bias = normal(20, D), weights(scheme, 3, D, H), normal(3, H, seed=2)
    for gather, splits in ((True, 1), (False, 2)):
        how: dict[str, Any] = {"gather": gather, "activation": None}
        options = replace(PLAIN, depth=depth, splits=splits)
        check(stored_gemm(a, w, bias, dispatch, options=options, **how), a, w, bias, dispatch, **how)


@schemes
@pytest.mark.parametrize("machine", [A100, H100], ids=["integers", "converts"])
def test_every_code(machine: Machine, scheme: Any) -> None:
    codes = torch.arange(256).reshape(1, 2, 128).transpose(1, 2).contiguous()  # (1, 128, 2)
    w = weights(scheme, 1, 128, 2)
    if scheme == "mxfp4":
        words = torch.randint(-(2**31), 2**31, (1, 16, 2), generator=torch.Generator().manual_seed(0))
        w = replace(w, values=words.int())
    else:
        finite = torch.where(codes % 128 == 127, 0, codes)
        w = replace(w, values=finite.to(torch.uint8).view(torch.float8_e4m3fn))
    a, dispatch = torch.eye(128), dispatch_of([0] * 128, 1)
    how: dict[str, Any] = {"gather": True, "activation": None}
    with assuming(machine):
        got = stored_gemm(a, w, None, dispatch, options=PLAIN, **how)
    np.testing.assert_allclose(exact(got), decoded(w)[0], rtol=1e-6)


def test_nan_is_a_weight_too() -> None:
    w = weights("fp8", 2, 32, 3)
    w.values.view(torch.uint8)[1, 5, 2] = 0xFF
    a, dispatch = normal(4, 32), dispatch_of([0, 1, 0, 1], 2)
    with assuming(A100):  # the interpreter itself reads 480
        got = stored_gemm(a, w, None, dispatch, options=PLAIN, gather=True, activation=None)
    assert got.isnan().nonzero().tolist() == [[2, 2], [3, 2]]


@schemes
def test_scales_of_other_experts_touch_no_row(scheme: Any) -> None:
    dispatch = dispatch_of([1] * 20 + [3] * 5, 5)
    a, w = normal(25, 64), weights(scheme, 5, 64, 24)
    how: dict[str, Any] = {"gather": True, "activation": "swiglu"}
    w.scales[::2] = 255 if scheme == "mxfp4" else torch.nan
    check(stored_gemm(a, w, None, dispatch, options=PLAIN, **how), a, w, None, dispatch, **how)
    w.scales[3] = 255 if scheme == "mxfp4" else torch.nan
    got = stored_gemm(a, w, None, dispatch, options=PLAIN, **how)
    assert got[:20].isfinite().all()
    assert got[20:].isnan().all()


@pytest.mark.parametrize("scale", [66, 90, 127, 192])
def test_scales_of_any_size(scale: int) -> None:
    w = weights("mxfp4", 1, 32, 4)
    w.scales[:] = scale
    a, dispatch = normal(3, 32), dispatch_of([0, 0, 0], 1)
    got = stored_gemm(a, w, None, dispatch, options=PLAIN, gather=True, activation=None)
    np.testing.assert_allclose(exact(got), exact(a) @ decoded(w)[0], rtol=1e-5)


@pytest.mark.parametrize("scale", [194, 254, 255])
def test_too_large_scales_and_nan_are_seen(scale: int) -> None:
    w = weights("mxfp4", 1, 32, 4)
    w.scales[0, 0, 2] = scale
    dispatch = dispatch_of([0, 0, 0], 1)
    got = stored_gemm(normal(3, 32), w, None, dispatch, options=PLAIN, gather=True, activation=None)
    assert got.isnan().nonzero()[:, 1].tolist() == [2, 2, 2]


@schemes
def test_any_strides(scheme: Any) -> None:
    w, dispatch = weights(scheme, 3, 64, 70), dispatch_of([2, 0, 0, 1] * 5, 3)
    how: dict[str, Any] = {"gather": False, "activation": None}
    scales = torch.stack([w.scales, w.scales], dim=-1)[..., 0]
    for values in (w.values.contiguous(), w.values.permute(2, 1, 0).contiguous().permute(2, 1, 0)):
        a = normal(64, 20).t()
        other = Stored(values, scales)
        check(stored_gemm(a, other, None, dispatch, options=PLAIN, **how), a, w, None, dispatch, **how)


def mutant(w: Stored, name: str) -> Stored:
    """Return weights that are read wrong in one way."""
    if name == "scales dropped":
        return replace(w, scales=torch.full_like(w.scales, 127) if w.scheme == "mxfp4" else torch.ones_like(w.scales))
    if name == "experts swapped":
        return replace(w, scales=w.scales[[1, 0, 2]])
    if name == "next group":
        return replace(w, scales=w.scales.roll(1, dims=1))
    if name == "next column":
        return replace(w, scales=w.scales.roll(1, dims=-1))
    if name == "halves swapped":
        return replace(w, values=(w.values << 16) | (w.values >> 16 & 0xFFFF))
    assert name == "words swapped"
    return replace(w, values=w.values.unflatten(1, (-1, 2)).flip(2).flatten(1, 2))


@pytest.mark.parametrize(
    ("scheme", "name"),
    [
        *((scheme, name) for scheme in SCHEMES for name in ("scales dropped", "experts swapped")),
        *((scheme, "next group") for scheme in ("fp8_blocks", "mxfp4")),
        *((scheme, "next column") for scheme in ("fp8_channels", "fp8_blocks", "mxfp4")),
        *(("mxfp4", name) for name in ("halves swapped", "words swapped")),
    ],
)
def test_a_mutant_is_seen(scheme: Any, name: str) -> None:
    dispatch = dispatch_of([0, 1, 2, 1, 0, 2] * 3, 3)
    a, w = normal(18, 160, dtype=torch.float16), weights(scheme, 3, 160, 140)
    how: dict[str, Any] = {"gather": True, "activation": None}
    wrong = stored_gemm(a, mutant(w, name), None, dispatch, options=PLAIN, **how)
    with pytest.raises(AssertionError, match="wrong, worst by"):
        check(wrong, a, w, None, dispatch, **how)


@schemes
def test_no_assignments_give_an_empty_result_without_a_launch(scheme: Any) -> None:
    with recording() as records:
        w = weights(scheme, 3, 32, 4)
        got = stored_gemm(normal(0, 32), w, None, dispatch_of([], 3), gather=True, activation=None, options=PLAIN)
    assert got.shape == (0, 4)
    assert records == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a": torch.zeros(4, 33)}, r"w must have the shape \(E, D = 33, H\), not \(2, 32, 4\)"),
        (
            {"w": stored(torch.zeros(3, 32, 4), "fp8"), "bias": None},
            "w must have the E = 2 experts of the dispatch, not 3",
        ),
        ({"activation": "relu", "options": replace(PLAIN, splits=2)}, "a product in 2 parts cannot apply relu"),
        ({"options": replace(PLAIN, swapped=False)}, "is swapped, and neither described nor persistent"),
        ({"options": replace(PLAIN, depth=16)}, "a product with stored weights reads 32 to 128 deep, not 16"),
    ],
)
def test_wrong_arguments_are_refused(change: dict[str, Any], message: str) -> None:
    right = {
        "a": torch.zeros(4, 32),
        "w": stored(torch.zeros(2, 32, 4), "mxfp4"),
        "bias": torch.zeros(2, 4),
        "dispatch": dispatch_of([0, 1, 0, 1], 2),
        "gather": True,
        "activation": None,
        "options": PLAIN,
    }
    with pytest.raises(ValueError, match=message):
        stored_gemm(**{**right, **change})
