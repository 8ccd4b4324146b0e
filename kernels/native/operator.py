"""The torch operator `moegap::native_moe`, whose implementation `kernels.native.build` builds from moe.cpp.

N rows, D input width, H hidden width of one expert, E experts, k experts per row, C output width, M assignments, P
panels.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from kernels.problem.activation import Activation

ACTIVATIONS: tuple[Activation, ...] = ("relu", "gelu", "silu", "swiglu")
"""In the order in which the operator numbers them."""

_library = torch.library.Library("moegap", "FRAGMENT")
_library.define("native_width() -> int")
_library.define(
    "native_plan(int N, int D, int W, int H, int E, int C, int k, int element_size, int threads) -> (int, int, bool)"
)
_library.define(
    "native_moe(Tensor x, Tensor w1, Tensor b1, Tensor w2, Tensor b2, int hidden, int outputs, int activation, int k, "
    "Tensor? gate=None, Tensor? gate_bias=None, float temperature=1.0, bool standardise=False, bool over_all=False, "
    "Tensor? ids=None, Tensor? weights=None, Tensor? starts=None, Tensor? ends=None, bool combines=True, "
    "int[] plan=[]) -> Tensor"
)
native_plan = torch.ops.moegap.native_plan.default
native_moe = torch.ops.moegap.native_moe.default
"""x (N, D) -> (N, C). `gate`, `w1` and `w2` are panels (E, P, K, width). Without `ids` the gate decides, or all experts
serve all rows; with `starts` (N + 1,), row n has the assignments from starts[n] to starts[n + 1]."""


def panel_width() -> int:
    """Return the columns of a panel on this CPU: what two of its registers hold."""
    width: int = torch.ops.moegap.native_width()
    return width


@torch.library.register_fake("moegap::native_moe", lib=_library)
def _fake(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, hidden: int, outputs: int, *_: Any) -> Tensor:
    return x.new_empty(x.shape[0], outputs)


@register_flop_formula(torch.ops.moegap.native_moe)
def _flops(
    x: torch.Size,
    w1: torch.Size,
    b1: Any,
    w2: Any,
    b2: Any,
    hidden: int,
    outputs: int,
    activation: int,
    k: int,
    gate: torch.Size | None = None,
    gate_bias: Any = None,
    temperature: float = 1.0,
    standardise: bool = False,
    over_all: bool = False,
    ids: torch.Size | None = None,
    *_: Any,
    out_shape: torch.Size,
) -> int:
    """Return the operations of the gate and of the chosen experts, without padding."""
    N, D = x
    M = N * k if ids is None else torch.Size(ids).numel()
    halves = 2 if ACTIVATIONS[activation] == "swiglu" else 1
    experts = 2 * M * hidden * (D * halves + outputs)
    return experts + 2 * N * D * w1[0] if gate is not None else experts
