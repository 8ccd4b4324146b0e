"""The whole sparse head against a float64 oracle, and what must hold whatever its numbers."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels.launch import recording
from kernels.moe import EXACT_COLUMNS, sparse_moe, sparse_moe_reference
from kernels.options import Options, ProductOptions
from tests.kernels.problems import AWKWARD, MUTANTS, assert_solves, padded, problem, turned

PART = ProductOptions(columns=16, depth=16, warps=4, stages=2)
SMALL = Options(tile_rows=16, first=PART, second=PART)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(("N", "D", "H", "E", "k", "C"), AWKWARD)
def test_awkward_shapes(N: int, D: int, H: int, E: int, k: int, C: int, dtype: torch.dtype) -> None:
    case = problem(N, D, H, E, C, dtype, k=k)
    assert_solves(case.run(sparse_moe, options=SMALL), case)
    assert_solves(case.run(sparse_moe_reference), case)


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu"])
@pytest.mark.parametrize("weights_over", ["selected", "all"])
@pytest.mark.parametrize("standardise", [False, True])
def test_every_setting(activation: str, weights_over: str, standardise: bool) -> None:
    case = problem(
        19,
        24,
        20,
        5,
        6,
        activation=activation,
        temperature=0.5,
        standardise=standardise,
        weights_over=weights_over,
    )
    assert_solves(case.run(sparse_moe, options=SMALL), case)
    assert_solves(case.run(sparse_moe_reference), case)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("N", [3, 70, 140])
def test_default_options_at_every_tile_height(N: int, dtype: torch.dtype) -> None:
    case = problem(N, 40, 24, 1, 10, dtype, k=1)
    assert_solves(case.run(sparse_moe), case)


@pytest.mark.parametrize("C", [EXACT_COLUMNS, EXACT_COLUMNS + 1])
def test_narrow_and_wide_outputs(C: int) -> None:
    case = problem(5, 16, 16, 4, C, torch.float16)
    assert_solves(case.run(sparse_moe), case)


@pytest.mark.parametrize("used", [[0], [3], [6], [0, 6], [1, 2, 3, 4, 5]], ids=str)
def test_unused_experts_may_hold_anything(used: list[int]) -> None:
    case = problem(20, 16, 16, 7, 4, k=1)
    case.scores[:, [e for e in range(7) if e not in used]] = -float("inf")
    expected = case.run(sparse_moe, options=SMALL)
    assert_solves(expected, case)
    for parameter in (case.w1, case.b1, case.w2, case.b2):
        parameter[[e for e in range(7) if e not in used]] = float("nan")
    assert torch.equal(case.run(sparse_moe, options=SMALL), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_any_strides(dtype: torch.dtype) -> None:
    case = problem(21, 17, 12, 5, 7, dtype)
    assert_solves(padded(case).run(sparse_moe, options=SMALL), case)
    assert_solves(turned(case).run(sparse_moe, options=SMALL), case)
    shared = case.but(x=case.x[:1].expand(21, 17), w1=case.w1[:1].expand(5, 17, 12), b2=case.b2[0].expand(5, 7))
    assert_solves(shared.run(sparse_moe, options=SMALL), shared)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    N=st.integers(0, 40),
    D=st.integers(1, 30),
    H=st.integers(1, 20),
    E=st.integers(1, 9),
    C=st.integers(1, 20),
    skew=st.sampled_from([0.0, 1.0, 100.0]),
    data=st.data(),
)
def test_any_shape_and_skew(N: int, D: int, H: int, E: int, C: int, skew: float, data: st.DataObject) -> None:
    case = problem(N, D, H, E, C, k=data.draw(st.integers(1, E)), seed=data.draw(st.integers(0, 99)))
    case.scores.add_(skew * torch.arange(E))
    assert_solves(case.run(sparse_moe, options=SMALL), case)


def test_rows_are_independent() -> None:
    case = problem(34, 16, 16, 5, 6)
    order = torch.randperm(34, generator=torch.Generator().manual_seed(3))
    permuted = case.but(x=case.x[order], scores=case.scores[order])
    part = case.but(x=case.x[5:12], scores=case.scores[5:12])
    whole = case.run(sparse_moe, options=SMALL)
    torch.testing.assert_close(permuted.run(sparse_moe, options=SMALL), whole[order], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(part.run(sparse_moe, options=SMALL), whole[5:12], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("where", ["x", "scores"])
def test_a_nan_row_touches_no_other(where: str) -> None:
    case = problem(34, 16, 16, 5, 6, standardise=True)
    getattr(case, where)[13] = float("nan")
    got = case.run(sparse_moe, options=SMALL)
    others = torch.arange(34) != 13
    assert got[13].isnan().all()
    assert_solves(got[others], case.but(x=case.x[others], scores=case.scores[others]))


def test_runs_repeat_to_the_bit() -> None:
    case = problem(50, 16, 16, 5, 6, torch.float16)
    assert torch.equal(case.run(sparse_moe), case.run(sparse_moe))


def test_never_reads_the_device() -> None:
    case = problem(50, 16, 16, 5, 6, torch.bfloat16)
    tensors = {name: value.to("meta") for name, value in vars(case).items() if isinstance(value, Tensor)}
    with recording() as records:  # reading a meta tensor would raise
        out = case.but(**tensors).run(sparse_moe)
    assert (out.shape, out.dtype) == ((50, 6), torch.bfloat16)
    assert [launch.kernel.__name__ for launch in records] == [
        "_top_k_kernel",
        "_count_kernel",
        "_place_kernel",
        "_grouped_gemm_kernel",
        "_grouped_gemm_kernel",
        "_combine_kernel",
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_is_seen(mutant: str, dtype: torch.dtype) -> None:
    case = problem(12, 16, 16, 4, 6, dtype, activation="gelu")
    wrong = case.but(**MUTANTS[mutant](case)).run(sparse_moe, options=SMALL)
    with pytest.raises(AssertionError, match="wrong, worst by"):
        assert_solves(wrong, case)


def test_inference_only() -> None:
    case = problem(3, 8, 8, 4, 2)
    case.w1.requires_grad_()
    with pytest.raises(ValueError, match=r"inference only, but w1 requires a gradient: use torch.no_grad\(\)"):
        case.run(sparse_moe)
    with torch.no_grad():
        assert_solves(case.run(sparse_moe), case)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(3, 9)}, r"w1 must have the shape \(E = 4, D = 9, H\), not \(4, 8, 8\)"),
        ({"x": torch.zeros(2, 8)}, r"scores must have the shape \(N = 2, E\), not \(3, 4\)"),
        ({"w2": torch.zeros(4, 7, 2)}, r"w2 must have the shape \(E = 4, H = 8, C\), not \(4, 7, 2\)"),
        ({"b1": torch.zeros(8)}, r"b1 must have the shape \(E = 4, H = 8\), not \(8,\)"),
        ({"b2": torch.zeros(4, 3)}, r"b2 must have the shape \(E = 4, C = 2\), not \(4, 3\)"),
        ({"w2": torch.zeros(4, 8, 2, dtype=torch.float16)}, "w2 must have the dtype of x, torch.float32"),
        ({"x": torch.zeros(3, 8, dtype=torch.float64)}, "x must be torch.float32 or torch.float16"),
        (
            {"scores": torch.zeros(3, 4, dtype=torch.float16)},
            "scores must be torch.float32, not torch.float16",
        ),
        ({"b2": torch.zeros(4, 2, device="meta")}, "all tensors must be on one device"),
        ({"k": 5}, "k must be between 1 and E = 4, not 5"),
        ({"temperature": -1.0}, "temperature must be above 0 and finite, not -1.0"),
        ({"activation": "tanh"}, "activation must be one of relu, gelu, silu, not 'tanh'"),
        ({"weights_over": "none"}, 'weights_over must be "selected" or "all"'),
    ],
)
def test_wrong_arguments_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        problem(3, 8, 8, 4, 2).but(**change).run(sparse_moe)
