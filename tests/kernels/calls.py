"""Calls of the whole operation: how to make them, spoil them and judge their outputs.

N rows, D input width, H hidden width of one expert, E experts, k experts per row, C output width, M assignments.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kernels.problem.experts import Experts
from kernels.problem.routes import Flat, Gate, RoutingSource, TopK
from tests.kernels.oracle import ACTIVATIONS, activated_magnitudes, assert_close, exact, route

AWKWARD = [
    # N, D, H, E, k, C
    (0, 8, 8, 3, 2, 4),
    (1, 1, 1, 1, 1, 1),
    (1, 16, 16, 8, 2, 10),
    (7, 33, 9, 7, 7, 5),
    (15, 16, 16, 2, 1, 10),
    (16, 16, 16, 2, 2, 10),
    (17, 16, 16, 1, 1, 10),
    (19, 97, 47, 7, 3, 10),
    (6, 20, 12, 60, 4, 3),
    (2, 12, 8, 384, 8, 3),
]
KINDS = ("gate", "top_k", "flat")


@dataclass(frozen=True)
class Call:
    """The arguments of `moe`."""

    x: Tensor  # (N, D)
    routing: RoutingSource
    w1: Tensor  # (E, D, H) or (E, D, 2H)
    b1: Tensor | None
    w2: Tensor  # (E, H, C)
    b2: Tensor | None
    activation: str = "relu"

    def run(self, function: Callable[..., Tensor], **options: Any) -> Tensor:
        """Return the outputs of `function`, which takes the arguments of `moe`, for this call."""
        return function(self.x, self.routing, self.experts, **options)

    @property
    def experts(self) -> Experts:
        """The experts as `moe` takes them."""
        return Experts(self.w1, self.b1, self.w2, self.b2, self.activation)  # type: ignore[arg-type]

    def but(self, **changes: Any) -> "Call":
        """Return this call with some of its arguments, or some fields of its routing, replaced."""
        names = {field.name for field in fields(self.routing)}
        inner = {name: value for name, value in changes.items() if name in names}
        outer = {name: value for name, value in changes.items() if name not in names}
        return replace(self, routing=replace(outer.pop("routing", self.routing), **inner), **outer)

    def map(self, change: Callable[[Tensor], Tensor]) -> "Call":
        """Return this call with every tensor changed."""

        def changed(part: Any) -> dict[str, Tensor]:
            values = {field.name: getattr(part, field.name) for field in fields(part)}
            return {name: change(value) for name, value in values.items() if isinstance(value, Tensor)}

        return replace(self, routing=replace(self.routing, **changed(self.routing)), **changed(self))

    def rows(self, keep: Tensor) -> "Call":
        """Return this call for only the rows `keep` (indices or a mask), in that order; not for a flat routing."""
        if isinstance(self.routing, TopK):
            routing = TopK(self.routing.ids[keep], self.routing.weights[keep])
            return replace(self, x=self.x[keep], routing=routing)
        return replace(self, x=self.x[keep])

    def assignments(self) -> Iterator[tuple[int, int, float]]:
        """Yield row, expert and weight of every assignment that has an expert."""
        E = self.w2.shape[0]
        if isinstance(self.routing, Flat):
            flat = (exact(part).tolist() for part in (self.routing.rows, self.routing.experts, self.routing.weights))
            yield from ((int(n), int(e), weight) for n, e, weight in zip(*flat, strict=True) if 0 <= e < E)
            return
        ids, weights = self._routed()
        for n, j in np.ndindex(ids.shape):
            if 0 <= ids[n, j] < E:
                yield n, int(ids[n, j]), float(weights[n, j])

    def outputs(self) -> np.ndarray:
        """Return the right outputs (N, C), in float64."""
        return self._combined(lambda a: a, ACTIVATIONS[self.activation])

    def magnitudes(self) -> np.ndarray:
        """Return the outputs (N, C) of the operands' absolute values; rounding errors scale with them."""
        return self._combined(np.abs, partial(activated_magnitudes, activation=self.activation))

    def _routed(self) -> tuple[np.ndarray, np.ndarray]:
        if isinstance(self.routing, TopK):
            return exact(self.routing.ids).astype(int), exact(self.routing.weights)
        gate = self.routing
        assert isinstance(gate, Gate)
        scores = (exact(self.x)[:, None, :] * exact(gate.weight)[None]).sum(axis=2)
        scores = scores if gate.bias is None else scores + exact(gate.bias)
        settings = {"standardise": gate.standardise, "weights_over": gate.weights_over}
        return route(scores, gate.k, temperature=gate.temperature, **settings)

    def _combined(self, view: Callable[[np.ndarray], np.ndarray], activate: Callable[..., np.ndarray]) -> np.ndarray:
        x, w1, w2 = (view(exact(tensor)) for tensor in (self.x, self.w1, self.w2))
        b1 = np.zeros(w1.shape[::2]) if self.b1 is None else view(exact(self.b1))
        b2 = np.zeros(w2.shape[::2]) if self.b2 is None else view(exact(self.b2))
        out = np.zeros((len(x), w2.shape[2]))
        for n, e, weight in self.assignments():
            out[n] += view(np.float64(weight)) * (activate(x[n] @ w1[e] + b1[e]) @ w2[e] + b2[e])
        return out


def new_call(
    N: int,
    D: int,
    H: int,
    E: int,
    C: int,
    dtype: torch.dtype = torch.float32,
    *,
    kind: str = "gate",
    k: int = 2,
    seed: int = 0,
    activation: str = "relu",
    **gate: Any,
) -> Call:
    """Return a random call with scores, activations and outputs of the order of 1."""
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=g)

    wide = 2 * H if "swiglu" in activation else H
    x = normal(N, D).to(dtype)
    weights = normal(N, k).softmax(dim=1)
    routing: RoutingSource = TopK(torch.rand(N, E, generator=g).argsort(dim=1)[:, :k].int(), weights)
    if kind == "gate":
        routing = Gate((normal(E, D) / D**0.5).to(dtype), normal(E).to(dtype), k, **gate)
    elif kind == "flat":
        M = N * k
        rows, experts = torch.randint(max(N, 1), (M,), generator=g), torch.randint(-1, E, (M,), generator=g)
        routing = Flat(rows.int(), experts.int(), weights.flatten())
    return Call(
        x=x,
        routing=routing,
        w1=(normal(E, D, wide) / D**0.5).to(dtype),
        b1=normal(E, wide).to(dtype),
        w2=(normal(E, H, C) / H**0.5).to(dtype),
        b2=normal(E, C).to(dtype),
        activation=activation,
    )


def padded(call: Call) -> Call:
    """Return `call` with the same values spread out among NaN, misaligned or shared."""
    N, D = call.x.shape
    E, H, C = call.w2.shape
    apart = torch.full((2 * N, D + 5), float("nan"), dtype=call.x.dtype)
    apart[::2, 5:] = call.x
    wide = torch.full((*call.w1.shape[:2], call.w1.shape[2] + 3), float("nan"), dtype=call.x.dtype)
    wide[:, :, : call.w1.shape[2]] = call.w1
    odd = torch.empty(call.w2.numel() + 1, dtype=call.x.dtype)[1:].view(E, H, C).copy_(call.w2)
    assert call.b1 is not None
    assert call.b2 is not None
    return call.but(
        x=apart[::2, 5:],
        w1=wide[:, :, : call.w1.shape[2]],
        b1=call.b1.t().contiguous().t(),
        w2=odd,
        b2=call.b2[:, None].expand(E, 2, C)[:, 1],
    )


def turned(call: Call) -> Call:
    """Return `call` with the same values in transposed storage."""
    changes: dict[str, Tensor] = {}
    if isinstance(call.routing, Gate):
        changes["weight"] = call.routing.weight.t().contiguous().t()
    if isinstance(call.routing, TopK):
        changes["ids"] = call.routing.ids.t().contiguous().t()
        changes["weights"] = call.routing.weights.t().contiguous().t()
    return call.but(
        x=call.x.t().contiguous().t(),
        w1=call.w1.transpose(1, 2).contiguous().transpose(1, 2),
        w2=call.w2.permute(1, 2, 0).contiguous().permute(2, 0, 1),
        **changes,
    )


def tied(call: Call) -> Call:
    """Return `call` with equal scores for experts 1, 3, 4 and 5, changed in place."""
    assert isinstance(call.routing, Gate)
    weight, bias = call.routing.weight, call.routing.bias
    assert bias is not None
    weight[[1, 3, 4, 5]], bias[[1, 3, 4, 5]] = weight[1].clone(), bias[1].clone()
    return call


def restricted(call: Call, used: list[int]) -> tuple[Call, list[int]]:
    """Return `call`, changed in place so that its gate chooses only experts that are `used`, and the others."""
    assert isinstance(call.routing, Gate)
    assert call.routing.bias is not None
    unused = [e for e in range(len(call.w1)) if e not in used]
    call.routing.bias[unused] = -float("inf")
    return call, unused


def spoil(call: Call, experts: list[int]) -> None:
    """Fill all parameters of some experts with NaN."""
    for parameter in (call.w1, call.b1, call.w2, call.b2):
        assert parameter is not None
        parameter[experts] = float("nan")


MUTANTS: dict[str, Callable[[Call], dict[str, Any]]] = {
    "experts swapped": lambda call: {"w1": call.w1[[1, 0, 2, 3]]},
    "second products swapped": lambda call: {"w2": call.w2[[0, 1, 3, 2]]},
    "row dropped": lambda call: {"x": call.x * (torch.arange(len(call.x)) != 7)[:, None]},
    "weights ignored": lambda _: {"temperature": 1e6},
    "weights of all": lambda _: {"weights_over": "all"},
    "scores standardised": lambda _: {"standardise": True},
    "one expert too few": lambda _: {"k": 1},
    "gate's bias forgotten": lambda _: {"bias": None},
    "first bias forgotten": lambda _: {"b1": None},
    "second bias forgotten": lambda _: {"b2": None},
    "another activation": lambda _: {"activation": "silu"},
}
"""Changes of a call with E = 4, k = 2 and a gate; each must show in the outputs."""


def assert_right(got: Tensor, call: Call) -> None:
    """Fail unless `got` are the right outputs of `call`."""
    assert got.dtype == call.x.dtype
    assert_close(got, call.outputs(), call.magnitudes(), call.x.dtype)
