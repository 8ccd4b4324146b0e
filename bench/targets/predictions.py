"""What a timing run should find on an H100, case by case: our kernels by their cost model, peers by simpler ones.

No number here was measured. The models of the peers are lower bounds with few terms, named in `NOTES`.

Letters: N rows, D input width, E experts, k experts per row, C output width, M = N k.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from bench.targets.peers import peers
from bench.targets.peers.kernel_path import FUSED, GROUPED, best
from bench.targets.peers.layers import LAYERS, chosen_experts
from bench.targets.plan import Group
from kernels.choice.choice import choose
from kernels.cost.machine import H100, Machine, assuming
from kernels.cost.seconds import seconds
from kernels.paths.grouped import Grouped
from kernels.paths.options import Options
from reports.records.record import Status
from reports.records.timing import Timing

MACHINE: Machine = H100
HOST = 5e-6
"""Seconds of the host for one eager operator, launch included."""
HOST_OF_OURS = 25e-6
"""Seconds of the host for a call of our operator: checks, choice, and up to five launches."""
WAIT = 15e-6
"""Seconds of a wait of the host for the device."""
OPERATORS = {
    "loop": (12, 9),
    "grouped_mm": (28, 0),
    "compile_grouped_mm": (10, 0),
    "masked": (16, 0),
    "compile_masked": (6, 0),
    "dense": (3, 0),
    "compile_dense": (2, 0),
    "cublas": (2, 0),
    "empty": (1, 0),
    "copy": (1, 0),
    "peak": (1, 0),
}
"""Operators of a call, and further ones for each expert, counted by reading the peer's code."""
PASSES = {
    "grouped_mm": (3, 8, 6),
    "compile_grouped_mm": (3, 4, 3),
    "masked": (0, 6, 0),
    "compile_masked": (0, 2, 0),
    "dense": (0, 4, 0),
    "compile_dense": (0, 2, 0),
}
"""How often gathered rows (M, D), hidden values and experts' outputs (M, C) are written or read, by the same count."""
LIGER = {128: 0.589e-3, 1024: 0.671e-3, 8192: 2.10e-3, 32768: 7.34e-3}
"""Published for liger-kernel on one H100: E 128, D 2048, H 768, k 8, bfloat16, by N."""
SHARE = 0.7
"""Share of the peak that torch's grouped product is taken to reach."""

NOTES = (
    f"Machine: {MACHINE.name}, {MACHINE.half_rate / 1e12:.0f} TFLOP/s in 16 bits, {MACHINE.fp32_rate / 1e12:.0f} in "
    f"fp32, {MACHINE.dram_rate / 1e12:.1f} TB/s, {1e6 * MACHINE.launch_seconds:.1f} us from one launch to the next.",
    "Our kernels: the cost model of kernels.choice.choice, with the experts' real row counts.",
    f"Peers in a graph: operators x launch + the larger of FLOPs / peak and bytes / bandwidth (L2's where all of it "
    f"fits and caches are warm); grouped_mm's products at {SHARE:.0%} of the peak.",
    f"Peers in a call: the larger of that and operators x {1e6 * HOST:.0f} us, the loop with {1e6 * WAIT:.0f} us for a "
    f"wait per expert; our call the larger of the estimate and {1e6 * HOST_OF_OURS:.0f} us.",
    "Liger: its published times for this layer. moe-ops: no model.",
)


GPU = torch.device("cuda")


def predicted(groups: Sequence[Group]) -> list[Timing]:
    """Return every planned case with its predicted time, or with the reason for none."""
    with assuming(MACHINE):
        return [_predicted(group, case) for group in groups for case in group.planned()]


def _predicted(group: Group, case: Timing) -> Timing:
    if peers()[case.peer].unavailable(group.layer, group.dtype, GPU) and case.peer not in ("liger", "moe_ops"):
        return case.model_copy(update={"status": Status.UNAVAILABLE, "reason": "it does not compute this layer"})
    time = _ours(group, case) if case.peer.startswith("ours") else _peer(case)
    if time is None:
        return case.model_copy(update={"reason": "there is no model of it here"})
    found = {"status": "predicted", "reason": "", "samples": [float(f"{time:.4g}")], "blocks": [0]}
    return case.model_copy(update=found)


def _ours(group: Group, case: Timing) -> float | None:
    """Return the cost model's seconds of our kernels, for the rows that each expert has."""
    layer = group.layer
    problem = layer.problem(group.rows, group.dtype)
    options: Options | None = choose(problem, MACHINE)
    if case.peer == "ours_fused":
        options = best(layer, group.rows, group.dtype, GPU, FUSED)
    elif case.peer == "ours_grouped" or (case.peer == "ours_products" and not isinstance(options, Grouped)):
        options = best(layer, group.rows, group.dtype, GPU, GROUPED)
    if options is None:
        return None
    ids = chosen_experts(case.routing, group.rows, layer.E, layer.k)
    launches = options.works(problem, torch.bincount(ids.flatten(), minlength=layer.E).tolist())
    touched = sum(work.touched for work in launches)
    missing = 1.0 if case.cache == "cold" else max(0.0, 1 - MACHINE.l2_bytes / touched)
    left_out = {"ours_products": ("route", "dispatch", "combine"), "ours_given": ("route",)}.get(case.peer, ())
    time = sum(seconds(work, MACHINE, missing) for work in launches if work.stage not in left_out)
    return max(time, HOST_OF_OURS) if case.clock == "call" else time


def _peer(case: Timing) -> float | None:
    """Return seconds of a peer by the few terms that `NOTES` names."""
    if case.peer == "liger":
        return LIGER.get(case.rows)
    if case.peer not in OPERATORS:
        return None
    layer = LAYERS[case.layer]
    once, each = OPERATORS[case.peer]
    operators = once + each * layer.E
    flops = case.flops / SHARE if "grouped_mm" in case.peer else case.flops
    if "masked" in case.peer:
        flops *= layer.E / layer.k
    moved = case.least_bytes + _intermediate_bytes(case)
    in_l2 = case.cache == "warm" and moved <= MACHINE.l2_bytes
    rate = MACHINE.fp32_rate if case.dtype == "float32" else MACHINE.half_rate
    work = max(flops / rate, moved / (MACHINE.l2_rate if in_l2 else MACHINE.dram_rate))
    time = operators * MACHINE.launch_seconds + work
    return time if case.clock == "graph" else max(time, operators * HOST + (layer.E * WAIT if each else 0.0))


def _intermediate_bytes(case: Timing) -> int:
    """Return the bytes of what a peer writes in one operator and reads in another."""
    layer = LAYERS[case.layer]
    gathered, hidden, outputs = PASSES.get(case.peer, (0, 0, 0))
    M = case.rows * layer.k
    runs = M if "grouped_mm" in case.peer else case.rows * layer.E
    values = gathered * M * layer.D + hidden * runs * layer.halves * layer.H + outputs * M * layer.C
    return values * (4 if case.dtype == "float32" else 2)
