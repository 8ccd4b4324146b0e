"""The kernel options and their defaults."""

from itertools import product
from typing import Any

import pytest
import torch

from kernels.options import Options, ProductOptions, default_options


@pytest.mark.parametrize(
    ("dtype", "rows_per_expert", "tile_rows"),
    [
        (torch.bfloat16, 0.0, 16),
        (torch.bfloat16, 0.25, 16),
        (torch.bfloat16, 32, 16),
        (torch.bfloat16, 33, 64),
        (torch.float16, 127, 64),
        (torch.float16, 128, 128),
        (torch.float32, 1e6, 64),
    ],
)
def test_tile_height_follows_the_rows_per_expert(dtype: torch.dtype, rows_per_expert: float, tile_rows: int) -> None:
    options = default_options(dtype, rows_per_expert=rows_per_expert, features=512, hidden=64, outputs=10)
    assert options.tile_rows == tile_rows


def test_tiles_are_no_wider_than_needed() -> None:
    options = default_options(torch.bfloat16, rows_per_expert=64, features=512, hidden=64, outputs=10)
    assert (options.first.columns, options.first.depth, options.first.stages) == (64, 64, 3)
    assert (options.second.columns, options.second.depth, options.second.stages) == (16, 64, 1)


@pytest.mark.parametrize(
    ("features", "hidden", "outputs", "tile_rows"),
    [(512, 1024, 10, 128), (500, 1024, 10, 64), (512, 859, 10, 64), (512, 1024, 577, 64)],
)
def test_ragged_widths_get_small_tiles(features: int, hidden: int, outputs: int, tile_rows: int) -> None:
    options = default_options(torch.bfloat16, rows_per_expert=1e4, features=features, hidden=hidden, outputs=outputs)
    ragged = features % 16 > 0 or hidden % 16 > 0
    assert options.tile_rows == tile_rows
    assert (options.first.columns, options.first.depth) == ((64, 32) if ragged else (128, 64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_defaults_fit_in_96_kib_of_shared_memory(dtype: torch.dtype) -> None:
    for rows, D, H, C in product((1, 64, 1000), (1, 47, 512, 14336), (1, 64, 4096), (1, 10, 4096)):
        options = default_options(dtype, rows_per_expert=rows, features=D, hidden=H, outputs=C)
        for part in (options.first, options.second):
            elements = (options.tile_rows + part.columns) * part.depth * part.stages
            assert elements * dtype.itemsize <= 96 * 1024


@pytest.mark.parametrize(
    "change", [{"columns": 24}, {"columns": 8}, {"depth": 0}, {"warps": 3}, {"stages": 0}, {"group": 0}]
)
def test_impossible_tiles_are_refused(change: dict[str, Any]) -> None:
    right = {"columns": 16, "depth": 16, "warps": 4, "stages": 2}
    with pytest.raises(ValueError, match=f"{next(iter(change))}.* must be"):
        ProductOptions(**{**right, **change})
    part = ProductOptions(**right)
    with pytest.raises(ValueError, match="tile_rows must be a power of two and at least 16, not 20"):
        Options(tile_rows=20, first=part, second=part)
