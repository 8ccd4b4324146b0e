"""torch.compile(mode="max-autotune") of another peer's function.

The mode's own CUDA graphs are off, since every peer is captured in a graph of the same kind, or called without one.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bench.forms.compile import isolated
from bench.targets.peers.layers import Layer, Tensors
from bench.targets.peers.peer import Prepared, Run

MODE = "max-autotune-no-cudagraphs"
SETUP = 45.0
"""Seconds that tuning one function may take."""


def only_on_a_gpu(layer: Layer, dtype: torch.dtype, device: torch.device) -> str | None:
    """Return why tuning is left out on a CPU, or None."""
    return None if device.type == "cuda" else "max-autotune chooses among GPU kernels; it is left out on a CPU"


def compiled(make: Callable[[Tensors], Run], mode: str | None = MODE) -> Callable[[Tensors], Prepared]:
    """Return `prepare` for the function that `make` gives, compiled as one graph for the rows it is prepared with."""

    def prepare(tensors: Tensors) -> Prepared:
        function = torch.compile(isolated(make(tensors)), fullgraph=True, dynamic=False, mode=mode)
        for x in tensors.xs:
            function(x)

        def run(x: Tensor) -> Tensor:
            return function(x)

        return Prepared(run, {"options": f"fullgraph, {mode}"})

    return prepare
