"""Liger's fused experts (liger-kernel), the routing given; one wait for the device per call.

Its function keeps values for a backward pass, which is part of what it does in a forward one.

Letters: D input width, H hidden width of one expert, E experts, C output width.
"""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec

import torch
from torch import Tensor

from bench.targets.peers.layers import Layer, Tensors, given_routing
from bench.targets.peers.peer import Peer, Prepared


def _unavailable(layer: Layer, dtype: torch.dtype, device: torch.device) -> str | None:
    if find_spec("liger_kernel") is None:
        return "liger-kernel is not installed; pip install liger-kernel==0.8.5"
    if device.type != "cuda":
        return "Liger's kernels need a CUDA device"
    if layer.activation != "swiglu" or layer.biased:
        return "Liger's fused experts are swiglu without biases"
    return None


def _prepare(tensors: Tensors) -> Prepared:
    from liger_kernel.ops.fused_moe import LigerFusedMoEFunction

    up = tensors.w1.transpose(1, 2).contiguous()  # (E, 2H, D), the gate's half first
    down = tensors.w2.transpose(1, 2).contiguous()  # (E, C, H)
    given = {x.data_ptr(): given_routing(tensors, x) for x in tensors.xs}

    def run(x: Tensor) -> Tensor:
        routing = given[x.data_ptr()]
        out: Tensor = LigerFusedMoEFunction.apply(x, up, down, routing.ids, routing.weights)
        return out

    return Prepared(run, {"library": f"liger-kernel {version('liger-kernel')}"})


PEER = Peer("liger", "liger-kernel, routing given", _unavailable, _prepare, capturable=False, setup=20.0)
