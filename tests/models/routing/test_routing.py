from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from models.config import head_config
from models.heads.heads import build_head
from models.routing import Routing, router_scores, select, standardise
from models.routing.top_k import weigh

few = st.sampled_from([-np.inf, -1.0, -0.0, 0.0, 1.0, 2.0, np.inf, np.nan])  # few values make many ties
scores_and_k = st.integers(1, 9).flatmap(
    lambda experts: st.tuples(
        arrays.arrays(np.float32, st.tuples(st.integers(0, 6), st.just(experts)), elements=few), st.integers(1, experts)
    )
)


@settings(deadline=None)
@given(scores_and_k)
def test_exactly_k_distinct_experts_by_score_then_id(case: tuple[NDArray[np.float32], int]) -> None:
    scores, k = case
    ids = select(torch.from_numpy(scores), k)
    assert ids.shape == (len(scores), k)
    for row, chosen in zip(scores.tolist(), ids.tolist(), strict=True):
        ranked = sorted(range(len(row)), key=lambda e: (row[e] == row[e], -row[e] if row[e] == row[e] else 0, e))
        assert chosen == ranked[:k]


@pytest.mark.parametrize("training", [False, True])
def test_a_head_routes_every_row_to_k_distinct_experts(training: bool) -> None:
    head = build_head(head_config("sparse", features=5, experts=4, hidden=3, k=3, gate_dropout=0.6)).train(training)
    ids = head.routing(torch.zeros(500, 5)).ids
    assert ids.shape == (500, 3)
    assert (ids.sort(dim=1).values.diff(dim=1) > 0).all()
    assert ((ids >= 0) & (ids < 4)).all()


def test_noise_acts_in_training_only() -> None:
    torch.manual_seed(0)
    head = build_head(head_config("sparse", features=5, experts=4, hidden=3, k=2))
    x = torch.randn(50, 5)
    first, second = head.routing(x), head.routing(x)
    assert not torch.equal(first.noisy, second.noisy)
    assert (first.noise_std >= 0.3).all()
    head.eval()
    calm, again = head.routing(x), head.routing(x)
    assert calm.noisy is None
    assert calm.noise_std is None
    assert torch.equal(calm.ids, again.ids)
    assert torch.equal(calm.weights, again.weights)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e4, 1e18, 1e37])
def test_standardised_scores_have_mean_0_and_deviation_1_at_any_scale(scale: float) -> None:
    scores = torch.randn(50, 7, generator=torch.Generator().manual_seed(0)) * scale
    result = standardise(scores)
    assert result.mean(dim=1).abs().max() < 1e-6
    assert (result.std(dim=1) - 1).abs().max() < 1e-5


@pytest.mark.parametrize("experts", [1, 2, 7, 8])
@pytest.mark.parametrize("value", [0.0, 0.1, -1e18])
def test_equal_scores_become_zero_and_pass_a_finite_gradient(experts: int, value: float) -> None:
    scores = torch.full((3, experts), value, requires_grad=True)
    result = standardise(scores)
    assert torch.equal(result, torch.zeros(3, experts))
    (result * torch.randn(3, experts)).sum().backward()
    assert scores.grad.isfinite().all()
    assert scores.grad.abs().max() < 10


def test_gate_dropout_of_all_scores_leaves_the_gradient_finite() -> None:
    torch.manual_seed(0)
    head = build_head(head_config("sparse", features=5, experts=2, hidden=3, k=2, gate_dropout=0.5))
    head(torch.randn(200, 5)).sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in head.parameters())


def test_standardising_matches_its_gradient_in_float64() -> None:
    scores = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(standardise, scores)


@pytest.mark.parametrize("over", ["selected", "all"])
def test_weights(over: Literal["selected", "all"]) -> None:
    scores = torch.tensor([[1.0, 3.0, 2.0], [0.0, 0.0, 5.0]], dtype=torch.float64)
    ids = select(scores, 2)
    weights = weigh(scores, ids, 0.5, over)
    for row, chosen, actual in zip(scores.tolist(), ids.tolist(), weights.tolist(), strict=True):
        heights = {e: np.exp(row[e] / 0.5) for e in (chosen if over == "selected" else range(3))}
        assert actual == pytest.approx([heights[e] / sum(heights.values()) for e in chosen])


def test_rows_alike_can_be_seen_as_a_table_and_others_not() -> None:
    torch.manual_seed(0)
    head = build_head(head_config("sparse", features=5, experts=4, hidden=3, k=2))
    even = head.routing(torch.randn(6, 5))
    assert torch.equal(even.rows.view(6, 2), torch.arange(6)[:, None].expand(6, 2))
    assert torch.equal(even.matrix().gather(1, even.ids), even.row_weights)
    assert (even.matrix() != 0).sum() == 12
    uneven = Routing(torch.tensor([0, 2, 2]), torch.tensor([1, 0, 1]), torch.tensor([1.0, 0.3, 0.7]), torch.zeros(3, 2))
    assert uneven.matrix().tolist() == torch.tensor([[0, 1.0], [0, 0], [0.3, 0.7]]).tolist()
    for table in ("ids", "row_weights"):
        with pytest.raises(ValueError, match="different numbers of experts"):
            getattr(uneven, table)


@pytest.mark.parametrize("rows", [0, 1, 7])
def test_a_soft_head_sends_every_row_to_every_expert(rows: int) -> None:
    head = build_head(head_config("soft", features=5, experts=3, hidden=2, classes=4)).eval()
    x = torch.randn(rows, 5)
    routing = head.routing(x)
    assert routing.ids.tolist() == [[0, 1, 2]] * rows
    assert routing.rows.tolist() == [row for row in range(rows) for _ in range(3)]
    assert torch.equal(routing.row_weights, head.shares(x)[0])
    assert torch.equal(head.mix(x, routing), head(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_routers_run_in_float32_whatever_the_head_does(dtype: torch.dtype) -> None:
    layer = torch.nn.Linear(64, 8).to(dtype)
    x = torch.randn(16, 64).to(dtype)
    expected = x.double() @ layer.weight.double().T + layer.bias.double()
    with torch.autocast("cpu", torch.bfloat16):
        scores = router_scores(x, layer)
    assert scores.dtype == torch.float32
    assert (scores - expected).abs().max() < 1e-5


def test_with_k_1_the_task_teaches_the_gate() -> None:
    torch.manual_seed(0)
    head = build_head(head_config("sparse", features=5, experts=4, hidden=3, k=1))
    head(torch.randn(20, 5)).square().sum().backward()
    assert head.gate.weight.grad.abs().sum() > 1e-3
