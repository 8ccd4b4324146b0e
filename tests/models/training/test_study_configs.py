from typing import Any

import pytest

from models.config import HEAD_KINDS, ConfigError, head_config
from models.training.balance import BalanceWeights
from models.training.recipes import TrainConfig
from models.training.study_configs import study_configs


def by_head(**changes: Any) -> dict[str, TrainConfig]:
    return {config.head: config for config in study_configs("digits", HEAD_KINDS, [0], **changes)}


def test_every_head_is_trained_with_every_seed_under_one_recipe() -> None:
    configs = study_configs("cifar10", ["dense", "soft"], [4, 5], "paper", epochs=7)
    assert [(config.head, config.seed) for config in configs] == [("dense", 4), ("soft", 4), ("dense", 5), ("soft", 5)]
    own = {"head", "seed", "balance"}
    assert len({config.model_dump_json(exclude=own) for config in configs}) == 1
    assert configs[0].epochs == 7


def test_each_head_takes_what_it_has() -> None:
    changes = {"k": 3, "policy": "capacity", "experts": 4, "hidden": 10, "activation": "gelu"}
    found = by_head(head_changes=changes, balance={"load": 0.5, "importance": 0.0, "kl": 0.1})
    assert found["sparse"].head_changes == changes
    assert found["soft"].head_changes == {"experts": 4, "hidden": 10, "activation": "gelu"}
    assert found["dense"].head_changes == {"hidden": 40, "activation": "gelu"}
    assert found["dense"].balance == BalanceWeights()
    assert found["soft"].balance.kl == 0.1
    assert (found["sparse"].balance.load, found["sparse"].balance.importance) == (0.5, 0.0)


@pytest.mark.parametrize(("changes", "hidden"), [({}, 512), ({"experts": 3}, 192), ({"hidden": 5}, 40)])
def test_the_dense_head_is_as_wide_as_all_experts(changes: dict[str, int], hidden: int) -> None:
    assert head_config("dense", **by_head(head_changes=changes)["dense"].head_changes).hidden == hidden


def test_a_dense_head_alone_has_the_width_asked_for() -> None:
    (config,) = study_configs("digits", ["dense"], [0], head_changes={"hidden": 5})
    assert config.head_changes == {"hidden": 5}


@pytest.mark.parametrize(
    ("heads", "changes", "words"),
    [
        (["dense", "soft"], {"head_changes": {"k": 3}}, "none of the heads dense, soft has a setting 'k'"),
        (["dense", "soft"], {"balance": {"load": 1.0}}, "none of the heads dense, soft has a setting 'load'"),
        (["dense", "sparse"], {"balance": {"spread": 1.0}}, "balance.spread"),
        (["dense", "mixture"], {}, "unknown head 'mixture'"),
        (["dense", "sparse"], {"head_changes": {"k": 9}}, "k = 9 is more than experts = 8"),
    ],
)
def test_bad_settings_are_refused(heads: list[str], changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        study_configs("digits", heads, [0], **changes)
