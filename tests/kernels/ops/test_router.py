"""The router against a float64 oracle."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels.launch.launch import recording
from kernels.ops.router import Routed, route, route_reference
from kernels.problem.options import Router
from kernels.problem.routes import Gate
from tests.kernels import oracle
from tests.kernels.oracle import exact

MODES = [(False, "selected"), (False, "all"), (True, "selected"), (True, "all")]
SMALL = Router(tile_rows=16, depth=16, warps=4, stages=2)
NAN, INF = float("nan"), float("inf")


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def problem(N: int, D: int, E: int, k: int, dtype: torch.dtype = torch.float32, **how: Any) -> tuple[Tensor, Gate]:
    """Return features and a gate whose scores are of the order of 1."""
    weight = normal(E, D, seed=1, dtype=dtype) / D**0.5
    return normal(N, D, dtype=dtype), Gate(weight, normal(E, seed=2, dtype=dtype), k, **how)


def given_scores(scores: Tensor, k: int, **how: Any) -> tuple[Tensor, Gate]:
    """Return features and a gate whose scores are these finite ones exactly."""
    return torch.eye(len(scores)), Gate(scores.t(), None, k, **how)


def expected(x: Tensor, gate: Gate) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids and weights (N, k) of the oracle."""
    scores = exact(x) @ exact(gate.weight).T + (0 if gate.bias is None else exact(gate.bias))
    how = {"temperature": gate.temperature, "standardise": gate.standardise, "weights_over": gate.weights_over}
    return oracle.route(scores, gate.k, **how)


def check_weights(ids: Tensor, weights: Tensor, x: Tensor, gate: Gate) -> None:
    """Fail unless ids and weights are those of the oracle."""
    expected_ids, expected_weights = expected(x, gate)
    assert (ids.dtype, weights.dtype) == (torch.int32, torch.float32)
    np.testing.assert_array_equal(ids, expected_ids)
    np.testing.assert_allclose(weights, expected_weights, rtol=2e-5, atol=1e-30)


def check(routed: Routed, x: Tensor, gate: Gate) -> None:
    """Fail unless `routed` is the routing of the oracle, counted block by block."""
    check_weights(routed.ids, routed.weights, x, gate)
    blocks = routed.ids.flatten().split(routed.block) if len(x) else ()
    E = len(gate.weight)
    assert routed.counts.dtype == torch.int32
    assert routed.counts.shape == (len(blocks), E)
    for counts, block in zip(routed.counts, blocks, strict=True):
        assert counts.tolist() == [int((block == e).sum()) for e in range(E)]


@pytest.mark.parametrize(("standardise", "weights_over"), MODES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(
    ("N", "D", "E", "k"),
    [(1, 1, 1, 1), (15, 16, 7, 3), (16, 33, 7, 7), (17, 47, 8, 1), (33, 97, 60, 4), (2, 20, 384, 8)],
)
def test_routes_as_the_oracle(
    N: int, D: int, E: int, k: int, dtype: torch.dtype, standardise: bool, weights_over: Any
) -> None:
    x, gate = problem(N, D, E, k, dtype, temperature=0.7, standardise=standardise, weights_over=weights_over)
    check(route(x, gate, SMALL), x, gate)
    check_weights(*route_reference(x, gate), x, gate)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_no_rows(dtype: torch.dtype) -> None:
    x, gate = problem(0, 9, 7, 3, dtype)
    check(route(x, gate, SMALL), x, gate)
    check_weights(*route_reference(x, gate), x, gate)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("splits", [1, 2, 4])
@pytest.mark.parametrize("tile_rows", [16, 32, 64])
def test_any_tile_and_split(tile_rows: int, splits: int, dtype: torch.dtype) -> None:
    x, gate = problem(tile_rows + 1, 83, 11, 2, dtype)
    options = Router(tile_rows=tile_rows, depth=32, warps=4, stages=2, splits=splits)
    routed = route(x, gate, options)
    check(routed, x, gate)
    again = route(x, gate, options)
    assert torch.equal(again.weights, routed.weights)


@pytest.mark.parametrize("splits", [1, 4])
def test_deep_sums_keep_fp32(splits: int) -> None:
    x, gate = problem(2, 14336, 3, 2, torch.float16)
    check(route(x, gate, replace(SMALL, depth=256, splits=splits)), x, gate)


def test_an_fp32_gate_of_half_features_is_not_rounded() -> None:
    x, gate = problem(9, 40, 5, 2)
    half = x.half()
    check(route(half, gate, SMALL), half, gate)
    check_weights(*route_reference(half, gate), half, gate)
    with pytest.raises(AssertionError):
        check(route(half, replace(gate, weight=gate.weight.half(), bias=gate.bias.half()), SMALL), half, gate)


def test_the_reference_keeps_fp64() -> None:
    x, gate = problem(9, 40, 5, 2, torch.float64)
    _, weights = route_reference(x, gate)
    assert weights.dtype == torch.float64
    np.testing.assert_allclose(weights, expected(x, gate)[1], rtol=1e-13)


@pytest.mark.parametrize("k", [1, 3, 6])
def test_equal_scores_go_to_the_lowest_ids(k: int) -> None:
    rows = [[0, 0, 0, 0, 0, 0], [1, 2, 2, 2, 1, 0], [5, 0, 0, 0, 0, 5], [-1, -1, -1, -2, -2, -2]]
    x, gate = given_scores(torch.tensor(rows).float(), k)
    check(route(x, gate, SMALL), x, gate)
    check_weights(*route_reference(x, gate), x, gate)


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("scores", [[0, NAN, 1, INF, -INF], [NAN] * 5, [-INF] * 5, [INF, 1, INF, NAN, INF]])
def test_nan_and_infinity_give_k_experts_in_range(scores: list[float], k: int) -> None:
    x = torch.zeros(1, 3)
    gate = Gate(torch.zeros(5, 3), torch.tensor(scores), k)
    ids = torch.sort(gate.bias, descending=True, stable=True).indices[:k] if k < 5 else torch.arange(5)
    routed = route(x, gate, SMALL)
    for chosen, weights in ((routed.ids, routed.weights), route_reference(x, gate)):
        assert chosen.tolist() == [ids.tolist()]
        assert weights.isnan().all()
    assert routed.counts.tolist() == [[int(e in ids) for e in range(5)]]


@pytest.mark.parametrize(("standardise", "weights_over"), MODES)
@pytest.mark.parametrize("poison", [NAN, INF, -INF])
def test_a_bad_row_has_valid_ids_and_leaves_the_others_alone(
    poison: float, standardise: bool, weights_over: Any
) -> None:
    x, gate = problem(20, 9, 7, 3, standardise=standardise, weights_over=weights_over)
    clean = route(x, gate, SMALL)
    x[11, 4] = poison
    bad = route(x, gate, SMALL)
    others = torch.arange(20) != 11
    assert torch.equal(clean.ids[others], bad.ids[others])
    assert torch.equal(clean.weights[others], bad.weights[others])
    assert len(set(bad.ids[11].tolist())) == 3
    assert set(bad.ids[11].tolist()) <= set(range(7))
    assert bad.weights[11].isnan().all()


def apart(tensor: Tensor) -> Tensor:
    """Return the same values amid NaN, misaligned."""
    N, D = tensor.shape
    wide = torch.full((2 * N, D + 5), NAN, dtype=tensor.dtype)
    wide[::2, 5:] = tensor
    return wide[::2, 5:]


LAYOUTS = {
    "contiguous": lambda tensor: tensor,
    "transposed": lambda tensor: tensor.t().contiguous().t(),
    "apart": apart,
    "misaligned": lambda tensor: tensor.new_empty(tensor.numel() + 1)[1:].view(tensor.shape).copy_(tensor),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_strides(layout: str) -> None:
    x, gate = problem(18, 21, 7, 2)
    wide = torch.stack([gate.bias, torch.full((7,), NAN)], dim=1)
    other = replace(gate, weight=LAYOUTS[layout](gate.weight), bias=wide[:, 0])
    check(route(LAYOUTS[layout](x), other, SMALL), x, gate)


def test_split_sums_are_fp32_whatever_the_default_dtype() -> None:
    x, gate = problem(9, 40, 5, 2)
    torch.set_default_dtype(torch.float16)
    try:
        with recording() as records:
            route(x, gate, replace(SMALL, splits=2))
    finally:
        torch.set_default_dtype(torch.float32)
    assert records[0].arguments["partial"].dtype == torch.float32


def test_expanded_rows_and_weights() -> None:
    x, weight = normal(1, 12).expand(20, 12), normal(1, 12, seed=1).expand(6, 12)
    gate = Gate(weight, torch.zeros(1).expand(6), 2)
    check(route(x, gate, SMALL), x, gate)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(data=st.data(), mode=st.sampled_from(MODES), dtype=st.sampled_from([torch.float32, torch.float16]))
def test_anything(data: st.DataObject, mode: tuple[bool, Any], dtype: torch.dtype) -> None:
    N, D, E = data.draw(st.integers(0, 35)), data.draw(st.integers(1, 70)), data.draw(st.integers(1, 20))
    k = data.draw(st.integers(1, E))
    x, gate = problem(N, D, E, k, dtype, standardise=mode[0], weights_over=mode[1])
    if data.draw(st.booleans()):
        gate = replace(gate, bias=None)
    x_layout, w_layout = data.draw(st.sampled_from(list(LAYOUTS))), data.draw(st.sampled_from(list(LAYOUTS)))
    laid = replace(gate, weight=LAYOUTS[w_layout](gate.weight))
    options = Router(
        tile_rows=data.draw(st.sampled_from([16, 64])),
        depth=data.draw(st.sampled_from([16, 64])),
        warps=4,
        stages=2,
        splits=data.draw(st.sampled_from([1, 2, 4])),
    )
    check(route(LAYOUTS[x_layout](x), laid, options), x, gate)


MUTANTS = {
    "one expert more": lambda x, gate: (x, replace(gate, k=3)),
    "another temperature": lambda x, gate: (x, replace(gate, temperature=0.701)),
    "scores standardised": lambda x, gate: (x, replace(gate, standardise=True)),
    "weights over all": lambda x, gate: (x, replace(gate, weights_over="all")),
    "bias forgotten": lambda x, gate: (x, replace(gate, bias=None)),
    "two experts swapped": lambda x, gate: (x, replace(gate, weight=gate.weight[[1, 0, 2, 3, 4, 5, 6, 7]])),
    "last feature forgotten": lambda x, gate: (x * (torch.arange(24) < 23), gate),
    "two rows swapped": lambda x, gate: (x[[1, 0, *range(2, 9)]], gate),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_is_seen(mutant: str, dtype: torch.dtype) -> None:
    x, gate = problem(9, 24, 8, 2, dtype, temperature=0.7)
    with pytest.raises(AssertionError):
        check(route(*MUTANTS[mutant](x, gate), SMALL), x, gate)


def test_a_wrong_count_is_seen() -> None:
    x, gate = problem(20, 24, 8, 2)
    routed = route(x, gate, SMALL)
    routed.counts[1, 3] += 1
    with pytest.raises(AssertionError):
        check(routed, x, gate)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(3)}, r"x must have the shape \(N, D\), not \(3,\)"),
        ({"x": torch.zeros(3, 4).int()}, "x must be torch.float32"),
        ({"weight": torch.zeros(5, 6)}, r"gate.weight must have the shape \(E, D = 4\), not \(5, 6\)"),
        ({"weight": torch.zeros(5, 4).half()}, "gate.weight must be torch.float32, not torch.float16"),
        ({"weight": torch.zeros(513, 4), "bias": None}, "E must be at most 512, not 513"),
        ({"bias": torch.zeros(4)}, r"gate.bias must have the shape \(E = 5\), not \(4,\)"),
        ({"bias": torch.zeros(5).half()}, "gate.bias must have the dtype of gate.weight, torch.float32, not"),
        (
            {"x": torch.zeros(3, 4).half(), "weight": torch.zeros(5, 4).half()},
            "gate.bias must have the dtype of gate.weight, torch.float16",
        ),
        ({"k": 0}, "k must be between 1 and E = 5, not 0"),
        ({"k": 6}, "k must be between 1 and E = 5, not 6"),
        ({"temperature": 0.0}, "temperature must be above 0 and finite, not 0.0"),
        ({"temperature": NAN}, "temperature must be above 0 and finite, not nan"),
        ({"temperature": INF}, "temperature must be above 0 and finite, not inf"),
        ({"weights_over": "some"}, "weights_over must be"),
    ],
)
def test_wrong_arguments_are_refused(change: dict[str, Any], message: str) -> None:
    right: dict[str, Any] = {"x": torch.zeros(3, 4), "weight": torch.zeros(5, 4), "bias": torch.zeros(5), "k": 2}
    settings = {**right, **change}
    x = settings.pop("x")
    with pytest.raises(ValueError, match=message):
        route(x, Gate(**settings), SMALL)
