from typing import Any

import pytest

from models.config import BackboneConfig, ConfigError, InputConfig, ModelConfig, equal_capacity, head_config
from models.errors import ModelError


def test_paper_heads() -> None:
    dense, soft, sparse = (head_config(kind) for kind in ("dense", "soft", "sparse"))
    assert (dense.features, dense.hidden, dense.classes) == (512, 512, 10)
    assert (soft.features, soft.hidden, soft.classes, soft.experts) == (512, 64, 10, 8)
    assert (sparse.k, sparse.standardise, sparse.noise_floor, sparse.weights_over) == (2, True, 0.3, "selected")
    assert {dense.dropout, soft.dropout, sparse.dropout, soft.gate_dropout, sparse.gate_dropout} == {0.1}


def test_a_zero_stays_zero() -> None:
    head = head_config("sparse", dropout=0.0, gate_dropout=0.0, noise_floor=0.0)
    assert (head.dropout, head.gate_dropout, head.noise_floor) == (0, 0, 0)


def test_k_1_weighs_over_all_experts_so_that_the_gate_learns() -> None:
    assert head_config("sparse", k=1).weights_over == "all"
    assert head_config("sparse", k=2).weights_over == "selected"
    assert head_config("sparse", k=1, experts=1, weights_over="selected").weights_over == "selected"


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        ("mixture", {}, ["'mixture'", "dense, soft, sparse"]),
        ("dense", {"preset": "large"}, ["'large'", "paper"]),
        ("dense", {"experts": 4}, ["dense head", "'experts'", "hidden"]),
        ("sparse", {"k": 9}, ["k = 9", "experts = 8", "1 to 8"]),
        ("sparse", {"k": 0}, ["k", "greater than or equal to 1", "0"]),
        ("sparse", {"k": 1, "weights_over": "selected"}, ["k = 1", "no gradient", "all"]),
        ("soft", {"temperature": 0.0}, ["temperature", "greater than 0"]),
        ("soft", {"temperature": float("nan")}, ["temperature"]),
        ("soft", {"dropout": 1.0}, ["dropout", "less than 1"]),
        ("soft", {"activation": "tanh"}, ["activation", "'relu', 'gelu' or 'silu'", "'tanh'"]),
    ],
)
def test_bad_heads_are_refused_in_one_sentence(kind: str, changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        head_config(kind, **changes)
    message = str(caught.value)
    assert isinstance(caught.value, ModelError)
    assert "\n" not in message
    assert [word for word in words if word not in message] == []


def test_equal_capacity_joins_the_experts_into_one_block() -> None:
    moe = head_config("sparse", experts=6, hidden=10, features=12, classes=3, activation="silu", dropout=0.25)
    dense = equal_capacity(moe)
    assert (dense.features, dense.hidden, dense.classes) == (12, 60, 3)
    assert (dense.activation, dense.dropout) == ("silu", 0.25)


def test_input_statistics_need_a_value_per_channel() -> None:
    with pytest.raises(ValueError, match="each of the 3 channels"):
        InputConfig(shape=(3, 8, 8), mean=(0.5,), std=(0.5,))


@pytest.mark.parametrize("kind", ["dense", "soft", "sparse"])
def test_a_model_survives_json(kind: str) -> None:
    config = ModelConfig(backbone=BackboneConfig(name="small", width=64), head=head_config(kind, features=64))
    assert ModelConfig.model_validate_json(config.model_dump_json()) == config
