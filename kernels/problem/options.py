"""How a call is executed: the path, and the tiles, warps and stages of its kernels.

Every field has a meaning of its own, so that a test can force any of them; `kernels.choice.choice` chooses.
"""

import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Literal

Precision = Literal["ieee", "tf32"]
"""How fp32 operands are multiplied: exactly, or rounded to tf32. The gate is always exact."""


@dataclass(frozen=True)
class Product:
    """One grouped product: a tile of tile_rows x columns by one program, depth at a time.

    Attributes:
        columns: Output columns of a tile; for swiglu of each half.
        depth: Input columns read per step.
        warps: Warps per program.
        stages: Steps whose operands are in shared memory at once.
        group: Row tiles that share the weights in L2 before the next columns are taken.
        swapped: Whether the transposed product is computed, so that 16 or 32 rows are the narrow side of a wgmma.
        described: Whether the weights are read through tensor descriptors, which needs sm_90 and strides that allow it.
        persistent: Whether one program per place on the device takes tile after tile.
        splits: Programs that share the depth of one tile; their sums are added in the combine, so only the second
            product may have more than 1.
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

    def __post_init__(self) -> None:
        _require_power_of_two(64 if self.swapped else 16, columns=self.columns)
        _require_power_of_two(16, depth=self.depth)
        _require_power_of_two(1, warps=self.warps, splits=self.splits)
        _require_positive(stages=self.stages, group=self.group)


@dataclass(frozen=True)
class Router:
    """The gate product and the selection: tile_rows rows by one program, or by `splits` that share the depth."""

    tile_rows: int
    depth: int
    warps: int
    stages: int
    splits: int = 1

    def __post_init__(self) -> None:
        _require_power_of_two(16, tile_rows=self.tile_rows, depth=self.depth)
        _require_power_of_two(1, warps=self.warps, splits=self.splits)
        _require_positive(stages=self.stages)


class _Path:
    """What the paths share: `code`, the options as text, made once so that a compiled graph can hold it."""

    code: str

    def _encode(self) -> None:
        fields: dict[str, Any] = asdict(self)  # type: ignore[call-overload]  # every path is a dataclass
        object.__setattr__(self, "code", json.dumps({"path": type(self).__name__, **fields}))


@dataclass(frozen=True)
class Grouped(_Path):
    """Router, dispatch, two grouped products, combine: five launches. Both products share the row tiles."""

    tile_rows: int
    router: Router
    first: Product
    second: Product
    precision: Precision = "ieee"

    def __post_init__(self) -> None:
        _require_power_of_two(16, tile_rows=self.tile_rows)
        _require_precision(self.precision)
        if self.first.splits != 1:
            raise ValueError("the first product cannot be split: its sum is needed whole for the activation")
        self._encode()


@dataclass(frozen=True)
class FusedTiles(_Path):
    """One launch, in which a program runs `experts` experts, or a part of one, for a tile of rows.

    Attributes:
        tile_rows: Rows of a tile; 16 and 32 are the narrow side of a transposed product.
        experts: Experts of one program, one after the other; the E / experts programs of a tile add up their sums.
        slices: Programs that share the hidden columns of an expert.
        hidden: Hidden columns computed at once.
        depth: Input columns read per step.
        warps: Warps per program.
        stages: Steps whose operands are in shared memory at once.
    """

    tile_rows: int
    experts: int
    slices: int
    hidden: int
    depth: int
    warps: int
    stages: int
    precision: Precision = "ieee"

    def __post_init__(self) -> None:
        _require_power_of_two(16, tile_rows=self.tile_rows, hidden=self.hidden, depth=self.depth)
        _require_power_of_two(1, warps=self.warps)
        _require_positive(experts=self.experts, slices=self.slices, stages=self.stages)
        _require_precision(self.precision)
        self._encode()


@dataclass(frozen=True)
class FusedRows(_Path):
    """One launch, in which a program runs one expert of one row, or a part of it.

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
        _require_power_of_two(1, hidden=self.hidden, depth=self.depth, warps=self.warps)
        _require_positive(slices=self.slices)
        self._encode()


Options = Grouped | FusedTiles | FusedRows
_PATHS: dict[str, Any] = {"Grouped": Grouped, "FusedTiles": FusedTiles, "FusedRows": FusedRows}


@lru_cache(maxsize=4096)
def decode(code: str) -> Options:
    """Return the options that have this `code`."""
    values: dict[str, Any] = json.loads(code)
    path = _PATHS[values.pop("path")]
    parts = {"router": Router, "first": Product, "second": Product}
    options: Options = path(
        **{name: parts[name](**value) if name in parts else value for name, value in values.items()}
    )
    return options


def _require_power_of_two(least: int, **sizes: int) -> None:
    for name, size in sizes.items():
        if size < least or size & (size - 1):
            raise ValueError(f"{name} must be a power of two and at least {least}, not {size}")


def _require_positive(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, not {size}")


def _require_precision(precision: str) -> None:
    if precision not in ("ieee", "tf32"):
        raise ValueError(f'precision must be "ieee" or "tf32", not {precision!r}')
