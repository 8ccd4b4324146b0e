"""The stage of an operator, a node or a kernel by its name, for traces without ranges of stages.

Such are traces of CUDA-graph replays, of compiled forms and of an engine with its own profiler.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable, Sequence

from bench.execution.stages import OTHER

KERNELS = {
    "_route_kernel": "route",
    "_count_kernel": "dispatch",
    "_dispatch_kernel": "dispatch",
    "_grouped_gemm_kernel": "experts",
    "_combine_kernel": "combine",
    "_fused_tiles_kernel": "fused",
    "_fused_rows_kernel": "fused",
}
"""Our own kernels."""
PRODUCTS = ("mm", "gemv", "MatMul", "MoE", "nvjet", "cutlass")
GATES = ("Sigmoid", "sigmoid", "Silu", "SiLU", "silu", "Swish", "swish", "SwiGLU", "swiglu", "act_and_mul")
"""Activations whose output multiplies another product."""
ACTIVATIONS = ("Relu", "relu", "Gelu", "GELU", "gelu", "Erf", "Tanh", "tanh", *GATES)
OPERATORS = {
    "experts": (*PRODUCTS, *ACTIVATIONS),
    "route": ("TopK", "ReduceMean", "ReduceL2", "Softmax", "SoftMax", "Sort", "sort", "topk", "softmax"),
    "combine": ("Scatter", "Mul", "Add", "Sum", "scatter", "index_add", "index_put"),
    "dispatch": ("NonZero", "Split", "Gather", "Equal", "nonzero", "index", "gather"),
}
"""Parts of the names of each stage's operators; the first stage that fits counts.

A router's product has the same name as an expert's, so it counts as an expert's.
"""
ELEMENTWISE = ("Mul", "Add")
"""Operators of combine that an expert's activation has too."""
GENERATED = "_fused_"
"""In a name of torch.compile's kernels; the operators that the kernel computes follow."""


def stages_named(names: Sequence[str]) -> list[str]:
    """Return the stage of each name, in the order in which the work of one call began.

    A multiplication or an addition at an expert's activation is the expert's: the bias before it, and after it the gate
    times the value, whose product may come in between. Any other one weighs or sums outputs.
    """
    stages = [stage_named(name) for name in names]
    simple = {place for place, stage in enumerate(stages) if stage == "combine" and _has(names[place], ELEMENTWISE)}
    others = [place for place, stage in enumerate(stages) if stage != OTHER and place not in simple]
    for place in simple:
        after = bisect(others, place)
        earlier, before = ["", "", *(names[other] for other in others[:after][-2:])][-2:]
        ahead = names[others[after]] if after < len(others) else ""
        biased = _has(before, PRODUCTS) and _has(ahead, ACTIVATIONS)
        gated = _has(earlier, GATES) and _has(before, PRODUCTS) and _has(ahead, PRODUCTS)
        if biased or gated or _has(before, ACTIVATIONS):
            stages[place] = "experts"
    return stages


def _has(name: str, parts: Iterable[str]) -> bool:
    return any(part in name for part in parts)


def stage_named(name: str) -> str:
    """Return the stage of a name, "other" if it fits none, and "fused" for a kernel of several stages."""
    if name in KERNELS:
        return KERNELS[name]
    *_, operators = name.partition(GENERATED)
    if not operators:
        return next((stage for stage, parts in OPERATORS.items() if _has(name, parts)), OTHER)
    stages = set()
    for stage, parts in OPERATORS.items():
        for part in parts:
            if part in operators:
                stages.add(stage)
                operators = operators.replace(part, "")  # the index in index_add is no stage
    return "fused" if len(stages) > 1 else next(iter(stages), OTHER)
