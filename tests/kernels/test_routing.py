"""Top-k routing against a float64 oracle."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels.routing import top_k_routing, top_k_routing_reference
from tests.kernels.oracle import exact, route

MODES = [(False, "selected"), (False, "all"), (True, "selected"), (True, "all")]


def check(scores: Tensor, k: int, *, temperature: float, standardise: bool, weights_over: Any) -> None:
    """Fail unless the kernel and the reference route `scores` as the oracle does."""
    how: dict[str, Any] = {
        "temperature": temperature,
        "standardise": standardise,
        "weights_over": weights_over,
    }
    expected_ids, expected_weights = route(exact(scores), k, **how)
    for routing in (top_k_routing, top_k_routing_reference):
        ids, weights = routing(scores, k, **how)
        assert ids.dtype == torch.int32
        assert weights.dtype == torch.float32
        np.testing.assert_array_equal(ids, expected_ids)
        np.testing.assert_allclose(weights, expected_weights, rtol=5e-6, atol=1e-30)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("standardise", "weights_over"), MODES)
@pytest.mark.parametrize(
    ("N", "E", "k"),
    [
        (0, 3, 2),
        (1, 1, 1),
        (33, 7, 3),
        (7, 7, 7),
        (1, 8, 1),
        (129, 8, 2),
        (33, 60, 4),
        (5, 384, 8),
        (2, 384, 384),
    ],
)
def test_routes_as_the_oracle(N: int, E: int, k: int, standardise: bool, weights_over: str) -> None:
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
    ]
    check(torch.tensor(rows), k, temperature=1.0, standardise=standardise, weights_over=weights_over)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_nan_and_infinity_rank_as_in_a_stable_descending_sort(k: int) -> None:
    nan, inf = float("nan"), float("inf")
    scores = torch.tensor(
        [
            [0, nan, 1, inf, -inf],
            [nan, nan, nan, nan, nan],
            [-inf, -inf, -inf, -inf, -inf],
            [inf, 1, inf, nan, inf],
            [-inf, 3e38, -3e38, 1e-45, -1e-45],
            [1, 2, 3, 4, 5],
        ]
    )
    scores[0, 1] = -scores[0, 1]  # the sign of NaN says nothing
    for routing in (top_k_routing, top_k_routing_reference):
        ids, weights = routing(scores, k, temperature=1.0, standardise=False, weights_over="selected")
        np.testing.assert_array_equal(ids, torch.sort(scores, dim=1, descending=True, stable=True).indices[:, :k])
        assert weights[:4].isnan().all()
        assert weights[4:].sum(dim=1).tolist() == pytest.approx([1, 1])


@pytest.mark.parametrize(("standardise", "weights_over"), MODES)
@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf")])
def test_a_bad_row_has_valid_ids_and_leaves_the_others_alone(
    poison: float, standardise: bool, weights_over: Any
) -> None:
    how: dict[str, Any] = {"temperature": 1.0, "standardise": standardise, "weights_over": weights_over}
    scores = normal(20, 7)
    ids, weights = top_k_routing(scores, 3, **how)
    scores[11, 4] = poison
    bad_ids, bad_weights = top_k_routing(scores, 3, **how)
    others = torch.arange(20) != 11
    assert torch.equal(ids[others], bad_ids[others])
    assert torch.equal(weights[others], bad_weights[others])
    assert len(set(bad_ids[11].tolist())) == 3
    assert set(bad_ids[11].tolist()) <= set(range(7))
    assert bad_weights[11].isnan().all() == (standardise or poison > 0 or poison != poison)


def test_nan_among_the_lowest_scores_still_makes_the_weights_nan() -> None:
    scores = torch.tensor([[1.0, 2.0, float("nan")]])
    _, weights = top_k_routing(scores, 1, temperature=1.0, standardise=False, weights_over="all")
    assert weights.isnan().all()


@pytest.mark.parametrize("scale", [1e-38, 1.0, 1e30, 1e37])
def test_standardised_scores_do_not_depend_on_scale(scale: float) -> None:
    scores = normal(9, 8).clamp(-2, 2) * scale
    check(scores, 3, temperature=0.5, standardise=True, weights_over="all")


@pytest.mark.parametrize("value", [0.1, 1e37, -7.3])
def test_a_row_of_equal_scores_gets_equal_weights(value: float) -> None:
    ids, weights = top_k_routing(torch.full((2, 7), value), 2, temperature=1.0, standardise=True, weights_over="all")
    assert ids.tolist() == [[0, 1], [0, 1]]
    assert weights.flatten().tolist() == pytest.approx([1 / 7] * 4)


@pytest.mark.parametrize(
    "scores",
    [
        normal(8, 12).t(),
        normal(24, 16)[::2, 1::2],
        normal(1, 8).expand(12, 8),
        normal(12, 1).expand(12, 8),
        normal(97)[1:].view(12, 8),
    ],
    ids=["transposed", "sliced", "equal rows", "equal columns", "misaligned"],
)
def test_any_strides(scores: Tensor) -> None:
    check(scores, 2, temperature=1.0, standardise=False, weights_over="selected")


@settings(max_examples=25, deadline=None, derandomize=True)
@given(data=st.data(), mode=st.sampled_from(MODES), temperature=st.sampled_from([0.1, 1.0, 8.0]))
def test_any_scores_with_many_ties(data: st.DataObject, mode: tuple[bool, str], temperature: float) -> None:
    N, E = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 20))
    rows = data.draw(st.lists(st.lists(st.integers(-3, 3), min_size=E, max_size=E), min_size=N, max_size=N))
    check(
        torch.tensor(rows, dtype=torch.float32),
        data.draw(st.integers(1, E)),
        temperature=temperature,
        standardise=mode[0],
        weights_over=mode[1],
    )


@pytest.mark.parametrize(
    "change",
    [
        {"k": 3},
        {"temperature": 0.71},
        {"standardise": True},
        {"weights_over": "all"},
        {"scores": normal(9, 8).flip(1)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_wrong_setting_is_seen(change: dict[str, Any]) -> None:
    right: dict[str, Any] = {
        "scores": normal(9, 8),
        "k": 2,
        "temperature": 0.7,
        "standardise": False,
        "weights_over": "selected",
    }
    ids, weights = top_k_routing(**{**right, **change})
    right["scores"] = exact(right["scores"])
    expected_ids, expected_weights = route(**right)
    same = ids.shape == expected_ids.shape and np.array_equal(ids, expected_ids)
    assert not (same and np.allclose(weights, expected_weights, rtol=5e-6, atol=1e-30))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": torch.zeros(3)}, r"scores must have the shape \(N, E\), not \(3,\)"),
        ({"scores": torch.zeros(3, 0)}, r"scores must have the shape"),
        (
            {"scores": torch.zeros(3, 4, dtype=torch.float16)},
            "scores must be torch.float32, not torch.float16",
        ),
        ({"k": 0}, "k must be between 1 and E = 4, not 0"),
        ({"k": 5}, "k must be between 1 and E = 4, not 5"),
        ({"temperature": 0.0}, "temperature must be above 0 and finite"),
        ({"temperature": float("nan")}, "temperature must be above 0 and finite"),
        ({"weights_over": "some"}, "weights_over must be"),
    ],
)
def test_wrong_arguments_are_refused(change: dict[str, Any], message: str) -> None:
    right: dict[str, Any] = {
        "scores": torch.zeros(3, 4),
        "k": 2,
        "temperature": 1.0,
        "standardise": False,
        "weights_over": "all",
    }
    with pytest.raises(ValueError, match=message):
        top_k_routing(**{**right, **change})
