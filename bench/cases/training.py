"""Forward and backward of a head as one call, and the check of its gradients.

The loss is the sum of output times a fixed `upstream` gradient, so autograd begins at the output with that. Every call
computes the gradients of the rows and of all parameters anew, by `torch.autograd.grad`; nothing is accumulated.

Letters: N rows, D input width, C output width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle
from typing import NamedTuple

import torch
from torch import Tensor

from bench.correctness.equivalence import gradient_deviation
from bench.correctness.reference import EXPERT, Reference, gradients
from bench.forms import Runner
from models.heads.heads import Head


class Trained(NamedTuple):
    """What a call returns: the output (N, C), and the gradients of the rows and of the parameters.

    `sign` is 1 or -1, the factor of the upstream gradient.
    """

    output: Tensor
    gradients: tuple[Tensor, ...]
    sign: int


@dataclass(frozen=True)
class Backward:
    """The upstream gradient (N, C), and what must come out: gradients in float64 by name, of the rows under "x"."""

    upstream: Tensor
    expected: dict[str, Tensor]
    experts: int

    def call(self, runner: Runner, head: Head) -> Callable[[Tensor], Trained]:
        """Return one forward and backward pass of `head`, from rows (N, D).

        The upstream gradient changes its sign with every call, so that gradients of an earlier call are wrong.
        """
        parameters = _learned(head).values()
        turns = cycle(((self.upstream, 1), (-self.upstream, -1)))

        def run(x: Tensor) -> Trained:
            with torch.inference_mode(mode=False), torch.enable_grad():
                rows = x.detach().requires_grad_()
                output = runner.run(rows)
                upstream, sign = next(turns)
                computed = torch.autograd.grad(output, [rows, *parameters], upstream, materialize_grads=True)
            return Trained(output.detach(), computed, sign)

        return run

    def deviations(self, result: Trained) -> dict[str, float]:
        """Return by name how far each gradient of a call deviates."""
        pairs = zip(self.expected.items(), result.gradients, strict=True)
        return {
            name: gradient_deviation(result.sign * gradient, wanted, self.experts if name in EXPERT else 1)
            for (name, wanted), gradient in pairs
        }


def backward(head: Head, x: Tensor, expected: Reference, seed: int) -> Backward:
    """Return a random upstream gradient for x (N, D), zero for rows that float32 cannot route, with the gradients."""
    generator = torch.Generator().manual_seed(seed)
    upstream = torch.randn(expected.logits.shape, generator=generator)
    upstream[torch.from_numpy(expected.undecided)] = 0
    upstream = upstream.to(x)
    wanted = gradients(head.config, head.state_dict(), x, upstream, list(_learned(head)))
    return Backward(upstream, wanted, head.config.experts)


def _learned(head: Head) -> dict[str, Tensor]:
    return {name: value for name, value in head.named_parameters() if value.requires_grad}
