"""Liger's fused experts (liger-kernel), with the routing given; one call waits for the device once.

Its forward pass also keeps values for a backward pass.

Letters: D input width, H hidden width of one expert, E experts, C output width.
"""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec

import torch
from torch import Tensor

from bench.errors import UnavailableError
from bench.execution.form import Form, Runner, exact_routing, nonzero, torch_runner
from models.heads.heads import Head, HeadConfig
from models.heads.sparse import SparseMoEHead
from models.routing.top_k import TopKConfig


def _unavailable(config: HeadConfig, device: torch.device, dtype: torch.dtype) -> str | None:
    if find_spec("liger_kernel") is None:
        return "liger-kernel is not installed; pip install liger-kernel==0.8.5"
    if device.type != "cuda":
        return "Liger's kernels need a CUDA device"
    if not isinstance(config, TopKConfig):
        return "Liger's fused experts take k experts for every row, as a sparse head with the policy top_k has"
    if config.activation != "swiglu":
        return f"Liger's fused experts are swiglu, not {config.activation}"
    return None


def _prepare(head: Head, example: Tensor) -> Runner:
    from liger_kernel.ops.fused_moe import LigerFusedMoEFunction

    assert isinstance(head, SparseMoEHead)
    if nonzero(head.b1) is not None or nonzero(head.b2) is not None:
        raise UnavailableError("Liger's fused experts have no biases, and this head has some")
    up = head.w1.transpose(1, 2).contiguous()  # (E, 2H, D), the gate's half first
    down = head.w2.transpose(1, 2).contiguous()  # (E, C, H)
    routing = exact_routing(head, example)
    ids, weights = routing.ids.int(), routing.row_weights

    def run(x: Tensor) -> Tensor:
        out: Tensor = LigerFusedMoEFunction.apply(x, up, down, ids, weights)
        return out

    return torch_runner(run, example, kernels=f"liger-kernel {version('liger-kernel')}")


FORM = Form(
    "liger", 14, "liger-kernel, routing given", _unavailable, _prepare,
    setup=20.0, capturable=False, reusable=False, default=False,
)  # fmt: skip
