"""Every routing policy against its oracle, its invariants, and mutants of it that must be noticed."""

import inspect
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from torch import Tensor

from models.classifier.checkpoint import load
from models.classifier.evaluate import routing_statistics
from models.config import head_config
from models.heads.heads import build_head
from models.routing import Assignments, Routing
from models.routing.policies import POLICIES
from models.routing.policy import SparseConfig
from tests.models import policy_oracle as oracle

LEVELS = (-2.0, -1.0, -0.0, 0.0, 0.5, 1.0, math.log(2), 3.0)
BROKEN = (*LEVELS, math.nan, math.inf, -math.inf)


def cases(levels: tuple[float, ...], policies: tuple[str, ...] = tuple(POLICIES)) -> st.SearchStrategy[Any]:
    """Return strategies for (scores (N, E), settings); few values make many ties."""
    shapes = st.tuples(st.sampled_from(policies), st.integers(1, 8), st.integers(0, 9))
    return shapes.flatmap(
        lambda shape: st.tuples(
            arrays.arrays(np.float64, (shape[2], shape[1]), elements=st.sampled_from(levels)),
            oracle.configs(shape[0], shape[1]),
        )
    )


def chosen_by(scores: NDArray[np.float64], config: SparseConfig) -> Assignments:
    tensor = torch.from_numpy(scores)
    return config.route(tensor, tensor)


def table(result: Assignments, rows: int) -> list[list[int]]:
    """Return the experts of each row."""
    return [result.experts[result.rows == row].tolist() for row in range(rows)]


def check_form(result: Assignments, rows: int, config: SparseConfig) -> None:
    """Check what holds of every policy, whatever the scores."""
    assert result.rows.shape == result.experts.shape == result.weights.shape
    assert (result.rows.dtype, result.experts.dtype) == (torch.int64, torch.int64)
    assert (result.rows.diff() >= 0).all()
    assert ((result.rows >= 0) & (result.rows < rows)).all()
    assert ((result.experts >= 0) & (result.experts < config.experts)).all()
    sizes = [len(experts) for experts in table(result, rows)]
    assert [len(set(experts)) for experts in table(result, rows)] == sizes
    if result.per_row is not None:
        assert sizes == [result.per_row] * rows
    most = config.experts if config.policy == "expert_choice" else config.k
    assert max(sizes, default=0) <= most
    if not config.batch_coupled:
        assert min(sizes, default=1) >= 1
    counts = result.experts.bincount(minlength=config.experts).tolist()
    if config.policy == "capacity":
        assert max(counts) <= oracle.places(config, rows)
        assert result.dropped is not None
        assert result.dropped.item() == rows * config.k - len(result.rows)
    else:
        assert result.dropped is None
    if config.policy == "expert_choice":
        assert counts == [min(rows, oracle.places(config, rows))] * config.experts


def check_choice(result: Assignments, scores: NDArray[np.float64], config: SparseConfig) -> None:
    """Check who is chosen and with which weight, against the oracle."""
    expected = oracle.CHOICES[config.policy](scores, config)
    assert [sorted(row) for row in table(result, len(scores))] == [
        sorted(expected.get(n, [])) for n in range(len(scores))
    ]
    weights = oracle.weights(scores, expected, config)[result.rows, result.experts]
    assert np.allclose(result.weights, weights, rtol=1e-12, atol=0)


def check_weights(result: Assignments, config: SparseConfig) -> None:
    assert result.weights.isfinite().all()
    assert ((result.weights > 0) & (result.weights <= 1 + 1e-12)).all()
    for row in result.rows.unique():
        total = result.weights[result.rows == row].sum().item()
        if config.weights_over == "selected":
            assert total == pytest.approx(1)
        else:
            assert total <= 1 + 1e-12


@settings(deadline=None, max_examples=150)
@given(cases(LEVELS))
def test_choice_and_weights_are_the_oracles(case: tuple[NDArray[np.float64], SparseConfig]) -> None:
    scores, config = case
    result = chosen_by(scores, config)
    check_form(result, len(scores), config)
    check_choice(result, scores, config)
    check_weights(result, config)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("seed", range(4))
def test_choice_and_weights_are_the_oracles_on_random_scores(policy: str, seed: int) -> None:
    draw = np.random.default_rng(seed)
    experts = int(draw.integers(1, 12))
    k = int(draw.integers(1, experts + 1))
    config = head_config("sparse", experts=experts, policy=policy, k=k, temperature=float(draw.uniform(0.3, 3)))
    scores = draw.normal(size=(150, experts)) * draw.uniform(0.1, 5)
    result = chosen_by(scores, config)
    check_form(result, 150, config)
    check_choice(result, scores, config)


@settings(deadline=None, max_examples=80)
@given(cases(BROKEN))
def test_no_score_breaks_the_form(case: tuple[NDArray[np.float64], SparseConfig]) -> None:
    scores, config = case
    check_form(chosen_by(scores, config), len(scores), config)


@settings(deadline=None, max_examples=40)
@given(cases(LEVELS, ("top_p",)))
def test_top_p_is_the_shortest_list_of_the_best_that_reaches_the_mass(
    case: tuple[NDArray[np.float64], SparseConfig],
) -> None:
    scores, config = case
    result = chosen_by(scores, config)
    for row, experts in zip(scores, table(result, len(scores)), strict=True):
        share = oracle.softmax(row / config.temperature)[experts]
        assert (np.diff(share) <= 0).all()
        assert share.sum() >= config.mass - 1e-12 or len(experts) == config.k
        assert share[:-1].sum() < config.mass + 1e-12 or len(experts) == 1


@settings(deadline=None, max_examples=40)
@given(cases(LEVELS, ("threshold",)))
def test_threshold_takes_all_and_only_those_that_pass(case: tuple[NDArray[np.float64], SparseConfig]) -> None:
    scores, config = case
    result = chosen_by(scores, config)
    for row, experts in zip(scores, table(result, len(scores)), strict=True):
        share = oracle.softmax(row / config.temperature)
        passing = set(np.flatnonzero(share >= config.threshold))
        if len(passing) <= config.k:
            assert set(experts) == (passing or {int(np.argmax(row))})
        else:
            assert set(experts) < passing
            assert min(share[experts]) >= max(share[sorted(passing - set(experts))])


@settings(deadline=None, max_examples=40)
@given(cases(LEVELS, ("capacity",)))
def test_capacity_serves_who_came_first_and_refuses_only_where_full(
    case: tuple[NDArray[np.float64], SparseConfig],
) -> None:
    scores, config = case
    result = chosen_by(scores, config)
    served, limit = table(result, len(scores)), oracle.places(config, len(scores))
    full = {e for e, count in enumerate(result.experts.bincount(minlength=config.experts)) if count == limit}
    for row, experts in zip(scores, served, strict=True):
        asked = oracle.best_first(row)[: config.k if config.overflow == "drop" else config.experts]
        assert experts == [e for e in asked if e in experts]  # best first
        if len(experts) < config.k:
            assert set(asked) - set(experts) <= full


def head_of(policy: str, **changes: Any) -> Any:
    torch.manual_seed(0)
    return build_head(head_config("sparse", features=5, hidden=3, classes=4, policy=policy, **changes))


SHAPES: list[dict[str, Any]] = [{}, {"experts": 1, "k": 1}, {"k": 1}, {"weights_over": "all"}]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("changes", SHAPES, ids=str)
@pytest.mark.parametrize("rows", [0, 1, 7])
def test_heads_of_every_policy_and_size_run_and_learn(policy: str, changes: dict[str, Any], rows: int) -> None:
    head = head_of(policy, **changes)
    logits = head(torch.randn(rows, 5))
    assert logits.shape == (rows, 4)
    logits.square().sum().backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in head.parameters())


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("k", [1, 2])
def test_the_task_teaches_gate_and_noise(policy: str, k: int) -> None:
    head = head_of(policy, k=k)
    head(torch.randn(40, 5)).square().sum().backward()
    assert head.gate.weight.grad.abs().sum() > 1e-3
    assert head.noise.weight.grad.abs().sum() > 1e-5


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("over", ["selected", "all"])
def test_gradients_are_those_of_differences(policy: str, over: str) -> None:
    config = head_config("sparse", experts=5, policy=policy, k=3, weights_over=over, temperature=0.7)
    scores = torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).requires_grad_()

    def weights(scores: Tensor) -> Tensor:
        return config.route(scores, scores).weights

    assert torch.autograd.gradcheck(weights, scores)
    assert torch.autograd.gradgradcheck(weights, scores)


@pytest.mark.parametrize("policy", POLICIES)
def test_evaluation_is_deterministic_and_without_noise(policy: str) -> None:
    head, x = head_of(policy, dropout=0.5, gate_dropout=0.5).eval(), torch.randn(90, 5)
    first, second = head.routing(x), head.routing(x)
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b) if isinstance(a, Tensor) else a == b
    assert first.noisy is None
    assert torch.equal(head(x), head(x))
    head.train()
    assert not torch.equal(head.routing(x).scores, head.routing(x).scores)


@pytest.mark.parametrize("policy", POLICIES)
def test_only_policies_that_say_so_depend_on_other_rows(policy: str) -> None:
    head, x = head_of(policy, experts=4, k=1).eval(), torch.randn(60, 5)
    alone = torch.cat([head.routing(row[None]).matrix() for row in x])
    assert torch.allclose(head.routing(x).matrix(), alone, atol=1e-6) != head.config.batch_coupled


def test_a_row_without_experts_has_logits_of_zero() -> None:
    head = head_of("expert_choice", experts=3, k=1).eval()
    x = torch.randn(50, 5)
    routing = head.routing(x)
    result = routing_statistics(routing, torch.zeros(50, dtype=torch.long), 4, head.config.temperature)
    idle = torch.ones(50, dtype=torch.bool).index_fill(0, routing.rows, False)
    assert 0 < idle.sum() < 50
    assert result["unserved"] == pytest.approx(idle.double().mean().item())
    assert (head(x)[idle] == 0).all()
    assert (head(x)[~idle] != 0).any(dim=1).all()


@pytest.mark.parametrize("experts", [2, 3, 8])
def test_one_expert_of_few_teaches_the_gate(experts: int) -> None:
    """Two standardised scores are always +-1 / sqrt(2): a weight that cannot move."""
    head, x = head_of("top_k", experts=experts, k=1, noise_floor=0.0), torch.randn(60, 5)
    head.eval()(x).square().sum().backward()
    assert head.gate.weight.grad.abs().max() > 1e-4
    assert head.config.standardise == (experts != 2)


FIELD = Path(__file__).parent / "field" / "expert_choice_nan"


@pytest.mark.parametrize("spoilt", [1, 2, 3, 5])
def test_padding_with_nan_takes_no_place_of_a_good_row(spoilt: int) -> None:
    """vllm#39391, sglang#30079 and aiter#4530: five NaN rows zeroed all seven good ones."""
    head = load(FIELD).model.head.double().eval()
    x = torch.from_numpy(np.load(FIELD / f"seven_rows_and_{spoilt}_nan.npy")).double()
    logits, routing = head(x), head.routing(x)
    assert logits[7:].isnan().all()
    assert logits[:7].isfinite().all()
    served = torch.bincount(routing.rows, minlength=len(x))
    assert served[:7].sum() == head.config.experts * min(7, head.config.capacity(len(x)))
    if spoilt == 5:
        assert np.allclose(logits[:7].detach(), np.load(FIELD / "expected_first_seven.npy"), rtol=1e-12)


@pytest.mark.parametrize("policy", ["capacity", "expert_choice"])
@pytest.mark.parametrize("place", [0, 3, 6])
def test_wherever_a_nan_row_stands_good_rows_are_served_as_without_it(policy: str, place: int) -> None:
    """The places are those of seven rows: the factor makes as many of eight."""
    good = torch.randn(7, 5)
    head = head_of(policy, capacity_factor=1.0).eval()
    more = head_of(policy, capacity_factor=0.875).eval()
    more.load_state_dict(head.state_dict())
    assert head.config.capacity(7) == more.config.capacity(8)
    x = torch.cat([good[:place], torch.full((1, 5), math.nan), good[place:]])
    logits = more(x)
    assert logits[place].isnan().all()
    others = [n for n in range(8) if n != place]
    assert torch.allclose(logits[others], head(good), atol=1e-6)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_nan_row_spoils_itself_alone(policy: str) -> None:
    factor = 9 if policy in ("capacity", "expert_choice") else None
    head, x = head_of(policy, capacity_factor=factor).eval(), torch.randn(7, 5)
    spoilt = x.index_fill(0, torch.tensor([3]), math.nan)
    others = [0, 1, 2, 4, 5, 6]
    assert head(spoilt)[3].isnan().all()
    assert torch.allclose(head(spoilt)[others], head(x)[others], atol=1e-6)


def test_the_choice_follows_the_ranking_and_the_weights_the_scores() -> None:
    draw = torch.Generator().manual_seed(0)
    ranking, scores = (torch.randn(40, 6, dtype=torch.float64, generator=draw) for _ in range(2))
    for policy in POLICIES:
        config = head_config("sparse", experts=6, policy=policy)
        result = config.route(ranking, scores)
        expected = oracle.CHOICES[policy](ranking.numpy(), config)
        assert [sorted(row) for row in table(result, 40)] == [sorted(expected.get(n, [])) for n in range(40)]
        weights = oracle.weights(scores.numpy(), expected, config)[result.rows, result.experts]
        assert np.allclose(result.weights, weights, rtol=1e-12)


@pytest.mark.parametrize("policy", ["top_k", "capacity"])
def test_tied_scores_select_no_more_than_k(policy: str) -> None:
    head = head_of(policy, k=2, gate_dropout=0.9).train()
    per_row = head.routing(torch.zeros(500, 5)).rows.bincount(minlength=500)
    assert per_row.max() == 2


def mutant(module: ModuleType, old: str, new: str) -> type[SparseConfig]:
    """Return the policy with one change in its module's source."""
    source = inspect.getsource(module)
    assert source.count(old) == 1
    scope: dict[str, Any] = {"__name__": module.__name__}
    exec(compile(source.replace(old, new), module.__file__ or "", "exec"), scope)
    return scope["POLICY"]


MUTANTS = [
    ("top_k", "select(ranking, self.k)", "select(-ranking, self.k)"),
    ("top_k", "select(ranking, self.k)", "select(scores.flip(-1), self.k)"),
    ("top_p", "= reached[:, :-1] < self.mass", "= reached[:, :-1] <= self.mass"),
    ("top_p", "torch.ones_like(order[:, :1], dtype=torch.bool)", "(reached[:, :1] >= self.mass)"),
    ("top_p", "cumsum(dim=-1)", "flip(-1).cumsum(dim=-1).flip(-1)"),
    ("top_p", "select(ranking, self.k)", "select(ranking, self.experts)"),
    ("threshold", "1:] >= self.threshold", "1:] > self.threshold"),
    ("threshold", "best = torch.ones_like", "best = torch.zeros_like"),
    ("threshold", "select(ranking, self.k)", "select(ranking, self.experts)"),
    ("capacity", "<= capacity)", "< capacity)"),
    ("capacity", "<= capacity)", "<= capacity + 1)"),
    ("capacity", "& (lacking > 0)", "& (lacking >= 0)"),
    ("capacity", 'overflow == "drop"', 'overflow == "next"'),
    ("capacity", "taken = taken + gets.sum(dim=0)", "taken = gets.sum(dim=0)"),
    ("expert_choice", "min(share.shape[1],", "max(1, -1 +"),
    ("expert_choice", "descending=True", "descending=False"),
    ("expert_choice", "stable=True).indices", "stable=True).indices.flip(-1)"),
]


@pytest.mark.parametrize(("policy", "old", "new"), MUTANTS)
def test_a_changed_policy_is_noticed(policy: str, old: str, new: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(POLICIES, policy, mutant(sys.modules[POLICIES[policy].__module__], old, new))
    assert any(not agrees(policy, np.random.default_rng(seed)) for seed in range(60))


def test_unchanged_policies_are_not() -> None:
    assert all(agrees(policy, np.random.default_rng(seed)) for policy in POLICIES for seed in range(15))


def agrees(policy: str, draw: np.random.Generator) -> bool:
    """Return whether the policy passes the checks on few rows with many ties."""
    experts = int(draw.choice([1, 2, 4, 8]))
    changes: dict[str, Any] = {"k": int(draw.integers(1, experts + 1))}
    match policy:
        case "capacity":
            changes["overflow"] = str(draw.choice(["drop", "next"]))
            changes["capacity_factor"] = float(draw.choice([0.5, 1.0, 1.25]))
        case "expert_choice":
            changes["capacity_factor"] = float(draw.choice([0.5, 1.0, 1.25]))
        case "threshold":
            changes["threshold"] = 0.25
    config = head_config("sparse", experts=experts, policy=policy, **changes)
    scores = draw.choice([0.0, 0.0, 1.0, 3.0], size=(int(draw.integers(0, 9)), experts))
    try:
        result = chosen_by(scores, config)
        check_form(result, len(scores), config)
        check_choice(result, scores, config)
    except (AssertionError, RuntimeError, IndexError):
        return False
    return True


@pytest.mark.parametrize("factor", [0.001, 0.1, 0.3, 0.7, 1.1, 1.25, 3.3, 1e-7, 123456.789, 1 / 3])
def test_capacity_is_rounded_up_exactly(factor: float) -> None:
    for rows in (0, 1, 7, 10, 1000, 999_999):
        for experts, k in ((1, 1), (3, 2), (8, 2), (10, 10)):
            config = head_config("sparse", policy="capacity", experts=experts, k=k, capacity_factor=factor)
            assert config.capacity(rows) == oracle.places(config, rows)


@pytest.mark.parametrize("policy", POLICIES)
def test_the_compiler_traces_the_decision_whole(policy: str) -> None:
    head = head_of(policy).eval()

    def routed(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        routing: Routing = head.routing(x)
        return routing.rows, routing.experts, routing.weights

    torch.compiler.reset()
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True), torch.inference_mode():
        compiled = torch.compile(routed, fullgraph=True, dynamic=True, backend="eager")
        for rows in (33, 7):
            x = torch.randn(rows, 5)
            for result, expected in zip(compiled(x), routed(x), strict=True):
                assert torch.equal(result, expected)
