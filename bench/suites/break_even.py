"""Which rows to measure next, to find from how many rows on a sparse head is faster than the dense one.

Both have as many expert parameters. A cell of the map is a layer with k experts per row. Its rows, powers of two, are
searched by bisection: first both ends, then the middle between two neighbours that disagree, until these are adjacent.
Between two neighbours that agree the sign is assumed not to change, so a dip narrower than such a gap is missed. One
such gap is checked at its middle: the whole range, if both ends agree. An unclear number of rows is on neither side, so
the search goes on between it and its clear neighbours, until a cell has more than `MOST_UNCLEAR` of them.

The next rows depend on the known ones alone, so a search can stop at any time and be continued.

Letters: D input width, H hidden width of one expert, E experts, k experts per row, N rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise, product
from math import log2
from statistics import median

from bench.timing.blocks import median_interval

CONFIDENCE = 0.99
"""Of the interval that decides a side; high, because many are looked at."""
MOST_ROWS = 65_536
MOST_UNCLEAR = 4
"""With more unclear numbers of rows than this in a cell, the search no longer goes on beside unclear ones."""
CLASSES = 10
"""Output width of every head in the map, the paper's."""


@dataclass(frozen=True, order=True)
class Sizes:
    """The sizes that a dense head and its sparse rivals share; the dense one is E H wide."""

    features: int
    hidden: int
    experts: int

    def __str__(self) -> str:
        return f"D {self.features}, H {self.hidden}, E {self.experts}"

    @property
    def dense_flops(self) -> int:
        """Operations of the dense head for one row."""
        return 2 * self.experts * self.hidden * (self.features + CLASSES)


@dataclass(frozen=True, order=True)
class Cell:
    """A sparse head of the map: its layer, and k experts per row."""

    layer: Sizes
    k: int


class Side(StrEnum):
    """The side of break-even on which a sparse head is at some number of rows."""

    FASTER = "faster"
    SLOWER = "slower"
    UNCLEAR = "unclear"
    ABSENT = "absent"  # one of the heads has no time


@dataclass(frozen=True)
class Probe:
    """The median seconds in each block of the fastest dense and the fastest sparse form at one number of rows.

    A head without a time has an empty mapping.
    """

    dense: Mapping[int, float]
    sparse: Mapping[int, float]

    @property
    def ratios(self) -> list[float]:
        """How many times faster the sparse head was in each block that both share, least first."""
        shared = self.dense.keys() & self.sparse.keys()
        return sorted(self.dense[block] / self.sparse[block] for block in shared)

    @property
    def speedup(self) -> float | None:
        """The median over the blocks, None without any."""
        return median(self.ratios) if self.ratios else None

    @property
    def side(self) -> Side:
        """The side of 1 on which the interval of the median ratio lies; unclear with too few blocks for an interval."""
        if not self.ratios:
            return Side.ABSENT
        interval = median_interval(self.ratios, CONFIDENCE)
        if interval and interval[0] > 1:
            return Side.FASTER
        if interval and interval[1] < 1:
            return Side.SLOWER
        return Side.UNCLEAR


Known = Mapping[Cell, Mapping[int, Probe]]


@dataclass(frozen=True)
class MapGrid:
    """The cells of a map, and the bounds within which they are measured.

    `most_flops` bounds the rows of a cell by the operations of one call of its dense head. `left_out` has the forms
    that are not measured, with the reason; `most_experts` the most experts that a form is measured with, and why.
    `seconds` is the sampling time per case, `most_seconds` the time of the whole map.
    """

    cells: tuple[Cell, ...]
    seconds: float
    most_seconds: float | None = None
    most_flops: float = float("inf")
    left_out: Mapping[str, str] = field(default_factory=dict)
    most_experts: Mapping[str, tuple[int, str]] = field(default_factory=dict)

    def rows(self, layer: Sizes) -> tuple[int, ...]:
        """Return the numbers of rows at which a layer may be measured: powers of two, fewest first, at least 1."""
        powers = (2**power for power in range(int(log2(MOST_ROWS)) + 1))
        return tuple(rows for rows in powers if rows == 1 or rows * layer.dense_flops <= self.most_flops)

    @property
    def layers(self) -> tuple[Sizes, ...]:
        """The layers of all cells."""
        return tuple(dict.fromkeys(cell.layer for cell in self.cells))

    def of(self, layer: Sizes) -> tuple[Cell, ...]:
        """Return the cells of a layer, which are measured together, against one dense head."""
        return tuple(cell for cell in self.cells if cell.layer == layer)

    def excluded(self, form: str, experts: int) -> str:
        """Return why heads of so many experts, 1 for a dense one, are not measured in a form; "" if they are."""
        if form in self.left_out:
            return self.left_out[form]
        most, why = self.most_experts.get(form, (experts, ""))
        return why if experts > most else ""


def map_grid(*, quick: bool, device: str) -> MapGrid:
    """Return the grid of a map for a `device` type, cpu or cuda.

    On a CPU the operations of a call are bounded; on a GPU only the memory limits the 65,536 rows. The quick grid takes
    two cores at most ten minutes.
    """
    on_gpu = device == "cuda"
    if not quick:
        cells = _cells((128, 512, 2048), (4, 8, 16, 32, 64), (1, 2, 4, 8))
        return MapGrid(cells, seconds=0.4, most_flops=float("inf") if on_gpu else 2**35)
    return MapGrid(
        _cells((128, 512), (4, 8, 16, 64), (1, 2, 8)),
        seconds=0.2,
        most_seconds=540,
        most_flops=float("inf") if on_gpu else 2**32,
        left_out={"compile": "the quick map leaves it out, because it compiles for seconds at every shape"},
        most_experts={
            "onnxruntime": (
                16,
                "the quick map leaves it out above 16 experts, because exporting 64 takes about a minute",
            )
        },
    )


def _cells(widths: Sequence[int], experts: Sequence[int], ks: Sequence[int], hidden: int = 64) -> tuple[Cell, ...]:
    return tuple(
        Cell(Sizes(features, hidden, number), k) for features, number, k in product(widths, experts, ks) if k <= number
    )


def next_probes(grid: MapGrid, known: Known) -> list[tuple[Cell, int]]:
    """Return the cells and rows to measure next, in the order of the grid; nothing if the map is done.

    All of them can be measured before the next call.
    """
    return [
        (cell, rows) for cell in grid.cells for rows in next_rows(grid.rows(cell.layer), sides_of(known.get(cell, {})))
    ]


def expected_probes(grid: MapGrid, known: Known) -> dict[Cell, int]:
    """Return about how many probes each cell still needs."""
    return {cell: expected_rows(grid.rows(cell.layer), sides_of(known.get(cell, {}))) for cell in grid.cells}


def sides_of(probes: Mapping[int, Probe]) -> dict[int, Side]:
    """Return the side of each number of rows."""
    return {rows: probe.side for rows, probe in probes.items()}


def next_rows(rows: Sequence[int], sides: Mapping[int, Side]) -> list[int]:
    """Return which of `rows`, fewest first, to measure next in a cell with the known `sides`.

    If an end has no pair of times, the next number towards the middle takes its place. But if that end is the fewest
    rows, which always fit into memory, more rows will have no times either, and the search is over.
    """
    if sides.get(rows[0]) is Side.ABSENT:
        return []
    left = [count for count in rows if sides.get(count) is not Side.ABSENT]
    missing = [count for count in dict.fromkeys((left[0], left[-1])) if count not in sides]
    return missing or [left[(low + high) // 2] for low, high in _open_gaps(left, sides)]


def expected_rows(rows: Sequence[int], sides: Mapping[int, Side]) -> int:
    """Return about how many of `rows` a cell still needs, if every result turns out clear."""
    missing = next_rows(rows, sides)
    if not missing:
        return 0
    left = [count for count in rows if sides.get(count) is not Side.ABSENT]
    if gaps := _open_gaps(left, sides):
        return sum((high - low - 1).bit_length() for low, high in gaps)
    return len(missing) + max(0, len(left) - 2).bit_length()


def _open_gaps(rows: Sequence[int], sides: Mapping[int, Side]) -> list[tuple[int, int]]:
    """Return the gaps to bisect, as the places of their ends in `rows`, fewest rows first."""
    places = [place for place, count in enumerate(rows) if count in sides]
    if len(places) == 2 and places[1] - places[0] > 1:
        return [(places[0], places[1])]
    narrowed = sum(side is Side.UNCLEAR for side in sides.values()) <= MOST_UNCLEAR  # also beside unclear rows
    gaps = []
    for low, high in pairwise(places):
        ends = {sides[rows[low]], sides[rows[high]]}
        if high - low > 1 and len(ends) == 2 and (narrowed or Side.UNCLEAR not in ends):
            gaps.append((low, high))
    return gaps
