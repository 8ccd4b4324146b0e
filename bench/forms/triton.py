"""Our own Triton kernels: one fused launch or a grouped path of five, chosen by a cost model, without a host wait.

Letters: N rows, D input width, E experts, C output width.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import triton
from torch import Tensor

from bench.forms.form import Form, Runner, torch_runner
from bench.stages import stage
from kernels.account import account
from kernels.launch import name_stages
from kernels.moe import moe
from kernels.paths import problem_of
from kernels.routes import Gate
from kernels.tuning import options_for
from models.config import DenseConfig, HeadConfig
from models.heads import Head
from models.soft import SoftMoEHead
from models.sparse import SparseMoEHead


def _unavailable(config: HeadConfig, device: torch.device, dtype: torch.dtype) -> str | None:
    if isinstance(config, DenseConfig):
        return "the Triton kernels run experts behind a gate, and a dense head has none"
    return kernels_unavailable(device, dtype)


def kernels_unavailable(device: torch.device, dtype: torch.dtype) -> str | None:
    """Return why our kernels cannot run here, or None."""
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
    assert isinstance(head, SoftMoEHead | SparseMoEHead)
    gate = _gate(head)
    name_stages(stage)

    activation = head.config.activation

    def run(x: Tensor) -> Tensor:
        return moe(x, gate, head.w1, head.b1, head.w2, head.b2, activation=activation)

    problem = problem_of(example, gate, head.w1, head.b1, head.w2, head.b2, activation, "ieee")
    options = options_for(problem, example.device)

    def work(rows_per_expert: list[int]) -> dict[str, int]:
        found = account(problem, options, rows_per_expert)
        requested = found.read + found.written
        return {"launches": found.launches, "executed_flops": found.flops, "requested_bytes": requested}

    mode = {"mode": "interpreted"} if triton.knobs.runtime.interpret else {}
    told = {"kernels": f"triton {triton.__version__}", "options": str(options), **mode}
    return replace(torch_runner(run, example, **told), work=work if len(example) else None)


def _gate(head: SoftMoEHead | SparseMoEHead) -> Gate:
    """Return the gate of a head; the soft one takes all experts."""
    weight, bias, config = head.gate.weight, head.gate.bias, head.config
    if isinstance(head, SoftMoEHead):
        return Gate(weight, bias, k=config.experts, temperature=config.temperature)
    sparse = head.config
    return Gate(weight, bias, sparse.k, sparse.temperature, sparse.standardise, sparse.weights_over)


FORM = Form("triton", 4, "our Triton kernels", _unavailable, _prepare, untimeable=_untimeable)
