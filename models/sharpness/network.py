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
    """A backbone and a head in evaluation mode; a copy of the classifier's, which stays as it is.

    Without `with_backbone` it starts from features. Its rows are then features (N, D), else normalised images.
    """

    def __init__(self, model: Classifier, with_backbone: bool) -> None:
        super().__init__()
        self.backbone: nn.Module = deepcopy(model.backbone) if with_backbone else nn.Identity()
        self.head: Head = deepcopy(model.head)
        self.eval()

    @property
    def coupled(self) -> bool:
        """Whether a row's logits depend on the other rows of its batch."""
        return self.head.config.batch_coupled

    def routed(self, x: Tensor) -> tuple[Tensor, Routing | None]:
        """Return the logits (N, C) of x and the routing behind them, which a dense head has not."""
        return self.head.routed(self.backbone(x))

    def forward(self, x: Tensor, with_routing: bool = False) -> Tensor | tuple[Tensor, Routing | None]:
        """Return the logits (N, C) of x, and on request the routing."""
        return self.routed(x) if with_routing else self.routed(x)[0]


class Piece(NamedTuple):
    """A tensor of the network, or the slice of it that belongs to one expert."""

    name: str
    expert: int | None = None


class WeightBlock(NamedTuple):
    """Weights that are varied together; `parts` are the blocks that it consists of, if any."""

    name: str
    pieces: tuple[Piece, ...]
    parts: tuple[str, ...] = ()

    @property
    def head_only(self) -> bool:
        """Whether the backbone's output does not depend on these weights."""
        return all(piece.name.startswith("head.") for piece in self.pieces)


def network_blocks(network: Network) -> dict[str, WeightBlock]:
    """Return all blocks by name: `all`; its parts `backbone`, `gate`, `experts` or `head`; `expert 0` and so on.

    What training does not move is in none: frozen weights, and the noise layer, which has no influence in
    evaluation, so that its curvature is exactly zero. A backbone without weights makes no block.
    """
    names = [name for name, weight in network.named_parameters() if weight.requires_grad]
    blocks = [WeightBlock("backbone", _pieces(name for name in names if name.startswith("backbone.")))]
    if not network.head.config.gated:
        blocks.append(WeightBlock("head", _pieces(_EXPERTS)))
    else:
        ids = range(network.head.config.experts)
        each = [WeightBlock(f"expert {e}", tuple(Piece(name, e) for name in _EXPERTS)) for e in ids]
        blocks.append(WeightBlock("gate", _pieces(name for name in names if name.startswith("head.gate."))))
        blocks.append(WeightBlock("experts", _pieces(_EXPERTS), tuple(block.name for block in each)))
        blocks += each
    found = [block for block in blocks if block.pieces]
    parts = [block for block in found if not block.name.startswith("expert ")]
    whole = WeightBlock(
        WHOLE, tuple(piece for part in parts for piece in part.pieces), tuple(part.name for part in parts)
    )
    return {block.name: block for block in (whole, *found)}


def _pieces(names: Iterable[str]) -> tuple[Piece, ...]:
    return tuple(Piece(name) for name in names)


class BlockNetwork(nn.Module):
    """A network as a function of one block: those weights are its parameters, all others are constants."""

    def __init__(self, network: Network, block: WeightBlock) -> None:
        super().__init__()
        self._network = (network,)  # a tuple, so that the network's weights are no parameters of this module
        self.block = block
        self.state = {name: tensor.detach() for name, tensor in network.state_dict(keep_vars=True).items()}
        self.weights = nn.ParameterList(
            nn.Parameter((whole if piece.expert is None else whole[piece.expert]).clone())
            for piece in block.pieces
            for whole in (self.state[piece.name],)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (N, C) of x at `weights`."""
        logits: Tensor = functional_call(self._network[0], self.placed(list(self.weights)), (x,))
        return logits

    def routed_at(self, weights: Sequence[Tensor], x: Tensor) -> tuple[Tensor, Routing | None]:
        """Return the logits (N, C) of x and their routing at other weights of the block."""
        found: tuple[Tensor, Routing | None] = functional_call(
            self._network[0], self.placed(weights), (x,), {"with_routing": True}
        )
        return found

    def placed(self, weights: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return the network's whole state with the block's weights in their places."""
        state = dict(self.state)
        for piece, weight in zip(self.block.pieces, weights, strict=True):
            if piece.expert is None:
                state[piece.name] = weight
            else:
                whole, e = state[piece.name], piece.expert
                state[piece.name] = torch.cat([whole[:e], weight[None], whole[e + 1 :]])
        return state
