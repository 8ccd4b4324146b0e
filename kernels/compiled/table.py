"""The table of compiled kernels: one line for each, the numbers of several versions of Triton side by side."""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

from rich.table import Table

from kernels.compiled.row import Compiled

COLUMNS: dict[str, Callable[[Compiled], Any]] = {
    "registers": lambda row: row.registers,
    "spill": lambda row: row.spill_bytes,
    "shared": lambda row: row.shared_bytes,
    "code": lambda row: row.instructions,
    "step": lambda row: row.step_instructions,
    "barriers": lambda row: row.step_barriers,
    "bytes": lambda row: row.step_bytes,
    "cycles": lambda row: row.step_cycles,
    "tensor core": lambda row: row.tensor_cores,
    "wgmmas": lambda row: row.wgmmas or None,
    "full waits": lambda row: row.full_waits,
    "copies": lambda row: row.copies,
    "widest load": lambda row: row.widest_load,
    "faults": lambda row: ", ".join(row.faults) or None,
}
"""The columns of the table after the first four, which say what was compiled."""

TITLES = ("kernel", "configuration", "dtype", "target", *COLUMNS)


def cells(rows: Sequence[Compiled]) -> list[str]:
    """Return the cells of one kernel compiled by each version of Triton: its numbers side by side if they differ."""
    first = rows[0]
    values = [[_shown(column(row)) for row in rows] for column in COLUMNS.values()]
    numbers = [" / ".join(each) if len(set(each)) > 1 else each[0] for each in values]
    return [first.kernel.strip("_").removesuffix("_kernel"), first.configuration, first.dtype, first.target, *numbers]


def _shown(value: Any) -> str:
    return "-" if value is None else str(value)


def together(tables: Sequence[Sequence[Compiled]]) -> list[list[Compiled]]:
    """Return the rows of each kernel in all tables of one version each; a version may lack a kernel."""
    kernels: dict[tuple[str, ...], list[Compiled]] = {}
    for row in chain.from_iterable(tables):
        kernels.setdefault((row.kernel, row.configuration, row.dtype, row.target, str(row.aligned)), []).append(row)
    return list(kernels.values())


def table(kernels: Sequence[Sequence[Compiled]], versions: Sequence[str]) -> Table:
    """Return `kernels` as a table with the bad ones in red."""
    view = Table(*TITLES, title=f"Kernels compiled ahead of time by Triton {' / '.join(versions)}")
    for rows in kernels:
        view.add_row(*cells(rows), style=None if all(row.good for row in rows) else "bold red")
    return view


def markdown(kernels: Sequence[Sequence[Compiled]]) -> str:
    """Return `kernels` as a Markdown table."""
    lines = [TITLES, ["---"] * len(TITLES), *(cells(rows) for rows in kernels)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
