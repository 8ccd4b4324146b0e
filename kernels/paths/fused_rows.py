"""The path of fused rows: one launch, with a program for each expert of each row.

N rows, D input width, H hidden width of one expert, E experts, k experts per row, C output width.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from kernels.cost.machine import Machine
from kernels.cost.work import Histogram, LaunchWork
from kernels.launch.integers import cdiv, next_power_of_2
from kernels.ops.fused import (
    MOST_COLUMNS,
    MOST_PARTS,
    experts_per_row,
    launch_fused,
    most_rows,
    sliced,
    touched_bytes,
)
from kernels.ops.fused_rows import _fused_rows_kernel
from kernels.ops.parts import waits
from kernels.paths.candidates import at_most, ragged
from kernels.paths.options import Options
from kernels.problem.experts import Experts
from kernels.problem.options import require_positive, require_power_of_two
from kernels.problem.problem import Problem
from kernels.problem.routes import RoutingSource


@dataclass(frozen=True)
class FusedRows(Options):
    """One launch; each program runs one expert of one row, or a part of it, and never rounds fp32 to tf32.

    Attributes:
        slices: Programs that share the hidden columns of an expert.
        hidden: Hidden columns computed at once.
        depth: Input columns read per step.
        warps: Warps per program.
    """

    slices: int
    hidden: int
    depth: int
    warps: int

    def __post_init__(self) -> None:
        require_power_of_two(1, hidden=self.hidden, depth=self.depth, warps=self.warps)
        require_positive(slices=self.slices)
        super().__post_init__()

    @classmethod
    def candidates(cls, problem: Problem, machine: Machine, each: int) -> Iterator["FusedRows"]:
        """Yield options that may be quick for a few rows: whole experts, or slices of them."""
        if problem.routing == "flat" or problem.N > 64:
            return
        for hidden, depth, warps in ((32, 256, 4), (16, 512, 4)) + ((64, 128, 8),) * (not ragged(problem)):
            if machine.capability >= 120 and problem.E > 256 and depth == 512:
                continue  # it spills
            blocks = cdiv(problem.H, hidden)
            for slices in sorted({1, cdiv(blocks, 4), blocks}):
                if problem.k * sliced(problem.H, hidden, slices)[0] <= MOST_PARTS:
                    yield cls(slices=slices, hidden=hidden, depth=at_most(problem.D, depth), warps=warps)

    def run(self, x: Tensor, routing: RoutingSource, experts: Experts) -> Tensor:
        """Return the outputs (N, C). Raises `ValueError` as `launch_fused` does."""
        E, H, C = experts.w2.shape
        block_e, block_c = next_power_of_2(E), min(next_power_of_2(C), MOST_COLUMNS)
        slices, blocks = sliced(H, self.hidden, self.slices)
        grid = (x.shape[0], experts_per_row(routing) * slices, cdiv(C, block_c))
        sizes = {
            "slices": slices,
            "blocks": blocks,
            "block_e": block_e,
            "block_h": self.hidden,
            "block_c": block_c,
            "gate_depth": max(1, self.depth * self.hidden // block_e),
            "depth": self.depth,
        }
        return launch_fused(_fused_rows_kernel, grid, x, routing, experts, sizes, warps=self.warps)

    def launch_works(self, problem: Problem, experts: Histogram) -> tuple[LaunchWork, ...]:
        """Return the work of the launch; its products of vectors count as if they were dots.

        Instructions and barriers are fitted to the machine code of 9 options for sm_90 by Triton 3.6.0 and 3.9.0:
        instructions are at most 15 % wrong.
        """
        N, D, H, E, C, k, size = (*problem.sizes, problem.element_size)
        gated, halves, hidden = problem.routing == "gate", problem.halves, self.hidden
        slices, blocks = sliced(H, hidden, self.slices)
        block_e, block_c = next_power_of_2(E), min(next_power_of_2(C), MOST_COLUMNS)
        gate_depth = max(1, self.depth * hidden // block_e)
        parts, wide = k * slices, cdiv(C, block_c)
        programs = N * parts * wide
        steps, gate_steps = cdiv(D, self.depth), cdiv(D, gate_depth) if gated else 0
        expert = blocks * hidden * (steps * self.depth * halves + block_c)
        multiplied = (expert - blocks * hidden * block_c + gate_steps * gate_depth * block_e) / (32 * self.warps)
        scratch = 4 * parts * N * C if parts > 1 else 0
        work = LaunchWork(
            stage="fused",
            kernel="_fused_rows_kernel",
            programs=programs,
            flops=2 * programs * (expert + gate_steps * gate_depth * block_e),
            read=size * programs * (D * blocks * halves + gated * (D + (D + 1) * E))
            + size * N * k * (wide * (D + 1) * H * halves + H * C + slices * C)
            + (0 if gated else 8 * programs)
            + scratch,
            written=N * C * size + scratch,
            touched=touched_bytes(problem),
            start=2 + gated * cdiv(k, 4) + waits(parts, block_c),
            fillings=gate_steps + blocks * (1 + steps * halves),
            warps=self.warps,
            held=hidden * (self.depth + block_c),
            instructions=round(1250 + 250 * blocks + (3.8 if size == 2 else 1) * multiplied),
            barriers=20 if block_e <= 32 else 40,
        )
        return (work,)

    def most_rows(self, problem: Problem) -> float:
        """Return the largest N that has a ticket for each sum."""
        return most_rows(problem, problem.k * sliced(problem.H, self.hidden, self.slices)[0], 1)
