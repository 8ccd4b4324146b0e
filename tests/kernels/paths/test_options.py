"""The options refuse what no kernel can do, and survive as text."""

from dataclasses import replace
from typing import Any

import pytest

from kernels.paths.fused_rows import FusedRows
from kernels.paths.fused_tiles import FusedTiles
from kernels.paths.grouped import Grouped
from kernels.paths.options import Options
from kernels.paths.paths import PATHS, decode
from kernels.problem.options import Product, Router

PART = Product(columns=64, depth=32, warps=4, stages=2)
ROUTER = Router(tile_rows=16, depth=64, warps=4, stages=2)
GROUPED = Grouped(tile_rows=16, router=ROUTER, first=PART, second=replace(PART, splits=4, swapped=True))
TILES = FusedTiles(tile_rows=32, experts=3, slices=5, hidden=64, depth=32, warps=4, stages=2, precision="tf32")
ROWS = FusedRows(slices=3, hidden=8, depth=32, warps=4)


@pytest.mark.parametrize(
    ("options", "change", "message"),
    [
        (PART, {"columns": 24}, "columns must be a power of two and at least 16, not 24"),
        (PART, {"columns": 32, "swapped": True}, "columns must be a power of two and at least 64, not 32"),
        (PART, {"depth": 0}, "depth must be a power of two and at least 16, not 0"),
        (PART, {"warps": 3}, "warps must be a power of two and at least 1, not 3"),
        (PART, {"splits": 3}, "splits must be a power of two and at least 1, not 3"),
        (PART, {"stages": 0}, "stages must be at least 1, not 0"),
        (PART, {"group": 0}, "group must be at least 1, not 0"),
        (ROUTER, {"tile_rows": 8}, "tile_rows must be a power of two and at least 16, not 8"),
        (GROUPED, {"tile_rows": 20}, "tile_rows must be a power of two and at least 16, not 20"),
        (GROUPED, {"first": replace(PART, splits=2)}, "the first product cannot be split"),
        (GROUPED, {"precision": "bf16"}, """precision must be "ieee" or "tf32", not 'bf16'"""),
        (TILES, {"hidden": 8}, "hidden must be a power of two and at least 16, not 8"),
        (TILES, {"experts": 0}, "experts must be at least 1, not 0"),
        (ROWS, {"slices": 0}, "slices must be at least 1, not 0"),
        (ROWS, {"depth": 12}, "depth must be a power of two and at least 1, not 12"),
    ],
)
def test_what_no_kernel_can_do_is_refused(options: Any, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(options, **change)


@pytest.mark.parametrize("options", [GROUPED, TILES, ROWS], ids=lambda options: type(options).__name__)
def test_options_survive_their_code(options: Options) -> None:
    assert decode(options.code) == options
    assert decode(options.code).code == options.code
    assert hash(decode(options.code)) == hash(options)


def test_every_path_is_listed() -> None:
    assert set(PATHS) == set(Options.__subclasses__())
