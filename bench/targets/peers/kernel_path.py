"""Our kernels as peers: the whole operation on one path, or on the one that they choose.

Letters: N rows, C output width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bench.errors import BenchError
from bench.targets.peers.layers import Layer, Tensors
from bench.targets.peers.peer import Prepared
from kernels.choice.choice import options_of
from kernels.choice.tuning import options_for
from kernels.cost.machine import machine_of
from kernels.moe import moe
from kernels.paths.fused_rows import FusedRows
from kernels.paths.fused_tiles import FusedTiles
from kernels.paths.grouped import Grouped
from kernels.paths.options import Options
from kernels.problem.routes import RoutingSource

FUSED = (FusedTiles, FusedRows)
GROUPED = (Grouped,)


def run_of(tensors: Tensors, options: Options | None) -> Callable[[Tensor, RoutingSource], Tensor]:
    """Return the operation on these weights under `options`, or under those it chooses: x (N, D), routing -> (N, C)."""
    experts = tensors.experts()

    def run(x: Tensor, routing: RoutingSource) -> Tensor:
        return moe(x, routing, experts, options=options)

    return run


def gated(tensors: Tensors, options: Options | None) -> Prepared:
    """Return the operation behind the layer's own gate under `options`, or under those it chooses."""
    gate, run = tensors.routing(), run_of(tensors, options)
    return Prepared(lambda x: run(x, gate), {"options": str(options or chosen(tensors))})


def chosen(tensors: Tensors) -> Options:
    """Return the options that the kernels choose for the rows of `tensors`."""
    return options_for(tensors.layer.problem(len(tensors.x), tensors.x.dtype), tensors.x.device)


def best(layer: Layer, rows: int, dtype: torch.dtype, device: torch.device, kinds: tuple[type, ...]) -> Options | None:
    """Return the options of the given kinds that the cost model finds quickest, or None where there are none."""
    problem, machine = layer.problem(rows, dtype), machine_of(device)
    found = (options for options in options_of(problem, machine) if isinstance(options, kinds))
    return min(found, key=lambda options: options.seconds(problem, machine), default=None)


def required(tensors: Tensors, kinds: tuple[type, ...]) -> Options:
    """Return the best options of the given kinds for the rows of `tensors`; raises `BenchError` without any."""
    options = best(tensors.layer, len(tensors.x), tensors.x.dtype, tensors.x.device, kinds)
    if options is None:
        raise BenchError(f"no {' or '.join(kind.__name__ for kind in kinds)} takes {len(tensors.x)} rows of this layer")
    return options
