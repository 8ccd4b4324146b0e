import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from models.config import DenseConfig, SoftConfig, SparseConfig, equal_capacity, head_config
from models.cost import executed_experts, flops, least_bytes, parameters
from models.heads import build_head

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
    assert counted.combine == (2 * rows * executed_experts(config) * config.classes if config.kind != "dense" else 0)


@settings(deadline=None, max_examples=25)
@given(heads, st.integers(1, 9), st.sampled_from([2, 4]))
def test_least_bytes_are_those_of_the_tensors_once(config: Config, rows: int, size: int) -> None:
    head = build_head(config)
    executed = 1 if config.kind == "dense" else min(config.experts, rows * executed_experts(config))
    values = rows * (config.features + config.classes)
    for name, parameter in head.named_parameters():
        if name.startswith("gate"):
            values += parameter.numel()
        elif not name.startswith("noise"):
            values += parameter.numel() // (1 if config.kind == "dense" else config.experts) * executed
    assert least_bytes(config, rows, size) == size * values


def test_least_bytes_with_few_distinct_experts_and_with_no_rows() -> None:
    config = head_config("sparse")
    expert = (512 + 1) * 64 + (64 + 1) * 10
    assert least_bytes(config, 100, 4) - least_bytes(config, 100, 4, distinct_experts=3) == 4 * 5 * expert
    assert least_bytes(config, 0, 4) == 0
    assert flops(config, 0).total == 0


@settings(deadline=None, max_examples=25)
@given(heads.filter(lambda config: config.kind != "dense"))
def test_equal_capacity_has_the_experts_parameters(config: Config) -> None:
    experts = sum(
        parameter.numel() for name, parameter in build_head(config).named_parameters() if name in ("w1", "b1", "w2")
    )
    dense = equal_capacity(config)
    assert parameters(dense) == experts + config.classes  # one output bias instead of one per expert
