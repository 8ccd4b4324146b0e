import pytest

from models.config import head_config
from models.settings import ConfigError
from models.training.balance import BalanceWeights
from models.training.recipes import PRESETS, TrainConfig, learning_rate, rate_factor, train_config


def test_defaults_by_data() -> None:
    assert train_config("digits", "dense").preset == "demo"
    assert train_config("cifar10", "dense").preset == "quick"
    assert train_config("some/folder", "dense").preset == "quick"


def test_paper_recipe() -> None:
    config = train_config("cifar10", "sparse", "paper")
    assert config.backbone.name == "resnet18"
    assert (config.lr, config.momentum, config.weight_decay, config.batch, config.epochs) == (0.1, 0.9, 5e-4, 128, 50)
    assert config.balance == BalanceWeights(importance=0.2, load=0.2)
    assert (config.shift, config.flip, config.label_smoothing, config.split_seed) == (0, False, 0, 42)
    fixed = train_config("cifar10", "sparse", "paper-fixed")
    changes = {"preset": "paper-fixed", "shift": 4, "flip": True}
    assert fixed == config.model_copy(update=changes)


@pytest.mark.parametrize("preset", PRESETS)
def test_digits_are_not_mirrored(preset: str) -> None:
    assert not train_config("digits", "soft", preset).flip


def test_step_schedule_drops_at_epochs_30_and_40_of_50() -> None:
    config = train_config("cifar10", "dense", "paper")
    rates = [learning_rate(config, epoch / 50) for epoch in range(50)]
    assert rates == pytest.approx([0.1] * 30 + [0.01] * 10 + [0.001] * 10)


def test_triangle_schedule() -> None:
    config = train_config("digits", "dense", lr=1.0, schedule="triangle")
    assert [learning_rate(config, done) for done in (0, 0.1, 0.2, 0.6, 1)] == pytest.approx([0.2, 0.6, 1, 0.5, 0])


def test_the_share_in_which_the_rate_rises_is_a_setting() -> None:
    config = train_config("digits", "dense", schedule="triangle", warm_up=0.5)
    assert [rate_factor(config, done) for done in (0, 0.25, 0.5, 0.75, 1)] == pytest.approx([0.2, 0.6, 1, 0.5, 0])
    config = train_config("digits", "dense", schedule="triangle", warm_up=0.0)
    assert [rate_factor(config, done) for done in (0, 0.5, 1)] == pytest.approx([1, 0.5, 0])


def test_constant_schedule() -> None:
    config = train_config("digits", "dense", lr=0.3, schedule="constant")
    assert {learning_rate(config, done) for done in (0, 0.5, 1)} == {0.3}


@pytest.mark.parametrize(
    ("head", "preset", "changes", "words"),
    [
        ("mixture", None, {}, ["'mixture'", "dense, soft, sparse"]),
        ("dense", "best", {}, ["'best'", "paper, paper-fixed, fast, quick, demo"]),
        ("dense", None, {"epochs": 0}, ["epochs", "1", "0"]),
        ("dense", None, {"batch": 1}, ["batch", "2", "1"]),
        ("dense", None, {"lr": -1.0}, ["lr", "greater than 0", "-1"]),
        ("dense", None, {"val_share": 1.0}, ["val_share", "less than 1"]),
        ("dense", None, {"backbone": {"name": "vit"}}, ["backbone.name", "'small'", "'vit'"]),
        ("dense", None, {"head_changes": {"experts": 3}}, ["dense head", "'experts'"]),
        ("sparse", None, {"head_changes": {"k": 9}}, ["k = 9", "experts = 8"]),
        ("soft", None, {"head_changes": {"activation": "tanh"}}, ["activation", "'tanh'"]),
        ("soft", None, {"momentum": 0.0}, ["nesterov", "momentum"]),
        ("soft", None, {"warm_up": 1.0}, ["warm_up", "less than 1"]),
        ("soft", "fast", {"adam_lr": None}, ["muon", "adam_lr"]),
        ("soft", None, {"adam_lr": 0.1}, ["muon", "adam_lr"]),
        ("soft", "fast", {"optimizer": "adam"}, ["optimizer", "'muon'", "'adam'"]),
        ("soft", "fast", {"backbone": {"name": "identity"}}, ["muon", "convolutions", "identity"]),
        ("soft", "fast", {"backbone": {"name": "fast", "widths": (8, 8)}}, ["backbone.widths"]),
        ("soft", None, {"resolutions": ((0.5, 1),)}, ["resolutions", "1", "0.5"]),
        ("soft", None, {"resolutions": ((0.5, 0), (1, 1))}, ["resolutions", "1", "0"]),
        ("soft", None, {"resolutions": ((1.5, 1), (1, 1))}, ["resolutions", "1", "1.5"]),
        ("dense", None, {"balance": {"kl": 0.2}}, ["kl", "dense head"]),
        ("soft", None, {"balance": {"load": 0.2}}, ["load", "noise"]),
        ("soft", None, {"balance": {"spread": 0.2}}, ["spread"]),
        ("soft", None, {"balance": {"kl": -0.2}}, ["kl", "0", "-0.2"]),
        ("soft", None, {"seed": -1}, ["seed", "0", "-1"]),
        ("soft", None, {"seed": 2**63}, ["seed"]),
    ],
)
def test_bad_recipes_are_refused_in_one_sentence(
    head: str, preset: str | None, changes: dict[str, object], words: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        train_config("digits", head, preset, **changes)
    message = str(caught.value)
    assert "\n" not in message
    assert [word for word in words if word not in message] == []


def test_a_recipe_survives_json() -> None:
    config = train_config("digits", "sparse", head_changes={"k": 1, "activation": "gelu"})
    assert TrainConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("kind", "changes", "expected"),
    [
        ("dense", {}, {}),
        ("soft", {}, {"kl": 0.2}),
        ("sparse", {}, {"importance": 0.2, "load": 0.2}),
        ("sparse", {"policy": "capacity"}, {"importance": 0.2, "load": 0.2}),
        ("sparse", {"policy": "top_p"}, {"importance": 0.2, "switch": 0.01}),
        ("sparse", {"policy": "threshold"}, {"importance": 0.2, "switch": 0.01}),
        ("sparse", {"policy": "expert_choice"}, {}),
        ("sparse", {"bias_correction": True}, {"correction": 0.001}),
    ],
)
def test_each_head_has_its_own_balance(kind: str, changes: dict[str, object], expected: dict[str, float]) -> None:
    assert head_config(kind, **changes).default_balance == expected
    config = train_config("digits", kind, head_changes=changes)
    assert config.balance == BalanceWeights(**expected)


def test_single_terms_of_the_balance_are_changed() -> None:
    config = train_config("digits", "sparse", balance={"load": 0.0, "z": 0.5})
    assert config.balance == BalanceWeights(importance=0.2, z=0.5)


def test_fast_sees_small_images_first_and_whole_ones_at_last() -> None:
    config = train_config("cifar10", "sparse", "fast")
    scales = [scale for scale, _ in config.resolutions]
    assert scales == sorted(scales)
    assert config.epochs % sum(parts for _, parts in config.resolutions) == 0
    assert (config.optimizer, config.shift, config.flip, config.cutout) == ("muon", 3, True, 6)


def test_the_presets_own_backbone_by_name_is_as_the_preset_has_it() -> None:
    named = train_config("cifar10", "dense", "fast", backbone={"name": "fast"})
    assert named == train_config("cifar10", "dense", "fast")
    assert train_config("cifar10", "dense", "fast", backbone={"name": "small"}).backbone.name == "small"


@pytest.mark.parametrize(("data", "mirrored"), [("cifar10", True), ("digits", False), ("cifar10+digits", False)])
def test_digits_are_mirrored_neither_in_training_nor_in_evaluation(data: str, mirrored: bool) -> None:
    config = train_config(data, "dense", "fast")
    assert (config.flip, config.backbone.mirrored) == (mirrored, mirrored)
