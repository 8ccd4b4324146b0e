"""Tiles, warps and stages of the kernels that make up a path, and their limits.

Every field has a meaning by itself, so that a test can force any of them.
"""

from dataclasses import dataclass
from typing import Literal

Precision = Literal["ieee", "tf32"]
"""How fp32 operands are multiplied: exactly, or rounded to tf32. The gate is always exact."""


@dataclass(frozen=True)
class Product:
    """One grouped product: a program computes a tile of tile_rows x columns, depth at a time.

    Attributes:
        columns: Output columns of a tile; for swiglu of each half.
        depth: Input columns read per step.
        warps: Warps per program.
        stages: Steps whose operands are in shared memory at once.
        group: Row tiles that share the weights in L2 before the next columns are taken.
        swapped: Whether to compute the transposed product, so that 16 or 32 rows are the narrow side of a wgmma.
        described: Whether to read the weights through tensor descriptors; needs sm_90 and strides that allow it.
        persistent: Whether each multiprocessor runs one program, which takes tile after tile.
        splits: Programs that share the depth of one tile. The combine adds their sums, so the first product must have
            1.
        specialised: Whether one warp copies and two groups of four multiply, if `kernels.ops.specialised` can; if not,
            the plain kernel runs. No choice ever has it.
    """

    columns: int
    depth: int
    warps: int
    stages: int
    group: int = 8
    swapped: bool = False
    described: bool = False
    persistent: bool = False
    splits: int = 1
    specialised: bool = False

    def __post_init__(self) -> None:
        require_power_of_two(64 if self.swapped else 16, columns=self.columns)
        require_power_of_two(16, depth=self.depth)
        require_power_of_two(1, warps=self.warps, splits=self.splits)
        require_positive(stages=self.stages, group=self.group)


@dataclass(frozen=True)
class Router:
    """The gate product and the selection: for each tile of rows, `splits` programs share the depth."""

    tile_rows: int
    depth: int
    warps: int
    stages: int
    splits: int = 1

    def __post_init__(self) -> None:
        require_power_of_two(16, tile_rows=self.tile_rows, depth=self.depth)
        require_power_of_two(1, warps=self.warps, splits=self.splits)
        require_positive(stages=self.stages)


@dataclass(frozen=True)
class WeightTile:
    """The gradient of one product's weights: a program computes a tile of rows x columns, `depth` slots at a time.

    Attributes:
        rows: Rows of a tile of weights: input columns of the product.
        columns: Columns of a tile.
        depth: Slots of the expert read per step.
        warps: Warps per program.
        stages: Steps whose operands are in shared memory at once.
        group: Row blocks that take all columns before the next ones do, so that operands stay in L2.
        splits: Programs that share the slots of an expert; their sums are added afterwards.
    """

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int
    group: int = 8
    splits: int = 1

    def __post_init__(self) -> None:
        require_power_of_two(16, rows=self.rows, columns=self.columns, depth=self.depth)
        require_power_of_two(1, warps=self.warps)
        require_positive(stages=self.stages, group=self.group, splits=self.splits)


def least_columns(tile_rows: int) -> int:
    """Return the fewest columns of a product: 8 scores of a row are in one warp, but tall tiles need 16 on sm_100."""
    return 8 if tile_rows < 64 else 16


def require_power_of_two(least: int, **sizes: int) -> None:
    """Raise ValueError unless each of `sizes` is a power of two and at least `least`."""
    for name, size in sizes.items():
        if size < least or size & (size - 1):
            raise ValueError(f"{name} must be a power of two and at least {least}, not {size}")


def require_positive(**sizes: int) -> None:
    """Raise ValueError unless each of `sizes` is 1 or more."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, not {size}")


def require_precision(precision: str) -> None:
    """Raise ValueError unless `precision` is "ieee" or "tf32"."""
    if precision not in ("ieee", "tf32"):
        raise ValueError(f'precision must be "ieee" or "tf32", not {precision!r}')
