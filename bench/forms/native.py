"""Our own kernel for CPUs: one operator per call, on weights packed at preparation.

The soft head and plain top-k routing pass the gate to the kernel; other policies route in torch and pass the
assignments.

Letters: N rows, D input width, E experts, k experts per row, C output width.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from bench.execution.form import Form, Runner, torch_runner
from bench.execution.stages import stage
from bench.execution.steps import Steps, balanced
from bench.forms.triton import gate_of, routing_source
from bench.timing.precision import dtype_name
from kernels.native.build import missing
from kernels.native.layer import DTYPES, Native, sorted_by_expert
from kernels.problem.experts import Experts
from kernels.problem.routes import TopK
from models.heads.dense import DenseHead
from models.heads.heads import Head, HeadConfig
from models.heads.sparse import SparseMoEHead
from models.routing import Routing


def _unavailable(config: HeadConfig, device: torch.device, dtype: torch.dtype) -> str | None:
    if device.type != "cpu":
        return "the native kernel is for CPUs; the triton form is its counterpart on a GPU"
    if dtype not in DTYPES:
        return f"the native kernel computes in float32 and bfloat16, not in {dtype_name(dtype)}"
    return missing()


def stacked(head: Head, weight: Tensor) -> Tensor:
    """Return a weight of the head stacked by expert; a dense head has a single one."""
    return weight[None] if isinstance(head, DenseHead) else weight


class _NativeHead:
    """A head on the native kernel, x (N, D) -> (N, C)."""

    def __init__(self, head: Head) -> None:
        self.head = head
        w1, b1, w2, b2 = (stacked(head, weight) for weight in (head.w1, head.b1, head.w2, head.b2))
        self.gate = None if isinstance(head, DenseHead) else gate_of(head)
        self.layer = Native(Experts(w1, b1, w2, b2, head.config.activation), self.gate)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the logits (N, C) of x (N, D)."""
        if self.gate is not None or isinstance(self.head, DenseHead):
            with stage("fused"):
                return self.layer(x)
        with stage("route"):
            routing = self.head.routing(x)
        with stage("fused"):
            return routing.spoil(self.layer(x, routing_source(routing)))


def _prepare(head: Head, example: Tensor) -> Runner:
    run = _NativeHead(head)
    plan = run.layer.plan(len(example), head.config.most_assignments(1))
    share = "shared by" if plan.shared else "for each of"
    options = f"{torch.backends.cpu.get_cpu_capability()}, blocks of {plan.block} rows {share} {plan.threads} threads"
    return torch_runner(run, example, options=options)


def _steps(head: Head, x: Tensor) -> Steps:
    """Return the steps of a head whose gate the kernel applies; a head that routes in torch has none."""
    run = _NativeHead(head)
    if isinstance(head, DenseHead):
        return {"balanced": partial(run, x)}
    if run.gate is None:
        return {}
    routing = head.routing(x)
    given = routing_source(routing)
    assert isinstance(given, TopK)
    plan = run.layer.plan(len(x), given.k)

    def presorted(routing: Routing) -> Callable[[], Tensor]:
        sent, ends = sorted_by_expert(routing.ids, routing.row_weights, head.config.experts, plan.block)
        return part(sent, ends=ends)

    part = partial(run.layer.bound, x, plan=plan, combines=False)
    steps: Steps = {"balanced": presorted(balanced(routing))}
    if isinstance(head, SparseMoEHead):
        steps |= {"products": presorted(routing), "dispatched": part(given)}
    return steps | {"gated": part(given, gated=True), "routed": part(), "combined": partial(run, x)}


FORM = Form("native", 4, "our kernel for CPUs", _unavailable, _prepare, steps=_steps, setup=1.0)
