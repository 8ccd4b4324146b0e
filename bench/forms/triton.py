"""Our own Triton kernels: one fused launch or a grouped path of five launches, chosen by a cost model or forced.

The soft head and plain top-k routing pass the gate to the kernels, and the host never waits for the device. Other
policies route in torch and pass the assignments. If rows have different numbers of experts, torch counts these, and the
host waits once.

Letters: N rows, D input width, E experts, M assignments, C output width.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
import triton
from torch import Tensor

from bench.errors import UnavailableError
from bench.execution.form import Form, Runner, exact_routing, nonzero, torch_runner, trained
from bench.execution.stages import stage
from bench.execution.steps import Steps, balanced
from kernels.call.arguments import problem_of
from kernels.choice.choice import options_of
from kernels.choice.tuning import options_for
from kernels.cost.machine import NVIDIA_ONLY, machine_of
from kernels.launch.launch import name_stages
from kernels.moe import moe
from kernels.ops.dispatch import Dispatch, count, dispatch
from kernels.paths.fused_rows import FusedRows
from kernels.paths.fused_tiles import FusedTiles
from kernels.paths.grouped import Grouped
from kernels.paths.options import Options
from kernels.problem.experts import Experts
from kernels.problem.problem import Problem
from kernels.problem.routes import Flat, Gate, RoutingSource, TopK
from kernels.problem.stored import Scheme
from models.heads.heads import Head, HeadConfig
from models.heads.soft import SoftMoEHead
from models.heads.sparse import SparseMoEHead
from models.routing import Routing
from models.routing.top_k import plain_top_k


def unavailable(config: HeadConfig, device: torch.device, dtype: torch.dtype) -> str | None:
    """Return why our kernels cannot run a head here, or None."""
    if not config.gated:
        return "the Triton kernels run experts behind a gate, and a dense head has none"
    interpreted = triton.knobs.runtime.interpret
    if device.type == "cpu" and not interpreted:
        return "Triton kernels need a CUDA device; TRITON_INTERPRET=1 runs them on a CPU, for correctness only"
    if interpreted and dtype is torch.bfloat16:
        return "Triton's interpreter computes bfloat16 wrongly; use float32 or float16 there"
    if device.type == "cuda" and torch.version.hip:
        return NVIDIA_ONLY
    return None


def untimeable(device: torch.device) -> str | None:
    """Return why our kernels are not timed here, or None."""
    if triton.knobs.runtime.interpret:
        return "Triton's interpreter is on (TRITON_INTERPRET=1), which is for correctness and never timed"
    return None


class Kernels:
    """Our kernels on the experts of a head; all forms call the kernels through this class.

    With `training` they read the head's parameters themselves, and no copy in another layout. With a `scheme` they read
    weights stored in 8 or 4 bits.
    """

    def __init__(self, head: Head, *, training: bool = False, scheme: Scheme | None = None) -> None:
        assert isinstance(head, SoftMoEHead | SparseMoEHead)
        name_stages(stage)
        self.head = head
        self.gate = gate_of(head)
        kept = trained if training else nonzero
        stacked = Experts(head.w1, kept(head.b1), head.w2, kept(head.b2), head.config.activation)
        if scheme:
            stacked = stacked.stored(scheme)
        self.experts = stacked if training else stacked.interleaved()

    def __call__(self, x: Tensor, routing: RoutingSource | None = None, options: Options | None = None) -> Tensor:
        """Return the outputs (N, C) of x (N, D); by default the head routes and the kernels choose their options."""
        if given := routing or self.gate:
            return moe(x, given, self.experts, options=options)
        with stage("route"):
            decided = self.head.routing(x)
        return decided.spoil(moe(x, routing_source(decided), self.experts, options=options))

    def dispatch(self, routing: Routing, options: Grouped) -> Dispatch:
        """Return the rows of a routing sorted by expert, in the layout that the products of `options` take."""
        ids = routing.experts.int()
        counted = count(ids, self.head.config.experts)
        return dispatch(ids, *counted, rows=routing.rows, tile_rows=options.tile_rows)

    def routed(self, x: Tensor) -> RoutingSource:
        """Return the routing of x (N, D), decided in torch."""
        with stage("route"):
            return routing_source(self.head.routing(x))

    def problem(self, x: Tensor, routing: RoutingSource | None = None) -> Problem:
        """Return the sizes of a call on x (N, D)."""
        routing = routing or self.gate or self.routed(x)
        return problem_of(x, routing, self.experts, "ieee")

    def chosen(self, x: Tensor, routing: RoutingSource | None = None) -> Options:
        """Return the path and tiles that the kernels choose for x (N, D)."""
        return options_for(self.problem(x, routing), x.device)

    def required(self, x: Tensor, paths: tuple[type[Options], ...]) -> Options:
        """Return the fastest options for x (N, D) on one of `paths` by the cost model.

        Raises `UnavailableError` if none of the paths takes so many rows of this head.
        """
        problem, machine = self.problem(x), machine_of(x.device)
        options = [each for each in options_of(problem, machine) if isinstance(each, paths)]
        if not options:
            names = " or ".join(path.__name__ for path in paths)
            raise UnavailableError(f"no path {names} takes {len(x)} rows of this head with its routing")
        return min(options, key=lambda each: each.seconds(problem, machine))


def routing_source(routing: Routing) -> RoutingSource:
    """Return a routing in the form that the kernels take."""
    if routing.per_row is not None:
        return TopK(routing.ids, routing.row_weights)
    return Flat(routing.rows, routing.experts, routing.weights, ordered=True)


def runs_on(options: Options) -> dict[str, str]:
    """Return the `runs_on` of our kernels with `options`."""
    mode = {"mode": "interpreted"} if triton.knobs.runtime.interpret else {}
    return {"kernels": f"triton {triton.__version__}", "options": str(options), **mode}


def prepare(head: Head, example: Tensor, paths: tuple[type[Options], ...] = (), scheme: Scheme | None = None) -> Runner:
    """Return the runner of whole calls, with the kernels' choice of options, or forced onto one of `paths`."""
    kernels = Kernels(head, scheme=scheme)
    options = kernels.required(example, paths) if paths else kernels.chosen(example)
    problem = kernels.problem(example)

    def work(rows_per_expert: list[int]) -> dict[str, int]:
        launches = options.works(problem, rows_per_expert)
        return {
            "launches": len(launches),
            "executed_flops": sum(each.flops for each in launches),
            "requested_bytes": sum(each.read + each.written for each in launches),
        }

    run = partial(kernels, options=options) if paths else kernels
    whole = kernels.gate is not None and len(example)  # torch's routing is not counted, so its calls count nothing
    return replace(torch_runner(run, example, **runs_on(options)), work=work if whole else None)


def _train(head: Head, example: Tensor) -> Runner:
    kernels = Kernels(head, training=True)
    options = kernels.chosen(example, kernels.routed(example))  # the gate has a launch to itself
    return torch_runner(kernels, example, **runs_on(options))


def _prepare_given(head: Head, example: Tensor) -> Runner:
    kernels = Kernels(head)
    routing = routing_source(exact_routing(kernels.head, example))
    options = kernels.chosen(example, routing)
    return torch_runner(partial(kernels, routing=routing, options=options), example, **runs_on(options))


def steps(head: Head, x: Tensor, scheme: Scheme | None = None) -> Steps:
    """Return the steps of the grouped path; a fused path is one launch and has none."""
    kernels = Kernels(head, scheme=scheme)
    routing = kernels.head.routing(x)
    fixed = routing_source(routing)
    if isinstance(fixed, TopK):
        fixed = replace(fixed, ids=fixed.ids.int())
    options = kernels.chosen(x, kernels.gate or fixed)
    if not isinstance(options, Grouped):
        return {}
    even, real = (kernels.dispatch(each, options) for each in (balanced(routing), routing))
    return {
        "balanced": lambda: options.products(x, even, kernels.experts),
        "products": lambda: options.products(x, real, kernels.experts),
        "given": lambda: kernels(x, fixed, options),
        "routed": lambda: kernels(x),
    }


def gate_of(head: SoftMoEHead | SparseMoEHead) -> Gate | None:
    """Return a head's gate if the kernels can apply it, or None; the soft head's takes all experts."""
    weight, bias = head.gate.weight, head.gate.bias
    if isinstance(head, SoftMoEHead):
        return Gate(weight, bias, k=head.config.experts, temperature=head.config.temperature)
    config = head.config
    if not plain_top_k(config):
        return None
    return Gate(weight, bias, config.k, config.temperature, config.standardise, config.weights_over)


FORMS = (
    Form(
        "triton", 4, "our Triton kernels", unavailable, prepare, _train,
        untimeable=untimeable, steps=steps, setup=4.0,
    ),
    Form(
        "triton_fused", 9, "our kernels, one launch", unavailable, partial(prepare, paths=(FusedTiles, FusedRows)),
        untimeable=untimeable, setup=3.0, default=False,
    ),
    Form(
        "triton_grouped", 10, "our kernels, five launches", unavailable, partial(prepare, paths=(Grouped,)),
        untimeable=untimeable, setup=4.0, default=False,
    ),
    Form(
        "triton_given", 11, "our kernels, routing given", unavailable, _prepare_given,
        untimeable=untimeable, setup=2.0, reusable=False, default=False,
    ),
)  # fmt: skip
