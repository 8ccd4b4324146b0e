"""The device functions that rank scores, run by a small test kernel, against float64 oracles."""

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels.launch.launch import launch
from kernels.ops.ranking import gate_matrix, top_k
from tests.kernels.oracle import best, exact, route

MODES = [(False, "selected"), (False, "all"), (True, "selected"), (True, "all")]
NAN, INF = float("nan"), float("inf")


@triton.jit
def _rank_kernel(
    scores,
    ids,
    values,
    columns,
    weights,
    chosen,
    temperature,
    E: tl.constexpr,
    k: tl.constexpr,
    standardised: tl.constexpr,
    over_all: tl.constexpr,
    block_n: tl.constexpr,
    block_e: tl.constexpr,
    block_k: tl.constexpr,
):
    n, e, j = tl.arange(0, block_n), tl.arange(0, block_e), tl.arange(0, block_k)
    real = (e < E)[None, :]
    z = tl.load(scores + n[:, None] * E + e[None, :], mask=real, other=float("nan"))
    best_ids, best_z, best_columns = top_k(z, e, real, k, block_k)
    tl.store(ids + n[:, None] * k + j[None, :], best_ids, mask=(j < k)[None, :])
    tl.store(values + n[:, None] * k + j[None, :], best_z, mask=(j < k)[None, :])
    weight, taken = gate_matrix(z, e, real, E, k, temperature, standardised, over_all)
    place = n[:, None] * E + e[None, :]
    tl.store(columns + place, best_columns.to(tl.int32), mask=real)
    tl.store(weights + place, weight, mask=real)
    tl.store(chosen + place, taken.to(tl.int32), mask=real)


def rank(scores: Tensor, k: int, *, temperature: float = 1.0, standardise: bool = False, weights_over: str = "all"):
    """Return ids and values (N, k), their columns (N, E), and the gate's weights and columns (N, E)."""
    N, E = scores.shape
    block_n = triton.next_power_of_2(N)
    rows = torch.zeros(block_n, E)
    rows[:N] = scores
    ids, values = torch.empty(block_n, k, dtype=torch.int32), torch.empty(block_n, k)
    columns, weights, chosen = rows.new_empty(rows.shape).int(), torch.empty_like(rows), torch.empty_like(rows).int()
    arguments = {"scores": rows, "ids": ids, "values": values, "columns": columns, "weights": weights}
    settings = {"temperature": temperature, "E": E, "k": k, "standardised": standardise}
    blocks = {"block_n": block_n, "block_e": triton.next_power_of_2(E) * 2, "block_k": triton.next_power_of_2(k)}
    over = {"chosen": chosen, "over_all": weights_over == "all"}
    launch("route", _rank_kernel, (1,), {**arguments, **settings, **blocks, **over})
    return ids[:N], values[:N], columns[:N], weights[:N], chosen[:N]


def check(scores: Tensor, k: int, **how: object) -> None:
    """Fail unless scores without NaN are ranked and weighted as the oracle does."""
    z = exact(scores)
    ids, values, columns, weights, chosen = rank(scores, k, **how)
    expected = np.array([best(row, k) for row in z])
    np.testing.assert_array_equal(ids, expected)
    np.testing.assert_array_equal(values, np.take_along_axis(z, expected, axis=1))
    mask = np.zeros(z.shape, int)
    np.put_along_axis(mask, expected, 1, axis=1)
    np.testing.assert_array_equal(columns, mask)
    expected_ids, expected_weights = route(z, k, **how)
    mask, matrix = np.zeros(z.shape, int), np.zeros(z.shape)
    np.put_along_axis(mask, expected_ids, 1, axis=1)
    np.put_along_axis(matrix, expected_ids, expected_weights, axis=1)
    np.testing.assert_array_equal(chosen, mask)
    np.testing.assert_allclose(weights, matrix, rtol=5e-6, atol=1e-30)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("standardise", "weights_over"), MODES)
@pytest.mark.parametrize(
    ("N", "E", "k"), [(1, 1, 1), (16, 7, 3), (7, 7, 7), (1, 8, 1), (33, 60, 4), (5, 384, 8), (2, 384, 384), (2, 512, 2)]
)
def test_ranks_as_the_oracle(N: int, E: int, k: int, standardise: bool, weights_over: str) -> None:
    check(normal(N, E), k, temperature=0.7, standardise=standardise, weights_over=weights_over)


@pytest.mark.parametrize(("standardise", "weights_over"), MODES)
@pytest.mark.parametrize("k", [1, 3, 6])
def test_equal_scores_go_to_the_lowest_ids(k: int, standardise: bool, weights_over: str) -> None:
    rows = [
        [0, 0, 0, 0, 0, 0],
        [1, 2, 2, 2, 1, 0],
        [5, 0, 0, 0, 0, 5],
        [-1, -1, -1, -2, -2, -2],
        [0, -0.0, 0, -0.0, 0, 1],
        [0, 1e-45, -1e-45, 0, 3e38, -3e38],
    ]
    check(torch.tensor(rows), k, temperature=1.0, standardise=standardise, weights_over=weights_over)


@pytest.mark.parametrize("k", [1, 2, 4])
def test_nan_and_infinity_rank_as_in_a_stable_descending_sort(k: int) -> None:
    scores = torch.tensor(
        [
            [0, NAN, 1, INF, -INF],
            [NAN, NAN, NAN, NAN, NAN],
            [-INF, -INF, -INF, -INF, -INF],
            [INF, 1, INF, NAN, INF],
            [-INF, 3e38, -3e38, 1e-45, -1e-45],
        ]
    )
    scores[0, 1] = -scores[0, 1]  # the sign of NaN says nothing
    ids, values, columns, weights, chosen = rank(scores, k, weights_over="selected")
    order = torch.sort(scores, dim=1, descending=True, stable=True).indices[:, :k]
    np.testing.assert_array_equal(ids, order)
    np.testing.assert_array_equal(values, scores.gather(1, order))
    np.testing.assert_array_equal(columns, torch.zeros(5, 5).scatter(1, order, 1))
    assert torch.equal(chosen, columns)
    assert weights[:4][chosen[:4] == 1].isnan().all()
    assert (weights[chosen == 0] == 0).all()
    assert weights[4].sum() == pytest.approx(1)


@pytest.mark.parametrize("standardise", [False, True])
@pytest.mark.parametrize("k", [1, 3])
def test_nan_among_the_scores_makes_every_weight_nan(k: int, standardise: bool) -> None:
    *_, weights, chosen = rank(torch.tensor([[1.0, 2.0, NAN]]), k, standardise=standardise, weights_over="all")
    assert int(chosen.sum()) == k
    assert weights[chosen == 1].isnan().all()


@pytest.mark.parametrize("scale", [1e-38, 1.0, 1e30, 1e37])
def test_standardised_scores_do_not_depend_on_scale(scale: float) -> None:
    check(normal(9, 8).clamp(-2, 2) * scale, 3, temperature=0.5, standardise=True, weights_over="all")


@pytest.mark.parametrize("value", [0.1, 1e37, -7.3])
def test_a_row_of_equal_scores_gets_equal_weights(value: float) -> None:
    *_, weights, _ = rank(torch.full((2, 7), value), 2, standardise=True, weights_over="all")
    assert weights.flatten().tolist() == pytest.approx([1 / 7, 1 / 7, 0, 0, 0, 0, 0] * 2)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(data=st.data(), mode=st.sampled_from(MODES), temperature=st.sampled_from([0.1, 1.0, 8.0]))
def test_any_scores_with_many_ties(data: st.DataObject, mode: tuple[bool, str], temperature: float) -> None:
    N, E = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 20))
    rows = data.draw(st.lists(st.lists(st.integers(-3, 3), min_size=E, max_size=E), min_size=N, max_size=N))
    k = data.draw(st.integers(1, E))
    check(torch.tensor(rows).float(), k, temperature=temperature, standardise=mode[0], weights_over=mode[1])
