"""The loss of a trained network on fixed rows, as a function of the weights of one block.

Letters: N rows, P weights of the block, E experts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from models.routing import Routing
from models.sharpness.hessian import Batches, Hessian
from models.sharpness.network import BlockNetwork, Network, WeightBlock


@dataclass(frozen=True, eq=False)
class Value:
    """Mean loss in nats, accuracy and routing at some weights.

    `served` (N, E) bool says which experts serve which row; None for a dense head.
    """

    loss: float
    accuracy: float
    served: Tensor | None

    def rerouted(self, other: Value) -> int:
        """Return how many rows have other experts than in `other`."""
        if self.served is None or other.served is None:
            return 0
        return int((self.served != other.served).any(dim=1).sum())


class Objective:
    """Mean cross-entropy over the rows of all batches, as a function of weights (P,).

    The losses of rows are summed in float64, whatever the dtype of the weights.
    """

    def __init__(self, network: Network, block: WeightBlock, batches: Batches) -> None:
        self.block, self.batches = block, batches
        self.model = BlockNetwork(network, block)
        self.rows = sum(len(y) for _, y in batches)
        self._sizes = [weight.numel() for weight in self.model.weights]

    @property
    def weights(self) -> Tensor:
        """The trained weights (P,)."""
        return flat([weight.detach() for weight in self.model.weights])

    def split(self, vector: Tensor) -> list[Tensor]:
        """Return a vector (P,) as tensors in the shapes of the weights of the block."""
        parts = vector.split(self._sizes)
        return [part.view(weight.shape) for part, weight in zip(parts, self.model.weights, strict=True)]

    @torch.no_grad()
    def at(self, weights: Tensor) -> Value:
        """Return loss, accuracy and routing at weights (P,)."""
        return self._evaluated(self.split(weights), None)

    def with_gradient(self, weights: Tensor) -> tuple[Value, Tensor]:
        """Return the result of `at`, and the gradient (P,)."""
        gradient = torch.zeros_like(weights)
        value = self._evaluated([part.detach().requires_grad_() for part in self.split(weights)], gradient)
        return value, gradient

    def _evaluated(self, placed: list[Tensor], gradient: Tensor | None) -> Value:
        """Return the value at weights in their shapes, and add the gradient to `gradient`, if any."""
        total, correct, served = 0.0, 0, []
        for x, y in self.batches:
            logits, routing = self.model.routed_at(placed, x)
            losses = F.cross_entropy(logits, y, reduction="none")  # (n,)
            if gradient is not None:
                gradient += flat(torch.autograd.grad(losses.sum() / self.rows, placed, materialize_grads=True))
            total += losses.detach().double().sum().item()
            correct += int((logits.argmax(dim=1) == y).sum())
            if routing is not None:
                served.append(_served(routing))
        return Value(total / self.rows, correct / self.rows, torch.cat(served) if served else None)

    def hessian(self) -> Hessian:
        """Return the Hessian (P, P) at the trained weights."""
        return Hessian(self.model, self.batches)


def flat(tensors: Sequence[Tensor]) -> Tensor:
    """Return the entries of all tensors as one vector."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def _served(routing: Routing) -> Tensor:
    served = torch.zeros_like(routing.scores, dtype=torch.bool)
    return served.index_put((routing.rows, routing.experts), torch.ones((), dtype=torch.bool, device=served.device))
