"""The operation of `kernels.moe` on a CPU: the weights of its experts packed once, then one operator per call.

N rows, D input width, H hidden width of one expert, W = H columns of the first product, or 2H for swiglu, E experts, k
experts per row, C output width, M assignments of a row to an expert, P panels.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from kernels.call.arguments import problem_of
from kernels.launch.launch import anywhere
from kernels.native.build import load
from kernels.native.operator import ACTIVATIONS, native_moe, panel_width
from kernels.native.plan import Plan, plan_of
from kernels.problem.activation import column_blocks
from kernels.problem.experts import Experts
from kernels.problem.routes import Flat, Gate, RoutingSource, TopK

DTYPES = (torch.float32, torch.bfloat16)
"""Dtypes of weights. Sums are fp32 for both; bf16 is widened in registers, which every CPU can."""


class Native:
    """Experts, and perhaps their gate, packed for a CPU.

        layer = Native(Experts(w1, b1, w2, b2, "swiglu"), Gate(weight, bias, k=2))
        y = layer(x)  # (N, D) -> (N, C), in the dtype of x

    Results repeat to the bit, for any number of threads, and a row does not depend on the others. The call is the
    operator `moegap::native_moe`, so it works in torch.compile(fullgraph=True), and torch's flop counter knows it.
    There are no gradients.

    Raises:
        ValueError: An argument has the wrong shape, dtype or device.
        BuildError: There is no compiler, or it fails.
    """

    def __init__(self, experts: Experts, gate: Gate | None = None) -> None:
        if experts.is_stored:
            raise ValueError("the native kernel takes weights in full, not stored in 8 or 4 bits")
        experts = _stacked(experts)
        w1, b1, w2, b2, *_ = experts.parts()
        D = w1.shape[1]
        given = TopK(w1.new_empty(0, 1, dtype=torch.int64), w1.new_empty(0, 1))
        with anywhere():
            problem = problem_of(w1.new_empty(0, D), gate or given, experts, "ieee")
        if problem.dtype not in DTYPES or w1.device.type != "cpu":
            raise ValueError(
                f"the native kernel computes in float32 and bfloat16 on a CPU, not in {problem.dtype} on {w1.device}"
            )
        load()
        blocks = column_blocks(experts.activation)
        self.w1, self.w2 = _panels(w1, blocks), _panels(w2)
        b1, b2 = _bias(b1, w1, blocks), _bias(b2, w2)
        E, H, C, activation = problem.E, problem.H, problem.C, ACTIVATIONS.index(experts.activation)
        self._packed = self.w1, b1, self.w2, b2, H, C, activation
        self._sizes = D, b1.shape[1], H, E, C
        self._routed: tuple[Any, ...] = (E,)
        if gate is not None:
            weight = gate.weight.float().t()[None]  # (1, D, E)
            packed = _panels(weight), _bias(gate.bias, weight)
            self._routed = gate.k, *packed, gate.temperature, gate.standardise, gate.weights_over == "all"

    def __call__(
        self,
        x: Tensor,
        routing: RoutingSource | None = None,
        *,
        plan: Plan | None = None,
    ) -> Tensor:
        """Return, for each row of x (N, D), the weighted sum of its experts' outputs: (N, C) in the dtype of x.

        Args:
            x: Of the dtype of the weights, any strides.
            routing: Experts of each row; by default the gate decides, and without a gate all serve, with weight 1.
            plan: How to run the call; by default the kernel chooses.
        """
        if routing is not None or plan is not None:
            return self.bound(x, routing, plan=plan)()
        y: Tensor = native_moe(x, *self._packed, *self._routed)
        return y

    def bound(
        self,
        x: Tensor,
        routing: RoutingSource | None = None,
        *,
        plan: Plan | None = None,
        gated: bool = False,
        ends: Tensor | None = None,
        combines: bool = True,
    ) -> Callable[[], Tensor]:
        """Return a call, whole or in part, whose arguments are checked and taken apart already, to see what each costs.

        Args:
            x: As for a call.
            routing: Likewise.
            plan: Likewise.
            gated: Whether the gate's scores are computed beside a `routing`, which decides.
            ends: (blocks, E + 1) from `sorted_by_expert`, if that is where the routing comes from.
            combines: False leaves out the weighted sum, so that the outputs mean nothing.
        """
        decided = self._routed if routing is None else self._given(x, routing, ends, gated)
        return partial(native_moe, x, *self._packed, *decided, combines=combines, plan=plan or ())

    def _given(self, x: Tensor, routing: RoutingSource, ends: Tensor | None, gated: bool) -> tuple[Any, ...]:
        """Return the operator's arguments for a routing that is given, as `_routed` for the gate's."""
        k, _ = routing.sizes(x, self.w1.shape[0])
        assigned: tuple[Tensor, Tensor, Tensor | None]
        if isinstance(routing, TopK):
            assigned = routing.ids, routing.weights, None
        elif isinstance(routing, Flat):
            assigned = _by_row(routing, x.shape[0])
        else:
            raise ValueError("the native kernel packs its gate once; pass it with the experts")  # noqa: TRY004
        scores = self._routed[1:3] if gated else (None, None)
        return k, *scores, 1.0, False, False, *assigned, ends

    def plan(self, N: int, k: int) -> Plan:
        """Return the plan of a call on N rows with k experts each."""
        return plan_of(N, *self._sizes, k, self.w1.element_size(), torch.get_num_threads())


def sorted_by_expert(ids: Tensor, weights: Tensor, E: int, block: int) -> tuple[TopK, Tensor]:
    """Return rows and weights sorted by expert within each block of rows, and where experts end: (blocks, E + 1).

    `ids` and `weights` are (N, k), all ids in range. A call with these `ends` does no dispatch of its own.
    """
    k = ids.shape[1]
    rows, shares, ends = [], [], []
    for start, part in zip(range(0, len(ids), block), ids.split(block), strict=True):
        order = torch.sort(part.flatten(), stable=True).indices  # (m k,)
        rows.append(start + order // k)
        shares.append(weights[start : start + len(part)].flatten()[order])
        ends.append(pad(torch.bincount(part.flatten(), minlength=E).cumsum(0), (1, 0)))
    return TopK(torch.cat(rows).view(-1, k), torch.cat(shares).view(-1, k)), torch.stack(ends)


def _stacked(experts: Experts) -> Experts:
    """Return the experts with all gates of a "swiglu" before all ups."""
    if experts.activation != "interleaved_swiglu":
        return experts
    w1, b1, *_ = experts.parts()
    b1 = None if b1 is None else _apart(b1)
    return replace(experts, w1=_apart(w1), b1=b1, activation="swiglu")


def _apart(interleaved: Tensor) -> Tensor:
    """Return columns g0 g1 ... u0 u1 ... of g0 u0 g1 u1 ...: (..., 2H) -> (..., 2H)."""
    return torch.cat((interleaved[..., 0::2], interleaved[..., 1::2]), dim=-1)


def _panels(w: Tensor, blocks: int = 1) -> Tensor:
    """Return weights (E, K, X) as panels (E, P, K, width); each of `blocks` of columns is padded with zeros."""
    E, K, X = w.shape
    width = panel_width()
    padded = pad(w.detach().view(E, K, blocks, X // blocks), (0, -(X // blocks) % width))
    return padded.reshape(E, K, -1, width).transpose(1, 2).contiguous()


def _bias(bias: Tensor | None, w: Tensor, blocks: int = 1) -> Tensor:
    """Return a bias (X,) or (E, X), or zeros if there is none, in fp32 and padded as the weights w (E, K, X)."""
    E, _, X = w.shape
    filled = w.new_zeros(E, X) if bias is None else bias.detach().view(E, X)
    width = panel_width()
    return pad(filled.float().reshape(E, blocks, -1), (0, -(X // blocks) % width)).flatten(1).contiguous()


def _by_row(routing: Flat, N: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return a list of assignments by row: ids, weights, and the first of each row and one past the last (N + 1,)."""
    rows, experts, weights = routing.rows, routing.experts, routing.weights
    if not routing.ordered:
        rows, order = torch.sort(rows, stable=True)
        experts, weights = experts[order], weights[order]
    starts = torch.searchsorted(rows, torch.arange(N + 1, dtype=rows.dtype, device=rows.device))
    return experts, weights, starts
