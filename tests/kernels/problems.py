"""Problems for the whole sparse head: how to make them, spoil them and judge a solution.

N rows, D input width, H hidden width of one expert, E experts, k experts per row, C output width.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.kernels.oracle import ACTIVATIONS, assert_close, exact, route

AWKWARD = [
    # N, D, H, E, k, C
    (0, 8, 8, 3, 2, 4),
    (1, 1, 1, 1, 1, 1),
    (1, 16, 16, 8, 2, 10),
    (7, 33, 9, 7, 7, 5),
    (15, 16, 16, 2, 1, 10),
    (16, 16, 16, 2, 2, 10),
    (17, 16, 16, 1, 1, 10),
    (33, 97, 47, 7, 3, 10),
    (20, 20, 12, 60, 4, 3),
    (2, 12, 8, 384, 8, 3),
]


@dataclass(frozen=True)
class Problem:
    """The arguments of `sparse_moe`."""

    x: Tensor  # (N, D)
    scores: Tensor  # (N, E)
    w1: Tensor  # (E, D, H)
    b1: Tensor  # (E, H)
    w2: Tensor  # (E, H, C)
    b2: Tensor  # (E, C)
    k: int = 2
    activation: str = "relu"
    temperature: float = 1.0
    standardise: bool = False
    weights_over: str = "selected"

    def run(self, function: Callable[..., Tensor], **options: Any) -> Tensor:
        """Return what `function`, which has the arguments of `sparse_moe`, makes of this problem."""
        return function(**vars(self), **options)

    def but(self, **changes: Any) -> "Problem":
        """Return this problem with some arguments replaced."""
        return replace(self, **changes)

    def routing(self) -> dict[str, Any]:
        """Return the keyword arguments that decide the routing, without k."""
        return {
            "temperature": self.temperature,
            "standardise": self.standardise,
            "weights_over": self.weights_over,
        }

    def logits(self) -> np.ndarray:
        """Return the logits (N, C)."""
        return self._combined(lambda a: a, ACTIVATIONS[self.activation])

    def magnitudes(self) -> np.ndarray:
        """Return the logits (N, C) of the operands' absolute values, with which rounding errors scale."""
        return self._combined(np.abs, lambda h: h)

    def _combined(self, view: Callable[[np.ndarray], np.ndarray], activate: Callable[..., np.ndarray]) -> np.ndarray:
        x, w1, b1, w2, b2 = (view(exact(tensor)) for tensor in (self.x, self.w1, self.b1, self.w2, self.b2))
        ids, weights = route(exact(self.scores), self.k, **self.routing())
        out = np.zeros((len(x), w2.shape[2]))
        for n, j in np.ndindex(ids.shape):
            e = ids[n, j]
            out[n] += weights[n, j] * (activate(x[n] @ w1[e] + b1[e]) @ w2[e] + b2[e])
        return out


def problem(
    N: int,
    D: int,
    H: int,
    E: int,
    C: int,
    dtype: torch.dtype = torch.float32,
    *,
    seed: int = 0,
    **settings: Any,
) -> Problem:
    """Return a random problem with activations and logits of the order of 1."""
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=g)

    return Problem(
        x=normal(N, D).to(dtype),
        scores=normal(N, E),
        w1=(normal(E, D, H) / D**0.5).to(dtype),
        b1=normal(E, H).to(dtype),
        w2=(normal(E, H, C) / H**0.5).to(dtype),
        b2=normal(E, C).to(dtype),
        **settings,
    )


def padded(case: Problem) -> Problem:
    """Return `case` with the same values apart, amid NaN, misaligned or shared."""
    N, D = case.x.shape
    E, H, C = case.w2.shape
    apart = torch.full((2 * N, D + 5), float("nan"), dtype=case.x.dtype)
    apart[::2, 5:] = case.x
    wide = torch.full((E, D, H + 3), float("nan"), dtype=case.x.dtype)
    wide[:, :, :H] = case.w1
    odd = torch.empty(case.w2.numel() + 1, dtype=case.x.dtype)[1:].view(E, H, C).copy_(case.w2)
    return case.but(
        x=apart[::2, 5:],
        scores=case.scores.t().contiguous().t(),
        w1=wide[:, :, :H],
        b1=case.b1.t().contiguous().t(),
        w2=odd,
        b2=case.b2[:, None].expand(E, 2, C)[:, 1],
    )


def turned(case: Problem) -> Problem:
    """Return `case` with the same values in transposed storage."""
    return case.but(
        x=case.x.t().contiguous().t(),
        w1=case.w1.transpose(1, 2).contiguous().transpose(1, 2),
        w2=case.w2.permute(1, 2, 0).contiguous().permute(2, 0, 1),
    )


MUTANTS: dict[str, Callable[[Problem], dict[str, Any]]] = {
    "experts swapped": lambda case: {"w1": case.w1[[1, 0, 2, 3]]},
    "second products swapped": lambda case: {"w2": case.w2[[0, 1, 3, 2]]},
    "row dropped": lambda case: {"x": case.x * (torch.arange(len(case.x)) != 7)[:, None]},
    "weights ignored": lambda _: {"temperature": 1e6},
    "weights of all": lambda _: {"weights_over": "all"},
    "scores standardised": lambda _: {"standardise": True},
    "one expert too few": lambda _: {"k": 1},
    "first bias forgotten": lambda case: {"b1": torch.zeros_like(case.b1)},
    "second bias forgotten": lambda case: {"b2": torch.zeros_like(case.b2)},
    "another activation": lambda _: {"activation": "silu"},
}


def assert_solves(got: Tensor, problem: Problem) -> None:
    """Fail unless `got` are the logits of `problem`."""
    assert got.dtype == problem.x.dtype
    assert_close(got, problem.logits(), problem.magnitudes(), problem.x.dtype)
