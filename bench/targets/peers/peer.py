"""What a peer is and what running one takes.

Letters: N rows, D input width, C output width, M assignments.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import triton
from torch import Tensor

from bench.forms.triton import kernels_unavailable
from bench.targets.peers.layers import Layer, Tensors

Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Prepared:
    """A peer ready to be timed: `run(x)` for one of the sets of rows (N, D) of the tensors it was prepared with.

    `expected(x)` is the matrix that `run(x)` must give, in float64; without it, the layer's output. What gives nothing
    cannot be wrong.
    """

    run: Callable[[Tensor], Tensor | None]
    runs_on: dict[str, str] = field(default_factory=dict)
    expected: Run | None = None


def _counts_of_layer(layer: Layer, rows: int, item: int, used: int, device: torch.device) -> tuple[int, int]:
    return layer.flops(rows), layer.least_bytes(rows, item, used)


def _timeable(device: torch.device) -> str | None:
    return None


@dataclass(frozen=True)
class Peer:
    """One way of computing a layer, or an anchor.

    Attributes:
        unavailable: Why it cannot run this layer in this dtype here, as one sentence, or None.
        prepare: From tensors to what is timed; compilation and tuning belong here, and in the first call.
        untimeable: Why a run here shows that it is right and nothing more, or None.
        capturable: Whether a CUDA graph can hold it; False for what waits for the device.
        setup: Seconds that preparing may take, guessed, to decide what still fits into a run.
        counts: (layer, rows, bytes of a value, experts in use, device) to FLOPs and least bytes of a call.
    """

    name: str
    summary: str
    unavailable: Callable[[Layer, torch.dtype, torch.device], str | None]
    prepare: Callable[[Tensors], Prepared]
    untimeable: Callable[[torch.device], str | None] = _timeable
    capturable: bool = True
    setup: float = 1.0
    counts: Callable[[Layer, int, int, int, torch.device], tuple[int, int]] = _counts_of_layer


def always(layer: Layer, dtype: torch.dtype, device: torch.device) -> str | None:
    """Return None: this peer runs anywhere."""
    return None


def triton_unavailable(layer: Layer, dtype: torch.dtype, device: torch.device) -> str | None:
    """Return why Triton kernels cannot run here, or None."""
    return kernels_unavailable(device, dtype)


def interpreted(device: torch.device) -> str | None:
    """Return why Triton kernels are not timed here, or None."""
    if triton.knobs.runtime.interpret:
        return "right, and not timed: Triton's interpreter is for correctness only"
    return None
