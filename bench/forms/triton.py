"""Our own Triton kernels: routing, dispatch, two grouped products and the combine, without a host wait.

Letters: N rows, D input width, E experts, C output width.
"""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from bench.forms.form import Form, Runner, torch_runner
from bench.stages import stage
from kernels.moe import sparse_moe
from models.config import HeadConfig, SparseConfig
from models.heads import Head
from models.routing import router_scores
from models.sparse import SparseMoEHead


def _unavailable(config: HeadConfig, device: torch.device, dtype: torch.dtype) -> str | None:
    if not isinstance(config, SparseConfig):
        return f"the Triton kernels dispatch rows to experts, which a {config.kind} head does not need"
    interpreted = triton.knobs.runtime.interpret
    if device.type == "cpu" and not interpreted:
        return "Triton kernels need a CUDA device; TRITON_INTERPRET=1 runs them on a CPU, for correctness only"
    if interpreted and dtype is torch.bfloat16:
        return "Triton's interpreter computes bfloat16 wrongly; use float32 or float16 there"
    return None


def _untimeable(device: torch.device) -> str | None:
    if triton.knobs.runtime.interpret:
        return "Triton's interpreter is on (TRITON_INTERPRET=1), which is for correctness and never timed"
    return None


def _prepare(head: Head, example: Tensor) -> Runner:
    assert isinstance(head, SparseMoEHead)
    config = head.config

    def run(x: Tensor) -> Tensor:
        with stage("route"):
            scores = router_scores(x, head.gate)  # (N, E)
        return sparse_moe(
            x,
            scores,
            head.w1,
            head.b1,
            head.w2,
            head.b2,
            k=config.k,
            activation=config.activation,
            temperature=config.temperature,
            standardise=config.standardise,
            weights_over=config.weights_over,
            stage=stage,
        )

    interpreted = {"options": "interpreted"} if triton.knobs.runtime.interpret else {}
    return torch_runner(run, example, kernels=f"triton {triton.__version__}", **interpreted)


FORM = Form("triton", 4, "our Triton kernels", _unavailable, _prepare, untimeable=_untimeable)
