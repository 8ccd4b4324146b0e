"""A trained classifier as the fixed function that sharpness is measured on, and the blocks of its weights.

Letters: N rows, E experts, C classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import deepcopy
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from models.classifier.classifier import Classifier
from models.heads.heads import Head
from models.routing import Routing

WHOLE = "all"
_EXPERTS = ("head.w1", "head.b1", "head.w2", "head.b2")


class Network(nn.Module):
    """A copy of the backbone and head of a classifier, in evaluation mode.

    Its rows are normalised images, or features (N, D) without `with_backbone`.
    """

    def __init__(self, model: Classifier, with_backbone: bool) -> None:
        super().__init__()
        self.backbone: nn.Module = deepcopy(model.backbone) if with_backbone else nn.Identity()
        self.head: Head = deepcopy(model.head)
        self.eval()

    @property
    def coupled(self) -> bool:
        """Whether the logits of a row depend on the other rows of its batch."""
        return self.head.config.batch_coupled

    def routed(self, x: Tensor) -> tuple[Tensor, Routing | None]:
        """Return the logits (N, C) of x and the routing behind them, None for a dense head."""
        return self.head.routed(self.backbone(x))

    def forward(self, x: Tensor, with_routing: bool = False) -> Tensor | tuple[Tensor, Routing | None]:
        """Return the logits (N, C) of x, and the routing if `with_routing`."""
        return self.routed(x) if with_routing else self.routed(x)[0]


class WeightSlice(NamedTuple):
    """A tensor of the network, or the part of it that belongs to one expert."""

    name: str
    expert: int | None = None


class WeightBlock(NamedTuple):
    """Weights that vary together; `parts` names the smaller blocks that make it up, if any."""

    name: str
    slices: tuple[WeightSlice, ...]
    parts: tuple[str, ...] = ()

    @property
    def head_only(self) -> bool:
        """Whether the backbone's output does not depend on these weights."""
        return all(item.name.startswith("head.") for item in self.slices)


def network_blocks(network: Network) -> dict[str, WeightBlock]:
    """Return all blocks by name: `all`; its parts `backbone`, `gate`, `experts` or `head`; `expert 0` and so on.

    Frozen weights are in no block. Nor is the noise layer, which does nothing in evaluation, so that its curvature is
    exactly zero. A backbone without weights makes no block.
    """
    names = [name for name, weight in network.named_parameters() if weight.requires_grad]
    blocks = [WeightBlock("backbone", _whole(name for name in names if name.startswith("backbone.")))]
    if not network.head.config.gated:
        blocks.append(WeightBlock("head", _whole(_EXPERTS)))
    else:
        ids = range(network.head.config.experts)
        each = [WeightBlock(f"expert {e}", tuple(WeightSlice(name, e) for name in _EXPERTS)) for e in ids]
        blocks.append(WeightBlock("gate", _whole(name for name in names if name.startswith("head.gate."))))
        blocks.append(WeightBlock("experts", _whole(_EXPERTS), tuple(block.name for block in each)))
        blocks += each
    blocks = [block for block in blocks if block.slices]
    parts = [block for block in blocks if not block.name.startswith("expert ")]
    whole = WeightBlock(
        WHOLE, tuple(item for part in parts for item in part.slices), tuple(part.name for part in parts)
    )
    return {block.name: block for block in (whole, *blocks)}


def _whole(names: Iterable[str]) -> tuple[WeightSlice, ...]:
    return tuple(WeightSlice(name) for name in names)


class BlockNetwork(nn.Module):
    """A network as a function of one block: the weights of the block are its parameters, all others are constant."""

    def __init__(self, network: Network, block: WeightBlock) -> None:
        super().__init__()
        self._network = (network,)  # a tuple hides its weights from `parameters` here
        self.block = block
        self.state = {name: tensor.detach() for name, tensor in network.state_dict(keep_vars=True).items()}
        self.weights = nn.ParameterList(
            nn.Parameter((whole if item.expert is None else whole[item.expert]).clone())
            for item in block.slices
            for whole in (self.state[item.name],)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (N, C) of x at `weights`."""
        logits: Tensor = functional_call(self._network[0], self.placed(list(self.weights)), (x,))
        return logits

    def routed_at(self, weights: Sequence[Tensor], x: Tensor) -> tuple[Tensor, Routing | None]:
        """Return the logits (N, C) of x and their routing at other weights of the block."""
        result: tuple[Tensor, Routing | None] = functional_call(
            self._network[0], self.placed(weights), (x,), {"with_routing": True}
        )
        return result

    def placed(self, weights: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return the whole state of the network, with these weights of the block."""
        state = dict(self.state)
        for item, weight in zip(self.block.slices, weights, strict=True):
            if item.expert is None:
                state[item.name] = weight
            else:
                whole, e = state[item.name], item.expert
                state[item.name] = torch.cat([whole[:e], weight[None], whole[e + 1 :]])
        return state
