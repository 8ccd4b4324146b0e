"""The options of the sparse head's kernels: tile sizes, warps and stages."""

from dataclasses import dataclass

import torch
import triton


@dataclass(frozen=True)
class ProductOptions:
    """How one grouped product is computed: a tile of tile_rows x columns by one program, depth at a time.

    Attributes:
        columns: Output columns of a tile.
        depth: Input columns read per step.
        warps: Warps per program.
        stages: Steps whose operands are in shared memory at once.
        group: Row tiles that share the weights in L2 before the next columns are taken.
    """

    columns: int
    depth: int
    warps: int
    stages: int
    group: int = 8

    def __post_init__(self) -> None:
        _require_power_of_two(16, columns=self.columns, depth=self.depth)
        _require_power_of_two(1, warps=self.warps)
        if self.stages < 1 or self.group < 1:
            raise ValueError(f"stages and group must be at least 1, not {self.stages} and {self.group}")


@dataclass(frozen=True)
class Options:
    """Options of the whole sparse head; both products share the row tiles of one dispatch."""

    tile_rows: int
    first: ProductOptions
    second: ProductOptions

    def __post_init__(self) -> None:
        _require_power_of_two(16, tile_rows=self.tile_rows)


def default_options(dtype: torch.dtype, *, rows_per_expert: float, features: int, hidden: int, outputs: int) -> Options:
    """Return options for an even routing; 96 KiB of shared memory is the most that any of them takes.

    Args:
        dtype: Of features and weights.
        rows_per_expert: N k / E.
        features: D.
        hidden: H.
        outputs: C.
    """
    products = ((features, hidden), (hidden, outputs))
    small = any(_small(dtype, *product) for product in products)
    tile_rows = 16 if rows_per_expert <= 32 else 64 if rows_per_expert < 128 or small else 128
    first, second = (_product(dtype, tile_rows, *product) for product in products)
    return Options(tile_rows=tile_rows, first=first, second=second)


def _small(dtype: torch.dtype, inputs: int, outputs: int) -> bool:
    """Tell whether large tiles would spill: fp32 is twice as wide, and ragged rows are read value by value."""
    return dtype == torch.float32 or inputs % 16 > 0 or (outputs > 64 and outputs % 16 > 0)


def _product(dtype: torch.dtype, tile_rows: int, inputs: int, outputs: int) -> ProductOptions:
    """Return options for (tile_rows, inputs) x (inputs, outputs)."""
    widest, deepest = (64, 32) if _small(dtype, inputs, outputs) else (128, 64)
    columns = _clamp(triton.next_power_of_2(outputs), 16, widest)
    depth = _clamp(triton.next_power_of_2(inputs), 16, deepest)
    warps = 8 if tile_rows * columns > 64 * 128 else 4
    stages = min(3, triton.cdiv(inputs, depth))
    return ProductOptions(columns=columns, depth=depth, warps=warps, stages=stages)


def _clamp(value: int, least: int, most: int) -> int:
    return max(least, min(value, most))


def _require_power_of_two(least: int, **sizes: int) -> None:
    for name, size in sizes.items():
        if size < least or size & (size - 1):
            raise ValueError(f"{name} must be a power of two and at least {least}, not {size}")
