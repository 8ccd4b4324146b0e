"""Which stage an operator, a node or a kernel belongs to by its name, where no range in a trace names one.

So it is in replays of CUDA graphs, in compiled forms and in an engine with a profile of its own.
"""

from __future__ import annotations

from bench.forms.stages import OTHER

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
    "experts": ("Gemm", "gemm", "gemv", "MatMul", "mm", "nvjet", "cutlass", "Relu", "relu", "Gelu", "gelu", "Sigmoid"),
    "route": ("TopK", "Softmax", "SoftMax", "Sort", "sort", "topk", "softmax"),
    "combine": ("Scatter", "Mul", "Add", "Sum", "scatter", "index_add", "index_put"),
    "dispatch": ("NonZero", "Gather", "Equal", "nonzero", "index", "gather"),
}
"""What the names of the operators of each stage hold, the first that fits.

A router's product has the name of an expert's, so it counts among the experts.
"""
GENERATED = "_fused_"
"""In the names of torch.compile's kernels, before all the operators that one of them computes."""


def stage_named(name: str) -> str:
    """Return the stage that a name tells, "other" where it tells none and "fused" of a kernel that tells several."""
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
                operators = operators.replace(part, "")  # of index_add, index is no stage of its own
    return "fused" if len(stages) > 1 else next(iter(stages), OTHER)
