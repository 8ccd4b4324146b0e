"""Counterfactual steps: each does what its name says, counted in operations and held to the whole call."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.execution.steps import balanced
from bench.forms import eager, form
from models.config import head_config
from models.heads.heads import build_head
from models.routing import Routing

N, D, H, E, C, K = 37, 24, 16, 5, 8, 2
GATE = 2 * N * D * E
EXPERT = 2 * (D * H + H * C)  # one row, one expert


def head(kind, **changes):
    torch.manual_seed(3)
    sizes = {} if kind == "dense" else {"experts": E}
    config = head_config(kind, features=D, classes=C, hidden=H, **{**sizes, **changes})
    return build_head(config).eval().requires_grad_(False)


def only_two_experts(head):
    head.gate.weight.zero_()
    head.gate.bias.copy_(-torch.arange(E))


def counted(call):
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def rows():
    return torch.randn(N, D, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", ["loop", "eager", "grouped_mm"])
@pytest.mark.parametrize("changes", [{}, {"policy": "top_p"}, {"k": 1}, {"k": E}, {"policy": "capacity"}])
def test_the_steps_of_a_sparse_head_grow_to_the_whole(name, changes):
    one, x = head("sparse", **changes), rows()
    with torch.inference_mode():
        steps = form(name).steps(one, x)
        assert list(steps) == ["balanced", "products", "dispatched", "gated", "routed", "combined"]
        assert torch.equal(steps["combined"](), form(name).prepare(one, x)(x))


@pytest.mark.parametrize("name", ["loop", "eager"])
@pytest.mark.parametrize("skew", [None, "one"])
def test_as_many_rows_are_multiplied_as_are_assigned_in_every_step(name, skew):
    one, x = head("sparse"), rows()
    if skew:
        only_two_experts(one)
    with torch.inference_mode():
        steps = form(name).steps(one, x)
    expected = {"balanced": 0, "products": 0, "dispatched": 0, "gated": GATE, "routed": GATE, "combined": GATE}
    combine = 2 * N * K * C if name == "eager" else 0  # a product to torch's counter
    assert {step: counted(call) for step, call in steps.items()} == {
        step: N * K * EXPERT + gate + (combine if step == "combined" else 0) for step, gate in expected.items()
    }


def test_padding_to_the_busiest_expert_goes_away_when_loads_are_even():
    one, x = head("sparse"), rows()
    only_two_experts(one)
    with torch.inference_mode():
        run, routing = eager.Sparse(one, sliced=False), one.routing(x)
        even, real = (run.dispatch(x, each) for each in (balanced(routing), routing))
    assert counted(lambda: run.products(even)) == E * -(-N * K // E) * EXPERT
    assert counted(lambda: run.products(real)) == E * N * EXPERT


@pytest.mark.parametrize("name", ["loop", "eager"])
def test_the_steps_of_a_soft_head(name):
    one, x = head("soft"), rows()
    with torch.inference_mode():
        steps = form(name).steps(one, x)
        assert torch.equal(steps["combined"](), form(name).prepare(one, x)(x))
    assert list(steps) == ["balanced", "gated", "routed", "combined"]
    assert counted(steps["balanced"]) == N * E * EXPERT
    assert counted(steps["gated"]) == counted(steps["routed"]) == N * E * EXPERT + GATE


def test_a_dense_head_is_all_products():
    one, x = head("dense"), rows()
    with torch.inference_mode():
        steps = form("eager").steps(one, x)
    assert list(steps) == ["balanced"]
    assert counted(steps["balanced"]) == N * EXPERT


def test_balanced_keeps_rows_and_weights_and_evens_the_load():
    experts = torch.tensor([0, 1, 0, 1, 0, 2, 0])
    routing = Routing(torch.tensor([0, 0, 1, 1, 2, 2, 3]), experts, torch.rand(7), torch.zeros(4, 3))
    even = balanced(routing)
    assert even.load().tolist() == [3, 2, 2]
    assert torch.equal(even.rows, routing.rows)
    assert torch.equal(even.weights, routing.weights)


def test_triton_splits_its_grouped_path_and_no_fused_one():
    one, x = head("sparse"), rows()
    with torch.inference_mode():
        steps = form("triton").steps(one, x)
        whole = form("triton").prepare(one, x)(x)
        for name, call in steps.items():
            got = call()
            if name in ("given", "routed"):
                torch.testing.assert_close(got, whole, rtol=1e-4, atol=1e-5)
    assert list(steps) in ([], ["balanced", "products", "given", "routed"])
