"""The operators of moe-ops put together: top-k softmax, permute, two grouped products, unpermute.

Letters: N rows, D input width, H hidden width of one expert, E experts, k experts per row, M = N k, C output width.
"""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec

import torch
from torch import Tensor

from bench.targets.peers.layers import Layer, Tensors, activate
from bench.targets.peers.peer import Peer, Prepared
from bench.targets.peers.plain import gate_scores


def _unavailable(layer: Layer, dtype: torch.dtype, device: torch.device) -> str | None:
    if find_spec("moe_ops") is None:
        return "moe-ops is not installed; pip install moe-ops==0.1.0"
    if device.type != "cuda":
        return "the kernels of moe-ops need a CUDA device"
    if layer.biased or layer.standardise:
        return "moe-ops has neither biases nor standardised scores"
    if dtype is torch.float32 or layer.E & (layer.E - 1):
        return "moe-ops takes bfloat16 or float16 and a power of two of experts"
    return None


def _prepare(tensors: Tensors) -> Prepared:
    from moe_ops import fused_topk_softmax, grouped_gemm, permute, unpermute

    layer = tensors.layer
    w1 = tensors.w1.transpose(1, 2).contiguous()  # (E, 2H, D)
    w2 = tensors.w2.transpose(1, 2).contiguous()  # (E, C, H)

    def run(x: Tensor) -> Tensor:
        weights, ids = fused_topk_softmax(gate_scores(tensors, x), layer.k, fp32_routing=True)  # (N, k), (N, k)
        rows, places, offsets = permute(x, ids, E=layer.E)  # (M, D), (M,), (E + 1,)
        h = activate(layer.activation, grouped_gemm(rows, w1, offsets, trans_b=True))  # (M, H)
        y = grouped_gemm(h, w2, offsets, trans_b=True)  # (M, C)
        out: Tensor = unpermute(y, places, weights, x.shape[0], layer.k)
        return out

    return Prepared(run, {"library": f"moe-ops {version('moe-ops')}"})


PEER = Peer("moe_ops", "moe-ops, operators put together", _unavailable, _prepare, setup=30.0)
