"""A head made of the operators of moe-ops: top-k softmax, permute, two grouped products, unpermute.

Letters: N rows, D input width, H hidden width of one expert, E experts, k experts per row, M = N k, C output width.
"""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec

import torch
from torch import Tensor

from bench.errors import UnavailableError
from bench.execution.form import Form, Runner, nonzero, torch_runner
from bench.execution.stages import stage
from models.heads.heads import Head, HeadConfig
from models.heads.sparse import SparseMoEHead
from models.routing.top_k import TopKConfig


def _unavailable(config: HeadConfig, device: torch.device, dtype: torch.dtype) -> str | None:
    if find_spec("moe_ops") is None:
        return "moe-ops is not installed; pip install moe-ops==0.1.0"
    if device.type != "cuda":
        return "the kernels of moe-ops need a CUDA device"
    if not isinstance(config, TopKConfig) or not _is_plain(config):
        return "moe-ops weighs the top k experts by a softmax over their own scores, and knows no other gate"
    if dtype is torch.float32 or config.experts & (config.experts - 1):
        return "moe-ops takes bfloat16 or float16 and a power of two of experts"
    return None


def _is_plain(config: TopKConfig) -> bool:
    """Return whether the gate is a plain softmax over the k largest scores."""
    plain = config.weights_over == "selected" and config.temperature == 1
    return plain and not (config.standardise or config.bias_correction)


def _prepare(head: Head, example: Tensor) -> Runner:
    from moe_ops import fused_topk_softmax, grouped_gemm, permute, unpermute

    assert isinstance(head, SparseMoEHead)
    if nonzero(head.b1) is not None or nonzero(head.b2) is not None:
        raise UnavailableError("the grouped products of moe-ops have no biases, and this head has some")
    k, E = head.config.k, head.config.experts
    w1 = head.w1.transpose(1, 2).contiguous()  # (E, 2H, D)
    w2 = head.w2.transpose(1, 2).contiguous()  # (E, C, H)

    def run(x: Tensor) -> Tensor:
        with stage("route"):
            scores = torch.mm(x, head.gate.weight.T, out_dtype=torch.float32) + head.gate.bias  # (N, E)
            weights, ids = fused_topk_softmax(scores, k, fp32_routing=True)  # (N, k), (N, k)
        with stage("dispatch"):
            rows, places, offsets = permute(x, ids, E=E)  # (M, D), (M,), (E + 1,)
        with stage("experts"):
            h = head.activation(grouped_gemm(rows, w1, offsets, trans_b=True))  # (M, H)
            y = grouped_gemm(h, w2, offsets, trans_b=True)  # (M, C)
        with stage("combine"):
            out: Tensor = unpermute(y, places, weights, x.shape[0], k)
        return out

    return torch_runner(run, example, kernels=f"moe-ops {version('moe-ops')}")


FORM = Form("moe_ops", 15, "moe-ops, operators put together", _unavailable, _prepare, setup=30.0, default=False)
