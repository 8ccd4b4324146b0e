"""Muon: momentum with orthogonalised steps (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon).

`torch.optim.Muon` takes only matrices, computes in bfloat16, which is slow on CPUs, and lets the norms of the weights
grow. This one takes convolutions, computes in the precision of the weights and fixes their norms, as in the recipe for
CIFAR-10 that it is for (https://github.com/KellerJordan/cifar10-airbench).

Letters: O output channels, I product of all other dimensions of a weight.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

QUINTIC = (3.4445, -4.7750, 2.0315)
"""a, b, c of x -> a x + b x^3 + c x^5, which pulls every singular value in (0, 1] to about 1."""
STEPS = 5
EPS = 1e-7


class Muon(torch.optim.Optimizer):
    """Steps of `lr` along the orthogonalised momentum of weights with two dimensions or more.

    Before each step a weight is scaled to the norm sqrt(O), so that `lr` means the same in every layer.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float, momentum: float, nesterov: bool) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "nesterov": nesterov})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Change every weight that has a gradient once; `closure` is not supported."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(weight)
                buffer = state["momentum_buffer"].mul_(group["momentum"]).add_(weight.grad)
                direction = weight.grad.add(buffer, alpha=group["momentum"]) if group["nesterov"] else buffer
                weight.mul_(len(weight) ** 0.5 / weight.norm().clamp_min(EPS))
                weight.add_(orthogonalised(direction.flatten(1)).reshape(weight.shape), alpha=-group["lr"])


def orthogonalised(matrix: Tensor) -> Tensor:
    """Return about U V^T for the matrix U S V^T (O, I): the same singular vectors with singular values near 1.

    Newton-Schulz: start from X, the matrix divided by its Frobenius norm, and `STEPS` times take
    X -> (a + b A + c A^2) X with A = X X^T. All factors are polynomials in the first A, so their small product (O, O)
    is built first and applied once.
    """
    if len(matrix) > matrix.shape[1]:
        return orthogonalised(matrix.T).T
    a, b, c = QUINTIC
    x = matrix / matrix.norm().clamp_min(EPS)  # (O, I), O <= I
    gram = x @ x.T  # (O, O)
    product = identity = torch.eye(len(x), dtype=x.dtype, device=x.device)
    for _ in range(STEPS):
        factor = a * identity + b * gram + c * (gram @ gram)
        product = factor @ product
        gram = factor @ gram @ factor
    result: Tensor = product @ x
    return result
