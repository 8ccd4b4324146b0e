from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from models.config import head_config
from models.heads.cost import flops, least_bytes, parameters
from models.heads.dense import DenseConfig
from models.heads.heads import build_head, equal_capacity
from models.heads.soft import SoftConfig
from models.routing.policies import POLICIES
from models.routing.policy import SparseConfig
from models.settings import Activation

Config = DenseConfig | SoftConfig | SparseConfig

heads = st.builds(
    lambda kind, experts, share, **sizes: head_config(
        kind,
        **sizes,
        **({} if kind == "dense" else {"experts": experts}),
        **({"k": max(1, round(share * experts))} if kind == "sparse" else {}),
    ),
    kind=st.sampled_from(["dense", "soft", "sparse"]),
    experts=st.integers(1, 9),
    share=st.floats(0, 1),
    features=st.integers(1, 20),
    hidden=st.integers(1, 20),
    classes=st.integers(1, 12),
    activation=st.sampled_from(get_args(Activation)),
)


def test_the_papers_numbers() -> None:
    dense, soft, sparse = (head_config(kind) for kind in ("dense", "soft", "sparse"))
    assert [parameters(head) for head in (dense, soft, sparse)] == [267_786, 271_960, 276_064]
    assert flops(dense, 1).total == 534_528
    assert flops(soft, 1).total - flops(soft, 1).combine == 542_720
    assert flops(sparse, 1).total - flops(sparse, 1).combine == 141_824
    assert flops(dense, 1).total / flops(sparse, 1).total == pytest.approx(3.77, abs=0.01)


@settings(deadline=None, max_examples=25)
@given(heads)
def test_parameters_are_those_of_the_module(config: Config) -> None:
    assert parameters(config) == sum(parameter.numel() for parameter in build_head(config).parameters())


@settings(deadline=None, max_examples=25)
@given(heads, st.integers(1, 9))
def test_operations_are_those_that_torch_counts(config: Config, rows: int) -> None:
    head = build_head(config).eval()
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        head(torch.randn(rows, config.features))
    counted = flops(config, rows)
    assert counter.get_total_flops() == counted.gate + counted.experts  # torch counts products, so no combine
    assert counted.combine == (2 * rows * config.most_experts * config.classes if config.kind != "dense" else 0)


@pytest.mark.parametrize("kind", ["dense", "soft", "sparse"])
def test_operations_of_training_are_those_that_torch_counts(kind: str) -> None:
    config = head_config(kind, features=12, hidden=5, classes=3)
    head, x = build_head(config).eval(), torch.randn(64, 12, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        head(x).sum().backward()
    counted = flops(config, 64, training=True)
    assert counter.get_total_flops() == counted.gate + counted.experts
    assert counted.total == 3 * flops(config, 64).total


@pytest.mark.parametrize("kind", ["dense", "soft", "sparse"])
def test_training_also_moves_every_gradient_once(kind: str) -> None:
    config = head_config(kind, features=12, hidden=5, classes=3)
    head, x = build_head(config).eval(), torch.randn(1, 12, requires_grad=True)
    out = head(x)
    learned = [value for name, value in head.named_parameters() if not name.startswith("noise")]
    moved = [out, *torch.autograd.grad(out, [x, *learned], torch.ones_like(out), materialize_grads=True)]
    backward = least_bytes(config, 1, 4, training=True) - least_bytes(config, 1, 4)
    assert backward == 4 * sum(tensor.numel() for tensor in moved)
    assert least_bytes(config, 0, 4, training=True) == 0


@settings(deadline=None, max_examples=25)
@given(heads, st.integers(1, 9), st.sampled_from([2, 4]))
def test_least_bytes_are_those_of_the_tensors_once(config: Config, rows: int, size: int) -> None:
    head = build_head(config)
    executed = 1 if config.kind == "dense" else min(config.experts, rows * config.most_experts)
    values = rows * (config.features + config.classes)
    for name, parameter in head.named_parameters():
        if name.startswith("gate"):
            values += parameter.numel()
        elif not name.startswith("noise"):
            values += parameter.numel() // (1 if config.kind == "dense" else config.experts) * executed
    assert least_bytes(config, rows, size) == size * values


def test_swiglu_costs_half_as_much_again_at_equal_widths() -> None:
    sizes = {"features": 512, "hidden": 64, "classes": 512}
    plain, gated = (head_config("sparse", **sizes, activation=name) for name in ("silu", "swiglu"))
    assert flops(gated, 7).experts == 1.5 * flops(plain, 7).experts
    assert flops(gated, 7).combine == flops(plain, 7).combine
    assert parameters(gated) - parameters(plain) == 8 * (512 + 1) * 64
    assert least_bytes(gated, 7, 2, 5) - least_bytes(plain, 7, 2, 5) == 2 * 5 * (512 + 1) * 64


def test_stored_experts_count_their_bytes() -> None:
    config = head_config("sparse", features=8, hidden=16, classes=5, experts=4)
    others = 4 * (9 * 4 + 7 * (8 + 5))
    assert least_bytes(config, 7, 4, 3, expert_bytes=100) == 3 * 100 + others


def test_least_bytes_with_few_distinct_experts_and_with_no_rows() -> None:
    config = head_config("sparse")
    expert = (512 + 1) * 64 + (64 + 1) * 10
    assert least_bytes(config, 100, 4) - least_bytes(config, 100, 4, distinct_experts=3) == 4 * 5 * expert
    assert least_bytes(config, 0, 4) == 0
    assert flops(config, 0).total == 0


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("rows", [0, 1, 7, 100])
def test_operations_of_a_policy_are_those_of_its_assignments(policy: str, rows: int) -> None:
    torch.manual_seed(0)
    config = head_config("sparse", features=12, hidden=5, classes=3, policy=policy)
    head, x = build_head(config).eval(), torch.randn(rows, 12)
    with torch.inference_mode():
        executed = len(head.routing(x).rows)
        with FlopCounterMode(display=False) as counter:
            head(x)
    counted = flops(config, rows, executed)
    assert counter.get_total_flops() == counted.gate + counted.experts
    assert counted.combine == 2 * executed * 3
    assert executed <= config.most_assignments(rows)
    if policy in ("top_k", "expert_choice"):
        assert flops(config, rows) == counted


def test_the_most_assignments_are_reached() -> None:
    config = {"features": 4, "hidden": 2, "experts": 4, "k": 2}
    x = torch.zeros(10, 4)
    for changes in ({"policy": "top_p", "mass": 1.0}, {"policy": "threshold", "threshold": 0.0}):
        head = build_head(head_config("sparse", **config, **changes)).eval()
        assert len(head.routing(x).rows) == head.config.most_assignments(10) == 20
    crowded = head_config("sparse", **config, policy="capacity", capacity_factor=0.4)
    assert crowded.most_assignments(10) == 4 * 2  # 0.4 x 10 x 2 / 4 rows for each expert
    head = build_head(crowded).eval()
    with torch.no_grad():
        head.gate.weight.copy_(10 * torch.eye(4))
    assert len(head.routing(torch.eye(4).repeat(3, 1)[:10]).rows) == 8
    assert head_config("sparse", **config, policy="capacity").most_assignments(10) == 20
    assert head_config("sparse", **config, policy="expert_choice").most_assignments(1) == 4


@pytest.mark.parametrize("policy", POLICIES)
def test_policies_have_equal_parameters(policy: str) -> None:
    corrected = {"bias_correction": True} if policy != "expert_choice" else {}
    config = head_config("sparse", policy=policy, **corrected)
    assert parameters(config) == sum(parameter.numel() for parameter in build_head(config).parameters()) == 276_064


@settings(deadline=None, max_examples=25)
@given(heads.filter(lambda config: config.kind != "dense"))
def test_equal_capacity_has_the_experts_parameters(config: Config) -> None:
    experts = sum(
        parameter.numel() for name, parameter in build_head(config).named_parameters() if name in ("w1", "b1", "w2")
    )
    dense = equal_capacity(config)
    assert parameters(dense) == experts + config.classes  # one output bias instead of one per expert
