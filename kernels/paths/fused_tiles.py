"""The path of fused tiles: one launch; each program runs some experts, or a part of one, for a tile of rows.

N rows, D input width, H hidden width of one expert, E experts, k experts per row, C output width.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch import Tensor

from kernels.cost.machine import Machine
from kernels.cost.work import Histogram, LaunchWork, unit_of
from kernels.launch.integers import cdiv, next_power_of_2
from kernels.ops.fused import MOST_COLUMNS, MOST_PARTS, experts_per_row, launch_fused, most_rows, sliced, touched_bytes
from kernels.ops.fused_tiles import _fused_tiles_kernel
from kernels.ops.parts import waits
from kernels.paths.candidates import at_most, ragged, staged, unit
from kernels.paths.options import Options
from kernels.problem.experts import Experts
from kernels.problem.options import Precision, least_columns, require_positive, require_power_of_two, require_precision
from kernels.problem.problem import Problem
from kernels.problem.routes import RoutingSource


@dataclass(frozen=True)
class FusedTiles(Options):
    """One launch; each program runs `experts` experts, or a part of one, for a tile of rows.

    If one row of a tile uses an expert, the expert runs for all rows of the tile.

    Attributes:
        tile_rows: Rows of a tile.
        experts: Experts that one program runs in turn; the E / experts programs of a tile add up their sums.
        slices: Programs that share the hidden columns of an expert.
        hidden: Hidden columns computed at once.
        depth: Input columns read per step.
        warps: Warps per program.
        stages: Steps whose operands are in shared memory at once.
        precision: How fp32 operands are multiplied.
        swapped: Whether to compute transposed products, so that 16 or 32 rows are the narrow side of a wgmma; experts
            and columns are then padded to its 64.
    """

    tile_rows: int
    experts: int
    slices: int
    hidden: int
    depth: int
    warps: int
    stages: int
    precision: Precision = "ieee"
    swapped: bool = False

    def __post_init__(self) -> None:
        require_power_of_two(16, tile_rows=self.tile_rows, hidden=self.hidden, depth=self.depth)
        require_power_of_two(1, warps=self.warps)
        require_positive(experts=self.experts, slices=self.slices, stages=self.stages)
        require_precision(self.precision)
        super().__post_init__()

    @classmethod
    def candidates(cls, problem: Problem, machine: Machine, each: int) -> Iterator["FusedTiles"]:
        """Yield options that may be quick: programs that run whole experts, or a part of one."""
        if problem.routing == "flat" or problem.C > MOST_COLUMNS:
            return
        filled = max(16, next_power_of_2(problem.N))
        for tile_rows in (128, 64, 32, 16):
            if tile_rows > filled or tile_rows * 4096 < filled:
                continue
            for hidden in (64, 32, 16):
                blocks = cdiv(problem.H, hidden)
                if hidden > 16 and blocks == cdiv(problem.H, hidden // 2):
                    continue  # a narrower block does the same
                whole = {(experts, 1) for experts in (2, 4, problem.E) if experts <= problem.E and hidden >= 32}
                for experts, slices in sorted(whole | {(1, 1), (1, cdiv(blocks, 2)), (1, blocks)}):
                    settings = _depth_warps_stages(problem, machine, tile_rows, hidden, experts * cdiv(blocks, slices))
                    parts = cdiv(problem.E, experts) * sliced(problem.H, hidden, slices)[0]
                    if settings is None or parts > MOST_PARTS:
                        continue
                    depth, warps, stages = settings
                    options = cls(
                        tile_rows=tile_rows,
                        experts=experts,
                        slices=slices,
                        hidden=hidden,
                        depth=at_most(problem.D, depth),
                        warps=warps,
                        stages=stages,
                        precision=problem.precision,
                    )
                    for variant in _variants(options, problem, machine):
                        yield from staged(variant, machine, lambda part: part.shared_bytes(problem))

    def run(self, x: Tensor, routing: RoutingSource, experts: Experts) -> Tensor:
        """Return the outputs (N, C). Raises `ValueError` as `launch_fused` does."""
        E, H, C = experts.w2.shape
        least = self._least
        slices, blocks = sliced(H, self.hidden, self.slices)
        block_c = max(least, min(next_power_of_2(C), MOST_COLUMNS))
        grid = (cdiv(x.shape[0], self.tile_rows), cdiv(E, self.experts) * slices, cdiv(C, block_c))
        sizes = {
            "precision": self.precision,
            "experts": min(self.experts, E),
            "slices": slices,
            "blocks": blocks,
            "rows_axis": int(self.swapped),
            "block_n": self.tile_rows,
            "block_e": max(least, next_power_of_2(E)),
            "block_h": max(least, self.hidden),
            "block_c": block_c,
            "block_k": next_power_of_2(experts_per_row(routing)),
            "hidden": self.hidden,
            "depth": self.depth,
        }
        return launch_fused(_fused_tiles_kernel, grid, x, routing, experts, sizes, warps=self.warps, stages=self.stages)

    def launch_works(self, problem: Problem, experts: Histogram) -> tuple[LaunchWork, ...]:
        """Return the work of the launch if the rows of a tile use as many experts as they can.

        Instructions and barriers are fitted to the machine code of 30 options for sm_90, gelu, in 16 bits, by Triton
        3.6.0 and 3.9.0: instructions are at most 23 % wrong, barriers 31 %.
        """
        N, D, H, E, C, k, size = (*problem.sizes, problem.element_size)
        rows, gated, halves = self.tile_rows, problem.routing == "gate", problem.halves
        least = self._least
        block_e, block_h = max(least, next_power_of_2(E)), max(least, self.hidden)
        block_c = max(least, min(next_power_of_2(C), MOST_COLUMNS))
        slices = sliced(H, self.hidden, self.slices)[0]
        groups, tiles, wide = cdiv(E, self.experts), cdiv(N, rows), cdiv(C, block_c)
        parts, steps = groups * slices, cdiv(D, self.depth)
        used = min(E, min(rows, N) * k)
        gates = parts if gated else 0
        idle = gates * (E - used) // E  # with a gate, each program runs its first expert even if no row uses it
        sweeps = gated * (1 + (k if k < E else 0))  # over the scores, to choose experts and to weigh them
        items, columns = used * cdiv(H, self.hidden) + idle, used * H + idle * min(self.hidden, H)
        turns = cdiv(items, parts)
        expert = steps * self.depth * block_h * halves + block_h * block_c
        gate = steps * self.depth * block_e
        scratch = 4 * parts * N * C if parts > 1 else 0
        work = LaunchWork(
            stage="fused",
            kernel="_fused_tiles_kernel",
            programs=tiles * wide * (parts if gated else min(parts, used * slices)),
            flops=2 * tiles * wide * rows * (items * expert + gates * gate),
            read=wide * size * (N * D * items + tiles * (D + 1) * (columns * halves + gates * E))
            + size * tiles * (columns + items) * C
            + (0 if gated else 8 * N * k * parts * wide)
            + scratch,
            written=N * C * size + scratch,
            touched=touched_bytes(problem),
            unit=unit_of(problem.dtype, self.precision),
            tile=(block_h, rows) if self.swapped else (rows, block_h),
            start=3 + gated * cdiv(k, 4) + waits(parts, rows * block_c),
            fillings=turns * (1 + cdiv(steps, self.stages)),
            warps=self.warps,
            held=rows * (block_h * halves + block_c + (block_e if gated else 0)),
            shared=self.shared_bytes(problem),
            instructions=round(
                1000
                + 330 * (turns - 1)
                + (45 * turns * block_h + 12 * sweeps * block_e + 6.3 * parts * block_c) * rows / (32 * self.warps)
            ),
            barriers=8 + 2 * turns * steps + 6 * (turns - 1) + 6 * sweeps * (block_e > 8 and rows < 16 * self.warps),
        )
        return (work,)

    def shared_bytes(self, problem: Problem) -> int:
        """Return the shared bytes of a program's operands."""
        block_e = max(self._least, next_power_of_2(problem.E)) if problem.routing == "gate" else 0
        block_h = max(self._least, self.hidden)
        return (self.tile_rows + block_h * problem.halves + block_e) * self.depth * problem.element_size * self.stages

    @property
    def _least(self) -> int:
        """The fewest columns of a product."""
        return 64 if self.swapped else least_columns(self.tile_rows)

    def most_rows(self, problem: Problem) -> float:
        """Return the largest N that has a ticket for each sum."""
        parts = cdiv(problem.E, self.experts) * sliced(problem.H, self.hidden, self.slices)[0]
        return most_rows(problem, parts, self.tile_rows)


def _variants(options: FusedTiles, problem: Problem, machine: Machine) -> list[FusedTiles]:
    """Return what to try of these options: with more warps, and transposed; ragged rows or many experts spill else."""
    if unit(problem) != "half" or options.tile_rows >= 64:
        return [options]
    transposed = [replace(options, swapped=True)] * machine.asynchronous
    if transposed and (ragged(problem) or problem.E > 128):
        return transposed
    return [options, *[replace(options, warps=8)] * (options.warps < 8), *transposed]


def _depth_warps_stages(
    problem: Problem, machine: Machine, tile_rows: int, hidden: int, items: int
) -> tuple[int, int, int] | None:
    """Return depth, warps and stages of a program that runs `items` blocks of hidden columns, or None if it spills."""
    wide = problem.E > 16 or problem.C > 64
    most = 128 if unit(problem) == "half" and problem.halves == 1 else 64
    if unit(problem) == "fp32" and wide:
        most = 16
    elif ragged(problem) or problem.E > 128:
        most = 32 if problem.E <= 256 and not (ragged(problem) and machine.capability >= 100) else 16
    elif not machine.asynchronous:
        most = 64
    if machine.amd and (tile_rows == 32 or problem.E > 128):
        return None
    if tile_rows > most or (machine.capability >= 120 and problem.E > 256):
        return None
    if ragged(problem) or problem.E > 128:
        return 32, 8, 2
    if unit(problem) == "fp32":
        narrow = hidden == 64 and (wide or ((tile_rows == 64 or machine.capability >= 120) and items > 1))
        return None if narrow else (32, 8, 2 if wide else 3)
    if unit(problem) == "tf32":
        return (64, 4, 3) if tile_rows <= 32 and items == 1 else (32, 4 if items == 1 else 8, 3)
    if not machine.asynchronous:
        simple = (
            items == 1 and problem.halves == 1 and not wide and (tile_rows == 16 or (tile_rows, hidden) == (64, 64))
        )
        stages = 2 if machine.amd else 4
        return (64, 4 if tile_rows == 64 else 8, stages) if simple else (32, 8, stages)
    warps = 4 if items == 1 and tile_rows <= 64 else 8
    if wide and machine.capability > 90:
        return 32, 8, 3
    if wide or tile_rows >= 64:
        return 64, warps, 3 if problem.halves == 2 or items > 1 else 4
    return 128, warps, 3 if problem.halves == 2 or items > 1 else 4
