"""The activation between the two products, applied in the epilogue of the first.

H hidden width of one expert.
"""

from collections.abc import Callable
from typing import Literal

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn.functional import gelu, silu

Activation = Literal["relu", "gelu", "silu", "swiglu", "interleaved_swiglu"]


def halves(name: str | None) -> int:
    """Return how many columns of w1 make one hidden value: a gate and an up for swiglu, else 1."""
    return 2 if name in ("swiglu", "interleaved_swiglu") else 1


def column_blocks(name: str | None) -> int:
    """Return in how many blocks those columns lie apart: 2 if all gates come before all ups, else 1."""
    return 2 if name == "swiglu" else 1


@triton.jit
def activate(x, name: tl.constexpr) -> tl.tensor:
    """Return activation `name` of an fp32 tile, or x itself for None; NaN stays NaN, and gelu is exact."""
    if name == "relu":
        x = tl.where(x < 0.0, 0.0, x)
    elif name == "gelu":
        x = 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))
    elif name == "silu":
        x = x / (1.0 + tl.exp(-x))
    return x


@triton.jit
def gate_and_up(h, H, activation: tl.constexpr) -> tuple[tl.tensor, tl.tensor]:
    """Return the columns of w1 for hidden values h: the only or the gate's column of each, and that of its up, or h."""
    if activation == "interleaved_swiglu":
        return 2 * h, 2 * h + 1
    return h, h + H if activation == "swiglu" else h


@triton.jit
def swiglu(gate, up) -> tl.tensor:
    """Return silu(gate) * up of fp32 tiles; a gate far below 0 gives 0 of either sign."""
    return activate(gate, "silu") * up


def _swiglu_reference(x: Tensor) -> Tensor:
    gate, up = x.chunk(2, dim=-1)
    return silu(gate) * up


def _interleaved_swiglu_reference(x: Tensor) -> Tensor:
    return silu(x[..., 0::2]) * x[..., 1::2]


_REFERENCES: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "gelu": gelu,
    "silu": silu,
    "swiglu": _swiglu_reference,
    "interleaved_swiglu": _interleaved_swiglu_reference,
}


def activate_reference(x: Tensor, name: str | None) -> Tensor:
    """Return activation `name` of x, or x for None: (..., H) from (..., H), or from (..., 2H) for swiglu."""
    return x if name is None else _REFERENCES[name](x)


def check_activation(name: str | None) -> None:
    """Raise ValueError unless `name` is an activation or None."""
    if name is not None and name not in _REFERENCES:
        raise ValueError(f"activation must be one of {', '.join(_REFERENCES)}, not {name!r}")
