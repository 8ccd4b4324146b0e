import math

import pytest
import torch

from models.balance import cv_squared, expected_load, importance_loss, kl_to_uniform, load_loss
from models.config import head_config
from models.heads import build_head
from models.routing import Routing


@pytest.fixture
def routing() -> Routing:
    """Return a training-time routing of 40 rows over 6 experts, in float64, with a graph behind it."""
    torch.manual_seed(0)
    head = build_head(head_config("sparse", features=12, experts=6, hidden=4, k=2)).double()
    return head.routing(torch.randn(40, 12, dtype=torch.float64))


def shazeer_load(routing: Routing, k: int) -> list[float]:
    """Count the expected rows per expert by equations 8 to 10 of Shazeer et al. 2017, entry by entry."""
    assert routing.noisy is not None
    assert routing.noise_std is not None
    rows, experts = routing.scores.shape
    load = [0.0] * experts
    for row in range(rows):
        noisy = routing.noisy[row].tolist()
        for expert in range(experts):
            others = sorted((score for other, score in enumerate(noisy) if other != expert), reverse=True)
            z = (routing.scores[row, expert].item() - others[k - 1]) / routing.noise_std[row, expert].item()
            load[expert] += (1 + math.erf(z / math.sqrt(2))) / 2
    return load


def test_load_is_shazeers(routing: Routing) -> None:
    assert expected_load(routing).tolist() == pytest.approx(shazeer_load(routing, k=2), rel=1e-12)


def test_load_loss_is_not_importance_loss(routing: Routing) -> None:
    load, importance = load_loss(routing), importance_loss(routing)
    assert load.item() != pytest.approx(importance.item(), rel=0.01)


def test_load_loss_sees_uneven_rows_where_weights_are_even() -> None:
    ids = torch.tensor([[0], [0], [0], [1]], dtype=torch.int32)
    scores = torch.tensor([[4.0, 0], [4, 0], [4, 0], [0, 4]])
    weights = torch.tensor([[1 / 3], [1 / 3], [1 / 3], [1.0]])
    uneven = Routing(ids, weights, scores, noisy=scores, noise_std=torch.ones_like(scores))
    assert importance_loss(uneven).item() == pytest.approx(0, abs=1e-6)
    assert load_loss(uneven).item() > 0.2


def test_importance_is_the_squared_variation_of_summed_weights(routing: Routing) -> None:
    sums = [routing.weights[routing.ids == expert].sum().item() for expert in range(6)]
    mean = sum(sums) / 6
    expected = sum((value - mean) ** 2 for value in sums) / 6 / mean**2
    assert importance_loss(routing).item() == pytest.approx(expected, rel=1e-12)


def test_both_losses_teach_the_gate() -> None:
    torch.manual_seed(0)
    head = build_head(head_config("sparse", features=12, experts=6, hidden=4, k=2))
    for loss in (load_loss, importance_loss):
        head.zero_grad()
        loss(head.routing(torch.randn(40, 12))).backward()
        assert head.gate.weight.grad.abs().sum() > 0
        assert head.noise.weight.grad.abs().sum() > 0


def test_load_needs_noise() -> None:
    head = build_head(head_config("sparse", features=3, experts=2, hidden=2, k=1)).eval()
    with pytest.raises(ValueError, match="training mode"):
        load_loss(head.routing(torch.randn(2, 3)))


@pytest.mark.parametrize(("experts", "k"), [(1, 1), (5, 5)])
def test_nothing_to_balance_costs_nothing(experts: int, k: int) -> None:
    head = build_head(head_config("sparse", features=3, experts=experts, hidden=2, k=k))
    assert load_loss(head.routing(torch.randn(7, 3))).item() == 0


def test_divergence_is_from_the_gate_to_uniform() -> None:
    p = torch.tensor([[0.9, 0.1], [0.5, 0.5]])  # mean 0.7, 0.3
    assert kl_to_uniform(p).item() == pytest.approx(0.7 * math.log(0.7 / 0.5) + 0.3 * math.log(0.3 / 0.5), rel=1e-5)
    assert kl_to_uniform(torch.tensor([[1.0, 0.0]])).item() == pytest.approx(math.log(2))
    assert kl_to_uniform(torch.full((5, 8), 1 / 8)).item() == pytest.approx(0, abs=1e-6)


def test_divergence_has_a_finite_gradient_for_an_unused_expert() -> None:
    scores = torch.tensor([[0.0, 200.0], [0.0, 300.0]], requires_grad=True)
    kl_to_uniform(scores.softmax(-1)).backward()
    assert scores.grad.isfinite().all()


def test_variation() -> None:
    assert cv_squared(torch.tensor([1.0, 3.0])).item() == pytest.approx(0.25)
    assert cv_squared(torch.tensor([5.0])).item() == 0
    assert cv_squared(torch.zeros(3)).item() == 0
