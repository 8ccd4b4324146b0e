"""Which kernels are compiled: those of `moe` and its gradients, as the cost model can choose them for LAYERS.

N rows, D input width, H hidden width of one expert, E experts, k experts per row, C output width.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from kernels.choice.choice import reachable
from kernels.choice.tuning import LANGUAGE, PAPER
from kernels.compiled.job import Job, specialise
from kernels.compiled.targets import TARGETS, WITHOUT_TF32
from kernels.cost.machine import Machine, assuming
from kernels.launch.launch import Launch, recording
from kernels.ops.specialised import TILE_ROWS, kernel
from kernels.paths.backward import Gradients, choose_backward
from kernels.paths.grouped import Grouped
from kernels.paths.options import Options
from kernels.problem.experts import Experts
from kernels.problem.options import Product
from kernels.problem.problem import Problem
from kernels.problem.routes import SOURCES, Flat, RoutingSource, TopK
from kernels.problem.stored import Stored

LAYERS = (
    replace(PAPER, dtype=torch.float16),
    replace(PAPER, dtype=torch.float32),
    replace(PAPER, k=8),
    replace(PAPER, D=577, H=859, described=(False, False)),
    LANGUAGE,
    replace(LANGUAGE, activation="swiglu"),
    replace(LANGUAGE, D=4096, H=14336, E=8, C=4096, k=2),
    replace(LANGUAGE, E=64, H=1024, activation="gelu", routing="top_k"),
    replace(LANGUAGE, E=64, H=1024, activation="gelu", routing="flat", dtype=torch.float32),
    replace(LANGUAGE, E=64, H=1024, activation="gelu", dtype=torch.float32, precision="tf32"),
    replace(PAPER, E=256, k=8),
    replace(PAPER, E=384, k=8, D=1024),
    replace(PAPER, E=512, k=512),
    replace(PAPER, E=512, k=8, dtype=torch.float32),
)
"""The paper's head, sparse and soft, odd widths, layers of language models, and many experts.

fp16 and bf16 take the same options and give the same code, so a configuration is compiled in only one of them. Most
layers use gelu, which needs more registers than the other activations.
"""

STORED = (
    replace(LANGUAGE, stored=("mxfp4", "mxfp4")),
    replace(LANGUAGE, stored=("fp8_blocks", "fp8_blocks"), activation="swiglu"),
    replace(LANGUAGE, stored=("fp8_channels", "fp8")),
    replace(LANGUAGE, stored=("fp8_channels", "mxfp4"), E=64, activation="gelu", dtype=torch.float32),
)
"""Layers whose weights are stored in 8 or 4 bits; compiled for NVIDIA GPUs alone, and without gradients."""

BACKWARD_ROWS = (64, 8192, 65536)
"""Rows of the calls whose gradients are compiled."""

SPECIALISED = Product(256, 64, 8, 4, described=True, persistent=True, specialised=True)
"""The second product by specialised warps, compiled for each layer whose tiles are tall enough."""


def jobs(targets: Sequence[str] = tuple(TARGETS), layers: Sequence[Problem] = (*LAYERS, *STORED)) -> list[Job]:
    """Return one job for each kernel, configuration, width of values, target and alignment among all launches."""
    distinct: dict[tuple[object, ...], Job] = {}
    for target in targets:
        with assuming(TARGETS[target]):
            for layer in layers:
                if layer.precision == "tf32" and target in WITHOUT_TF32:
                    continue
                if layer.is_stored and TARGETS[target].amd:
                    continue
                for launch in launches_of(layer, TARGETS[target]):
                    job = specialise(launch, target)
                    distinct.setdefault((job.kernel, job.configuration, job.width, target, job.rows_aligned), job)
    return list(distinct.values())


def launches_of(layer: Problem, machine: Machine) -> Iterator[Launch]:
    """Yield the launches of all calls of a layer on `machine`, whatever their rows, and of their gradients."""
    for N, options in with_specialised(layer, machine):
        yield from launches(replace(layer, N=N, M=N * layer.k), options)
    if layer.is_stored:
        return
    listed = layer if layer.routing == "flat" else replace(layer, routing="top_k")
    for N in BACKWARD_ROWS:
        yield from backward_launches(replace(listed, N=N, M=N * layer.k), machine)


def launches(problem: Problem, options: Options) -> list[Launch]:
    """Return the launches of a call, made with tensors on the meta device."""
    x, routing, experts = _arguments(problem)
    with recording() as records:
        options.run(x, routing, experts)
    return records


def backward_launches(problem: Problem, machine: Machine) -> list[Launch]:
    """Return the launches of all gradients of a call that lists its experts."""
    x, routing, experts = _arguments(problem)
    assert isinstance(routing, TopK | Flat)
    with recording() as records:
        dout = x.new_empty(problem.N, problem.C)
        choose_backward(problem, machine).run(dout, x, routing, experts, Gradients(*[True] * 6))
    return records


def _arguments(problem: Problem) -> tuple[Tensor, RoutingSource, Experts]:
    def new(*shape: int, dtype: torch.dtype = problem.dtype) -> Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    N, D, H, E, C, _ = problem.sizes
    wide = problem.halves * H
    w1, w2 = (
        new(*shape) if scheme is None else Stored.empty(scheme, *shape, new)
        for scheme, shape in zip(problem.stored, ((E, D, wide), (E, H, C)), strict=True)
    )
    experts = Experts(w1, new(E, wide), w2, new(E, C), problem.activation)
    return new(N, D), SOURCES[problem.routing].of(problem, new), experts


def with_specialised(layer: Problem, machine: Machine) -> list[tuple[int, Options]]:
    """Return what `choose` may return, each with its least N, and beside it what asks for the specialised product."""
    chosen = reachable(layer, machine)
    if kernel() is None or machine.capability != 90 or layer.element_size != 2:
        return chosen
    asked = [
        (N, replace(options, second=SPECIALISED))
        for N, options in chosen
        if isinstance(options, Grouped) and options.tile_rows == TILE_ROWS and options.second.described
    ]
    return chosen + asked


def sample(among: Sequence[Job]) -> list[Job]:
    """Return the job with the largest tile for each kernel and target, on sm_90 for each of its switches.

    The code of some kernels is alike on all targets: they are sampled on only one, those that multiply fp32 on sm_80,
    and those that multiply nothing, in 16 bits or integers, on sm_90.
    """
    largest: dict[tuple[object, ...], Job] = {}
    for job in sorted(among, key=lambda job: job.tile):
        fp32 = job.width == "fp32"
        if job.target == "sm_80" if job.deep and fp32 else not fp32 and (job.deep or job.target == "sm_90"):
            switches = job.switches if job.deep and job.target == "sm_90" else ()
            largest[job.kernel, job.target, job.width, job.precision, switches] = job
    return list(largest.values())
