"""The optimizers of a recipe, and their state for a file."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from models.training.muon import Muon
from models.training.recipes import TrainConfig

ADAM_BETAS = (0.9, 0.95)


class Optimizers:
    """The optimizers that together train all weights of `model` as `config` says, under one schedule."""

    def __init__(self, config: TrainConfig, model: nn.Module) -> None:
        self.parameters = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        self.each = _build(config, list(self.parameters.values()))
        self.highest = [[group["lr"] for group in optimizer.param_groups] for optimizer in self.each]

    def step(self, factor: float) -> None:
        """Take one step with `factor` times the highest learning rates."""
        for optimizer, rates in zip(self.each, self.highest, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
            optimizer.step()

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for optimizer in self.each:
            optimizer.zero_grad()

    def state(self) -> dict[str, Tensor]:
        """Return momenta and the like as WEIGHT.KIND, such as `head.w1.momentum_buffer`."""
        return {
            f"{name}.{kind}": value
            for name, weight in self.parameters.items()
            for optimizer in self.each
            for kind, value in optimizer.state.get(weight, {}).items()
            if isinstance(value, Tensor)
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from what `state` returned."""
        for name, value in state.items():
            of, _, kind = name.rpartition(".")
            weight = self.parameters[of]
            kept = torch.empty_like(weight).copy_(value) if value.shape == weight.shape else value.clone()
            self._of(weight).state[weight][kind] = kept

    def _of(self, weight: Tensor) -> Optimizer:
        groups = ((optimizer, group) for optimizer in self.each for group in optimizer.param_groups)
        return next(optimizer for optimizer, group in groups if any(weight is one for one in group["params"]))


def _build(config: TrainConfig, weights: list[nn.Parameter]) -> list[Optimizer]:
    if config.optimizer == "sgd":
        momentum, decay = config.momentum, config.weight_decay
        return [torch.optim.SGD(weights, lr=config.lr, momentum=momentum, nesterov=config.nesterov, weight_decay=decay)]
    assert config.adam_lr is not None
    convolutions = [weight for weight in weights if weight.ndim == 4]
    others = [weight for weight in weights if weight.ndim != 4]
    return [
        Muon(convolutions, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov),
        torch.optim.AdamW(others, lr=config.adam_lr, betas=ADAM_BETAS, weight_decay=config.weight_decay),
    ]
