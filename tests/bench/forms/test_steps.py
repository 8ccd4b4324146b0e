"""Counterfactual steps: each does what its name says, counted in operations and held to the whole call."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.forms import form
from bench.forms.steps import balanced
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


@pytest.mark.parametrize("skew", [None, "one"])
def test_the_loop_multiplies_as_many_rows_as_are_assigned_in_every_step(skew):
    one, x = head("sparse"), rows()
    if skew:
        one.gate.weight.zero_()
        one.gate.bias.copy_(-torch.arange(E))
    with torch.inference_mode():
        steps = form("loop").steps(one, x)
    expected = {"balanced": 0, "products": 0, "dispatched": 0, "gated": GATE, "routed": GATE, "combined": GATE}
    assert {name: counted(call) for name, call in steps.items()} == {
        name: N * K * EXPERT + gate for name, gate in expected.items()
    }


def test_eager_pads_to_the_busiest_expert_and_balancing_takes_the_padding_away():
    one, x = head("sparse"), rows()
    one.gate.weight.zero_()
    one.gate.bias.copy_(-torch.arange(E))  # all rows to experts 0 and 1
    with torch.inference_mode():
        steps = form("eager").steps(one, x)
    assert counted(steps["balanced"]) == E * -(-N * K // E) * EXPERT
    assert counted(steps["products"]) == counted(steps["dispatched"]) == E * N * EXPERT
    assert counted(steps["gated"]) == counted(steps["routed"]) == E * N * EXPERT + GATE


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
