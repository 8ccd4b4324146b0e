import pytest
import torch
from torch import Tensor, nn

from models.training.muon import Muon
from models.training.optimizers import Optimizers
from models.training.recipes import TrainConfig, train_config


def config(optimizer: str, **changes: object) -> TrainConfig:
    return train_config("cifar10", "dense", {"sgd": "quick", "muon": "fast"}[optimizer], **changes)


def model() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3))
    layers[1].weight.requires_grad_(False)
    return layers


def learn(layers: nn.Module, optimizers: Optimizers, steps: range) -> dict[str, Tensor]:
    for step in steps:
        images = torch.randn(8, 2, 4, 4, generator=torch.Generator().manual_seed(step))
        optimizers.zero_grad()
        layers(images).logsumexp(1).sum().backward()
        optimizers.step(0.5)
    return {name: value.clone() for name, value in layers.state_dict().items()}


def test_muon_has_the_convolutions_and_adam_the_rest() -> None:
    layers = model()
    muon, adam = Optimizers(config("muon", lr=0.2, adam_lr=0.03, weight_decay=0.5), layers).each
    assert isinstance(muon, Muon)
    assert isinstance(adam, torch.optim.AdamW)
    names = {parameter: name for name, parameter in layers.named_parameters()}
    assert [names[weight] for weight in muon.param_groups[0]["params"]] == ["0.weight"]
    assert [names[weight] for weight in adam.param_groups[0]["params"]] == ["0.bias", "1.bias", "3.weight", "3.bias"]
    assert (muon.param_groups[0]["lr"], muon.param_groups[0]["momentum"]) == (0.2, 0.6)
    assert (adam.param_groups[0]["lr"], adam.param_groups[0]["weight_decay"]) == (0.03, 0.5)


@pytest.mark.parametrize("optimizer", ["sgd", "muon"])
def test_a_factor_scales_every_rate_from_its_highest(optimizer: str) -> None:
    layers = model()
    optimizers = Optimizers(config(optimizer), layers)
    highest = [one.param_groups[0]["lr"] for one in optimizers.each]
    for factor in (0.5, 0.25):
        optimizers.step(factor)
        assert [one.param_groups[0]["lr"] for one in optimizers.each] == [rate * factor for rate in highest]


@pytest.mark.parametrize("optimizer", ["sgd", "muon"])
def test_restored_optimizers_go_on_to_the_same_bits(optimizer: str) -> None:
    layers = model()
    optimizers = Optimizers(config(optimizer), layers)
    halfway = learn(layers, optimizers, range(3))
    state = {name: value.clone() for name, value in optimizers.state().items()}
    expected = learn(layers, optimizers, range(3, 6))
    again = model()
    again.load_state_dict(halfway)
    restored = Optimizers(config(optimizer), again)
    restored.restore(state)
    result = learn(again, restored, range(3, 6))
    assert all(torch.equal(result[name], expected[name]) for name in expected)
    forgetful = model()
    forgetful.load_state_dict(halfway)
    result = learn(forgetful, Optimizers(config(optimizer), forgetful), range(3, 6))
    assert not all(torch.equal(result[name], expected[name]) for name in expected)


def test_the_state_names_each_weight_and_what_is_kept_of_it() -> None:
    layers = model()
    optimizers = Optimizers(config("muon"), layers)
    assert optimizers.state() == {}
    learn(layers, optimizers, range(1))
    adam = {f"{name}.{kind}" for name in ("0.bias", "1.bias", "3.weight", "3.bias") for kind in ("step", "exp_avg")}
    assert optimizers.state().keys() >= adam | {"0.weight.momentum_buffer"}
    assert not any(name.startswith("1.weight") for name in optimizers.state())
