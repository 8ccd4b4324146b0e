from typing import Any

import pytest

from models.config import BackboneConfig, InputConfig, ModelConfig, head_config
from models.errors import ModelError
from models.heads.heads import equal_capacity
from models.routing.policies import POLICIES
from models.settings import ConfigError


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
        ("sparse", {"policy": "random"}, ["unknown policy 'random'", "top_k", "expert_choice"]),
        ("sparse", {"mass": 0.5}, ["policy top_k", "no setting mass", "none of its own"]),
        ("sparse", {"policy": "capacity", "threshold": 0.1}, ["capacity", "threshold", "capacity_factor, overflow"]),
        ("sparse", {"policy": "expert_choice", "overflow": "next"}, ["no setting overflow", "capacity_factor"]),
        ("sparse", {"policy": "top_p", "mass": 0.0}, ["mass", "greater than 0"]),
        ("sparse", {"policy": "top_p", "mass": 1.1}, ["mass", "less than or equal to 1"]),
        ("sparse", {"policy": "threshold", "threshold": -0.1}, ["threshold", "greater than or equal to 0"]),
        ("sparse", {"policy": "capacity", "capacity_factor": 0}, ["capacity_factor", "greater than 0"]),
        ("sparse", {"policy": "capacity", "capacity_factor": float("inf")}, ["capacity_factor"]),
        ("sparse", {"policy": "capacity", "overflow": "wait"}, ["overflow", "'drop' or 'next'", "'wait'"]),
        ("sparse", {"policy": "threshold", "k": 9}, ["k = 9", "experts = 8"]),
        ("sparse", {"policy": "top_p", "k": 1, "weights_over": "selected"}, ["k = 1", "no gradient"]),
        ("sparse", {"policy": "expert_choice", "bias_correction": True}, ["expert_choice", "bias_correction"]),
        ("soft", {"policy": "top_p"}, ["soft head", "'policy'"]),
        ("soft", {"temperature": 0.0}, ["temperature", "greater than 0"]),
        ("soft", {"temperature": float("nan")}, ["temperature"]),
        ("soft", {"dropout": 1.0}, ["dropout", "less than 1"]),
        ("soft", {"activation": "tanh"}, ["activation", "'relu', 'gelu', 'silu' or 'swiglu'", "'tanh'"]),
    ],
)
def test_bad_heads_are_refused_in_one_sentence(kind: str, changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        head_config(kind, **changes)
    message = str(caught.value)
    assert isinstance(caught.value, ModelError)
    assert "\n" not in message
    assert [word for word in words if word not in message] == []


@pytest.mark.parametrize(
    ("policy", "defaults", "k", "over"),
    [
        ("top_k", {}, 2, "selected"),
        ("capacity", {"capacity_factor": 1.25, "overflow": "drop"}, 2, "selected"),
        ("top_p", {"mass": 0.5}, 8, "all"),
        ("threshold", {"threshold": 0.15}, 8, "all"),
        ("expert_choice", {"capacity_factor": 1.0}, 2, "all"),
    ],
)
def test_every_policy_has_its_own_settings_alone(policy: str, defaults: dict[str, Any], k: int, over: str) -> None:
    head = head_config("sparse", policy=policy)
    assert head.model_dump(include=set(head.settings())) == defaults == POLICIES[policy].settings()
    assert (head.k, head.weights_over, head.bias_correction) == (k, over, False)
    assert head.batch_coupled == (policy in ("capacity", "expert_choice"))
    assert head_config("sparse", policy=policy, k=3).k == 3


def test_a_changed_copy_is_checked_and_counts_anew() -> None:
    head = head_config("sparse", policy="capacity", capacity_factor=1.0)
    assert [head.model_copy(update={"capacity_factor": factor}).capacity(100) for factor in (1.0, 2.0)] == [25, 50]
    with pytest.raises(ValueError, match="k = 9"):
        head.model_copy(update={"k": 9})


def test_a_head_saved_before_there_were_policies_is_top_k() -> None:
    old = {"kind": "sparse", "features": 4, "hidden": 2, "classes": 3, "experts": 8, "k": 2, "policy": "top_k"}
    model = ModelConfig.model_validate({"head": {**old, "weights_over": "selected"}})
    assert model.head == head_config("sparse", features=4, hidden=2, classes=3, dropout=0.0, gate_dropout=0.0)


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


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_survives_json(policy: str) -> None:
    config = ModelConfig(head=head_config("sparse", policy=policy, bias_correction=policy != "expert_choice"))
    assert ModelConfig.model_validate_json(config.model_dump_json()) == config
