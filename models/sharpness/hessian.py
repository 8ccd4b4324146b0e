"""Products of a loss's Hessian with vectors, as an operator of curvlinops.

Letters: P weights, K vectors.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence

import psutil
import torch
from torch import Tensor, nn

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "`torch.jit", FutureWarning)  # of a package that curvlinops imports
    from curvlinops import HessianLinearOperator

KEPT_SHARE = 0.4
"""The share of free memory that kept graphs may take."""
_GRAPHS = 5
"""The graph of a gradient takes up to this many times the memory of the graph of the loss."""

Batches = Sequence[tuple[Tensor, Tensor]]


class Hessian(HessianLinearOperator):  # type: ignore[misc]  # curvlinops has no types
    """The Hessian (P, P) of the mean cross-entropy over all batches with respect to `model`'s parameters.

    This is the operator of curvlinops (which weighs ragged batches, takes vectors as tensors or lists, and exports to
    SciPy) with another product. curvlinops runs forward over reverse mode for every product. Here the graph of the
    gradient is kept and differentiated again, which on a CPU takes two thirds of the time. If the graphs would not fit
    into memory, each product builds them again.
    """

    def __init__(self, model: nn.Module, batches: Batches) -> None:
        super().__init__(
            model, nn.CrossEntropyLoss(), list(model.parameters()), list(batches), check_deterministic=False
        )
        self._kept: list[list[Tensor]] | None = None
        self._keeps = _graph_bytes(model, batches) <= KEPT_SHARE * _free_bytes(self.device)

    def _matmat(self, M: list[Tensor]) -> list[Tensor]:
        """Return the products with K vectors; vectors and products are one tensor (*shape, K) per parameter."""
        out = [torch.zeros_like(m) for m in M]
        for gradient in self._gradients():
            curved = [g for g in gradient if g.requires_grad]  # the others are linear in the parameters
            columns = [
                [m[..., k] for m, g in zip(M, gradient, strict=True) if g.requires_grad] for k in range(M[0].shape[-1])
            ]
            for k, column in enumerate(columns if curved else ()):
                products = torch.autograd.grad(curved, self._params, column, retain_graph=True, materialize_grads=True)
                for total, product in zip(out, products, strict=True):
                    total[..., k] += product
        return out

    def _gradients(self) -> Iterator[list[Tensor]]:
        """Yield the share of each batch in the gradient, with its graph."""
        if self._kept is not None:
            yield from self._kept
            return
        kept = []
        for x, y in self._loop_over_data():
            share = self._get_normalization_factor(x, y)
            loss = self._loss_func(self._model_func(x), y) * share
            gradient = torch.autograd.grad(loss, self._params, create_graph=True, materialize_grads=True)
            if self._keeps:
                kept.append(list(gradient))
            yield list(gradient)
        if self._keeps:
            self._kept = kept


def _graph_bytes(model: nn.Module, batches: Batches) -> int:
    """Return about how many bytes the graphs of the gradients of all batches take."""
    saved: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    x, _ = batches[0]
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        model(x)
    rows = sum(len(x) for x, _ in batches)
    return int(_GRAPHS * sum(saved.values()) * rows / max(len(x), 1))


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)
