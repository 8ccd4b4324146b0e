import math

import pytest
import torch

from models.config import head_config
from models.heads.heads import build_head
from models.routing import Routing
from models.routing.policies import POLICIES
from models.routing.policy import SparseConfig
from models.settings import ConfigError
from models.training.balance import (
    BalanceWeights,
    cv_squared,
    expected_load,
    importance_loss,
    kl_to_uniform,
    load_loss,
    switch_loss,
    total,
    z_loss,
)


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
    experts = torch.tensor([0, 0, 0, 1])
    scores = torch.tensor([[4.0, 0], [4, 0], [4, 0], [0, 4]])
    weights = torch.tensor([1 / 3, 1 / 3, 1 / 3, 1.0])
    uneven = Routing(torch.arange(4), experts, weights, scores, 1, noisy=scores, noise_std=torch.ones_like(scores))
    assert importance_loss(uneven).item() == pytest.approx(0, abs=1e-6)
    assert load_loss(uneven).item() > 0.2


def test_importance_is_the_squared_variation_of_summed_weights(routing: Routing) -> None:
    sums = [routing.weights[routing.experts == expert].sum().item() for expert in range(6)]
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


def test_load_counts_what_is_wanted_before_any_limit() -> None:
    config = {"features": 12, "experts": 6, "hidden": 4, "k": 2}
    torch.manual_seed(0)
    head = build_head(head_config("sparse", **config, policy="capacity", capacity_factor=0.5)).double()
    routing = head.routing(torch.randn(40, 12, dtype=torch.float64))
    assert routing.dropped.item() > 0
    assert expected_load(routing, k=2).tolist() == pytest.approx(shazeer_load(routing, k=2), rel=1e-12)
    with pytest.raises(ValueError, match="different numbers of experts"):
        expected_load(routing)


@pytest.mark.parametrize(("experts", "k"), [(1, 1), (5, 5)])
def test_nothing_to_balance_costs_nothing(experts: int, k: int) -> None:
    head = build_head(head_config("sparse", features=3, experts=experts, hidden=2, k=k))
    assert load_loss(head.routing(torch.randn(7, 3))).item() == 0


def test_divergence_is_from_the_gate_to_uniform() -> None:
    p = torch.tensor([[0.9, 0.1], [0.5, 0.5]])  # mean 0.7, 0.3
    assert kl_to_uniform(p).item() == pytest.approx(0.7 * math.log(0.7 / 0.5) + 0.3 * math.log(0.3 / 0.5), rel=1e-5)
    assert kl_to_uniform(torch.tensor([[1.0, 0.0]])).item() == pytest.approx(math.log(2))
    assert kl_to_uniform(torch.full((5, 8), 1 / 8)).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_divergence_is_the_direct_sum_and_not_that_of_the_other_direction(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    gate = torch.randn(9, 5, dtype=torch.float64, generator=generator).mul(3).softmax(-1)
    p = [sum(column) / 9 for column in zip(*gate.tolist(), strict=True)]
    result = kl_to_uniform(gate).item()
    assert result == pytest.approx(sum(share * math.log(share * 5) for share in p), rel=1e-12)
    assert result != pytest.approx(sum(math.log(1 / (5 * share)) / 5 for share in p), rel=0.01)


def test_divergence_has_a_finite_gradient_for_an_unused_expert() -> None:
    scores = torch.tensor([[0.0, 200.0], [0.0, 300.0]], requires_grad=True)
    kl_to_uniform(scores.softmax(-1)).backward()
    assert scores.grad.isfinite().all()


def test_variation() -> None:
    assert cv_squared(torch.tensor([1.0, 3.0])).item() == pytest.approx(0.25)
    assert cv_squared(torch.tensor([5.0])).item() == 0
    assert cv_squared(torch.zeros(3)).item() == 0


def test_switch_is_fraction_times_share(routing: Routing) -> None:
    gate = (routing.scores / 0.7).softmax(-1).tolist()
    fractions = [routing.experts.tolist().count(expert) / 80 for expert in range(6)]
    means = [sum(row[expert] for row in gate) / 40 for expert in range(6)]
    expected = 6 * sum(f * p for f, p in zip(fractions, means, strict=True))
    assert switch_loss(routing, temperature=0.7).item() == pytest.approx(expected, rel=1e-12)


def test_switch_is_1_where_even_and_e_where_one_expert_has_everything() -> None:
    rows = torch.arange(4)
    even = Routing(rows, rows, torch.ones(4), torch.eye(4) * 9)
    assert switch_loss(even).item() == pytest.approx(1)
    crowded = Routing(rows, torch.zeros_like(rows), torch.ones(4), torch.tensor([[900.0, 0, 0, 0]] * 4))
    assert switch_loss(crowded).item() == pytest.approx(4)


def test_z_sees_a_gate_whose_scores_are_standardised() -> None:
    torch.manual_seed(0)
    head = build_head(head_config("sparse", features=6, classes=3, experts=4, hidden=2))
    assert head.config.standardise
    x = torch.randn(20, 6)
    z_loss(head.routing(x)).backward()
    assert head.gate.weight.grad.abs().max() > 1e-3
    before = z_loss(head.eval().routing(x))
    with torch.no_grad():
        head.gate.weight.mul_(10)
    assert z_loss(head.routing(x)) > 2 * before


def test_z_is_the_mean_squared_logarithm_of_the_sum(routing: Routing) -> None:
    assert routing.raw is not None
    for scores, given in ((routing.raw, routing), (routing.scores, routing._replace(raw=None))):
        expected = sum(math.log(sum(map(math.exp, row))) ** 2 for row in scores.tolist()) / 40
        assert z_loss(given).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("policy", POLICIES)
def test_new_losses_teach_the_gate(policy: str) -> None:
    torch.manual_seed(0)
    head = build_head(head_config("sparse", features=12, experts=6, hidden=4, policy=policy, standardise=False))
    for loss in (switch_loss, z_loss, importance_loss):
        head.zero_grad()
        loss(head.routing(torch.randn(40, 12))).backward()
        assert head.gate.weight.grad.abs().sum() > 0


def test_total_is_the_weighted_sum(routing: Routing) -> None:
    config = head_config("sparse", features=12, experts=6, hidden=4, k=2)
    gate = routing.scores.softmax(-1)
    parts = {
        "kl": kl_to_uniform(gate),
        "importance": importance_loss(routing),
        "load": load_loss(routing),
        "switch": switch_loss(routing),
        "z": z_loss(routing),
    }
    for term, value in parts.items():
        assert total(routing, BalanceWeights(**{term: 3}), config).item() == pytest.approx(3 * value.item())
    every = BalanceWeights(**{term: index + 1 for index, term in enumerate(parts)})
    expected = sum((index + 1) * value.item() for index, value in enumerate(parts.values()))
    assert total(routing, every, config).item() == pytest.approx(expected)
    assert total(routing, BalanceWeights(), config) == 0
    assert total(None, BalanceWeights(), head_config("dense")) == 0


def test_total_of_a_soft_head_is_the_divergence_of_its_weights() -> None:
    head = build_head(head_config("soft", features=12, hidden=4, temperature=0.5))
    routing = head.routing(torch.randn(9, 12))
    result = total(routing, BalanceWeights(kl=0.2), head.config)
    assert result.item() == pytest.approx(0.2 * kl_to_uniform(routing.row_weights).item())


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("bias_correction", [False, True])
def test_every_head_can_have_its_default(policy: str, bias_correction: bool) -> None:
    if bias_correction and policy == "expert_choice":
        return
    config = head_config("sparse", features=12, hidden=4, policy=policy, bias_correction=bias_correction)
    routing = build_head(config).routing(torch.randn(9, 12))
    assert torch.as_tensor(total(routing, BalanceWeights(**config.default_balance), config)).isfinite()


@pytest.mark.parametrize(
    ("kind", "changes", "term", "words"),
    [
        ("dense", {}, "kl", "dense head has no experts"),
        ("dense", {}, "correction", "dense head has no experts"),
        ("soft", {}, "load", "a fixed number of wanted experts"),
        ("soft", {}, "switch", "as many rows"),
        ("soft", {}, "correction", "bias_correction"),
        ("sparse", {"policy": "top_p"}, "load", "a fixed number of wanted experts"),
        ("sparse", {"policy": "threshold"}, "load", "a fixed number of wanted experts"),
        ("sparse", {"policy": "expert_choice"}, "load", "a fixed number of wanted experts"),
        ("sparse", {"policy": "expert_choice"}, "switch", "as many rows"),
        ("sparse", {}, "correction", "bias_correction"),
    ],
)
def test_a_term_that_a_head_cannot_have_is_refused(kind: str, changes: dict[str, str], term: str, words: str) -> None:
    with pytest.raises(ConfigError, match=rf"balance {term} = 0\.5: .*{words}.*; set {term} to 0"):
        total(None, BalanceWeights(**{term: 0.5}), head_config(kind, **changes))


def skewed(policy: str = "top_k", **changes: float) -> tuple[torch.nn.Module, torch.Tensor]:
    """Return a head whose gate prefers the first of 4 experts in nearly every row of the returned x."""
    torch.manual_seed(0)
    config = head_config(
        "sparse", features=5, experts=4, hidden=3, policy=policy, bias_correction=True, standardise=False, **changes
    )
    head = build_head(config)
    with torch.no_grad():
        head.gate.bias.copy_(torch.tensor([2.0, 0, 0, -1]))
    return head.eval(), torch.randn(400, 5)


@pytest.mark.parametrize("policy", ["top_k", "top_p", "threshold"])
def test_correction_balances_a_skewed_gate_without_a_loss(policy: str) -> None:
    head, x = skewed(policy, **({"k": 1} if policy == "top_k" else {}))
    parameters = [parameter.clone() for parameter in head.parameters()]

    def spread() -> float:
        return cv_squared(head.routing(x).experts.bincount(minlength=4).double()).item()

    before = spread()
    for _ in range(300):
        head.correct(head.routing(x), rate=0.01)
    assert before > 0.5
    assert spread() < 0.02
    assert all(torch.equal(*pair) for pair in zip(parameters, head.parameters(), strict=True))
    assert head.correction[0] < head.correction[3]


def test_correction_moves_by_the_sign_of_what_is_missing() -> None:
    head, _ = skewed()
    routing = Routing(torch.arange(4), torch.tensor([0, 0, 1, 2]), torch.ones(4), torch.zeros(4, 4))
    head.correct(routing, rate=0.25)
    assert head.correction.tolist() == [-0.25, 0, 0, 0.25]
    head.correct(routing, rate=0.25)
    assert head.correction.tolist() == [-0.5, 0, 0, 0.5]
    assert not head.correction.requires_grad


@pytest.mark.parametrize("policy", ["top_k", "capacity", "top_p", "threshold"])
def test_weights_do_not_see_the_correction(policy: str) -> None:
    head, x = skewed(policy, weights_over="all")
    plain = head.routing(x)
    gate = (plain.scores / head.config.temperature).softmax(-1)
    head.correction.copy_(torch.tensor([-3.0, 0, 1, 4]))
    moved = head.routing(x)
    assert torch.equal(moved.scores, plain.scores)
    assert moved.experts.bincount(minlength=4)[3] > plain.experts.bincount(minlength=4)[3]
    assert torch.equal(moved.weights, gate[moved.rows, moved.experts])


def test_correction_is_kept_with_the_weights_and_absent_without_it() -> None:
    head, _ = skewed()
    assert isinstance(head.config, SparseConfig)
    assert head.state_dict()["correction"].tolist() == [0] * 4
    plain = build_head(head_config("sparse", features=5, hidden=3))
    assert "correction" not in plain.state_dict()
    plain.correct(plain.routing(torch.randn(3, 5)), rate=1.0)
