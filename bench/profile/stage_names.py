"""The stage of an operator, a node or a kernel by its name, for traces without ranges of stages.

Such are traces of CUDA-graph replays, of compiled forms and of an engine with its own profiler.
"""

from __future__ import annotations

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
OPERATORS = {
    "experts": ("mm", "gemv", "MatMul", "MoE", "nvjet", "cutlass", "Relu", "relu", "Gelu", "gelu", "Sigmoid"),
    "route": ("TopK", "ReduceMean", "ReduceL2", "Softmax", "SoftMax", "Sort", "sort", "topk", "softmax"),
    "combine": ("Scatter", "Mul", "Add", "Sum", "scatter", "index_add", "index_put"),
    "dispatch": ("NonZero", "Split", "Gather", "Equal", "nonzero", "index", "gather"),
}
"""Parts of the names of each stage's operators; the first stage that fits counts.

A router's product has the same name as an expert's, so it counts as an expert's.
"""
GENERATED = "_fused_"
"""In a name of torch.compile's kernels; the operators that the kernel computes follow."""


def stage_named(name: str) -> str:
    """Return the stage of a name, "other" if it fits none, and "fused" for a kernel of several stages."""
    if name in KERNELS:
        return KERNELS[name]
    *_, operators = name.partition(GENERATED)
    if not operators:
        return next((stage for stage, parts in OPERATORS.items() if any(part in name for part in parts)), OTHER)
    stages = set()
    for stage, parts in OPERATORS.items():
        for part in parts:
            if part in operators:
                stages.add(stage)
                operators = operators.replace(part, "")  # the index in index_add is no stage
    return "fused" if len(stages) > 1 else next(iter(stages), OTHER)
