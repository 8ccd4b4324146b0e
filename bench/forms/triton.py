"""Our own Triton kernels: one fused launch or a grouped path of five, chosen by a cost model, without a host wait.

The soft head and plain top-k routing hand the kernels the gate itself. Other policies route in torch and hand over the
assignments; where rows have different numbers of experts, torch counts these, for which the host waits once.

Letters: N rows, D input width, E experts, M assignments, C output width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
import triton
from torch import Tensor

from bench.forms.form import Form, Runner, torch_runner
from bench.forms.stages import stage
from bench.forms.steps import Steps, balanced
from kernels.call.arguments import problem_of
from kernels.choice.tuning import options_for
from kernels.launch.launch import name_stages
from kernels.moe import moe
from kernels.ops.dispatch import Dispatch, count, dispatch
from kernels.paths.grouped import Grouped
from kernels.problem.experts import Experts
from kernels.problem.routes import Flat, Gate, RoutingSource, TopK
from models.heads.heads import Head, HeadConfig
from models.heads.soft import SoftMoEHead
from models.heads.sparse import SparseMoEHead
from models.routing.top_k import TopKConfig


def _unavailable(config: HeadConfig, device: torch.device, dtype: torch.dtype) -> str | None:
    if not config.gated:
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
    problem = problem_of(example, gate or _routed(head, example), _experts(head), "ieee")
    options = options_for(problem, example.device)

    def work(rows_per_expert: list[int]) -> dict[str, int]:
        launches = options.works(problem, rows_per_expert)
        return {
            "launches": len(launches),
            "executed_flops": sum(work.flops for work in launches),
            "requested_bytes": sum(work.read + work.written for work in launches),
        }

    mode = {"mode": "interpreted"} if triton.knobs.runtime.interpret else {}
    told = {"kernels": f"triton {triton.__version__}", "options": str(options), **mode}
    whole = gate is not None and len(example)  # what torch does to route is not counted, so neither is the rest
    return replace(torch_runner(_run(head), example, **told), work=work if whole else None)


def _run(head: SoftMoEHead | SparseMoEHead) -> Callable[[Tensor], Tensor]:
    gate, experts = _gate(head), _experts(head)
    return lambda x: moe(x, gate or _routed(head, x), experts)


def _steps(head: Head, x: Tensor) -> Steps:
    """Return the steps of the grouped path; a fused path is one launch, which has none."""
    assert isinstance(head, SoftMoEHead | SparseMoEHead)
    experts = _experts(head)
    routing = head.routing(x)
    given: RoutingSource = Flat(routing.rows, routing.experts, routing.weights, ordered=True)
    if routing.per_row is not None:
        given = TopK(routing.ids.int(), routing.row_weights)
    options = options_for(problem_of(x, _gate(head) or given, experts, "ieee"), x.device)
    if not isinstance(options, Grouped):
        return {}

    def sent(ids: Tensor) -> Dispatch:
        ids = ids.int()
        return dispatch(ids, *count(ids, head.config.experts), rows=routing.rows, tile_rows=options.tile_rows)

    def multiplied(sorted_rows: Dispatch) -> Tensor:
        return options.products(x, sorted_rows, experts)

    even, real = sent(balanced(routing).experts), sent(routing.experts)
    run = _run(head)
    return {
        "balanced": lambda: multiplied(even),
        "products": lambda: multiplied(real),
        "given": lambda: moe(x, given, experts, options=options),
        "routed": lambda: run(x),
    }


def _experts(head: SoftMoEHead | SparseMoEHead) -> Experts:
    return Experts(head.w1, head.b1, head.w2, head.b2, head.config.activation)


def _gate(head: SoftMoEHead | SparseMoEHead) -> Gate | None:
    """Return the gate of a head that the kernels can apply, or None; the soft one takes all experts."""
    weight, bias = head.gate.weight, head.gate.bias
    if isinstance(head, SoftMoEHead):
        return Gate(weight, bias, k=head.config.experts, temperature=head.config.temperature)
    config = head.config
    if not isinstance(config, TopKConfig) or config.bias_correction:
        return None
    return Gate(weight, bias, config.k, config.temperature, config.standardise, config.weights_over)


def _routed(head: SoftMoEHead | SparseMoEHead, x: Tensor) -> RoutingSource:
    """Return the routing of x (N, D), decided in torch, as the kernels take it."""
    with stage("route"):
        routing = head.routing(x)
    if routing.per_row is not None:
        return TopK(routing.ids, routing.row_weights)
    return Flat(routing.rows, routing.experts, routing.weights, ordered=True)


FORM = Form("triton", 4, "our Triton kernels", _unavailable, _prepare, untimeable=_untimeable, steps=_steps)
