"""What the compiler makes of every kernel, without a GPU: `make kernels`, or `python -m kernels.inspect --sample`.

It records the launches of `moe` under every option that `kernels.choice.choice` can pick for the layers below, compiles
each ahead of time for every target, and reports registers, spills, shared memory, the length of the code and of a step
of its loop, the tensor-core instructions, how often it waits for wgmma, and how memory is read. The exit status is 1 if
a kernel has a fault (`Compiled.faults`).

N rows, D input width, H hidden width of one expert, E experts, k experts per row, C output width.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, fields
from itertools import groupby
from multiprocessing import get_context
from operator import attrgetter
from pathlib import Path
from typing import Any

import triton
from rich.console import Console
from rich.progress import track

from kernels.compiled.job import Job
from kernels.compiled.jobs import LAYERS, jobs, sample
from kernels.compiled.row import Compiled, inspect
from kernels.compiled.table import markdown, table, together
from kernels.compiled.targets import TARGETS

TOGETHER = 8
"""Jobs of one target whose machine code is read together; their order is that of the targets."""


def inspect_all(todo: Sequence[Job]) -> list[Compiled]:
    """Compile the jobs in two copies of this process and return the rows; progress goes to standard error."""
    groups = [
        same[begin : begin + TOGETHER]
        for _, jobs in groupby(sorted(todo, key=attrgetter("target")), attrgetter("target"))
        for same in [list(jobs)]
        for begin in range(0, len(same), TOGETHER)
    ]
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:
        results = pool.map(inspect, groups)
        shown = track(results, "Compiling", total=len(groups), console=Console(stderr=True), transient=True)
        return [row for rows in shown for row in rows]


def elsewhere(folder: Path, arguments: Sequence[str]) -> tuple[str, list[Compiled]]:
    """Return the version of the Triton unpacked in `folder`, and what it makes of the same kernels.

    Raises:
        RuntimeError: It ended without a result.
    """
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "rows.json")
        command = [sys.executable, "-m", "kernels.inspect", "--json", str(path), *arguments]
        paths = os.pathsep.join([str(folder.resolve()), str(Path.cwd())])
        subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, stdout=subprocess.DEVNULL)  # noqa: S603
        if not path.exists():
            raise RuntimeError(f"the Triton in {folder} ended without a result")
        ((version, rows),) = json.loads(path.read_text()).items()
    return version, [restored(row) for row in rows]


def restored(row: dict[str, Any]) -> Compiled:
    """Return a row as it was before it was written to JSON."""
    names = {field.name for field in fields(Compiled)}
    return Compiled(**{**{name: row[name] for name in names}, "remarks": tuple(row["remarks"])})


def main(arguments: Sequence[str] | None = None) -> int:
    """Compile, print and save; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m kernels.inspect", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--json", type=Path, metavar="PATH", help="also write the rows to this file, by version of Triton"
    )
    parser.add_argument("--target", action="append", choices=list(TARGETS), help="repeat for several; default: all")
    parser.add_argument("--sample", action="store_true", help="compile only the largest tiles")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    parser.add_argument("--beside", type=Path, metavar="FOLDER", help="compile by the Triton in this folder too")
    chosen = parser.parse_args(arguments)
    errors = Console(stderr=True, soft_wrap=True)
    if triton.knobs.runtime.interpret:
        errors.print("kernels.inspect compiles for a GPU, so run it with TRITON_INTERPRET unset.")
        return 2
    if chosen.beside and not (chosen.beside / "triton").is_dir():
        errors.print(f"{chosen.beside} holds no Triton: `make kernels` installs one.")
        return 2
    targets: list[str] = chosen.target or list(TARGETS)
    todo = sample(jobs(targets, LAYERS)) if chosen.sample else jobs(targets)
    tables = {triton.__version__: inspect_all(todo)}
    if chosen.beside:
        same = [*(f"--target={target}" for target in targets), *(["--sample"] if chosen.sample else [])]
        try:
            version, rows = elsewhere(chosen.beside, same)
        except RuntimeError as error:
            errors.print(f"{error}.")
            return 2
        tables[version] = rows
    kernels = together(list(tables.values()))
    if chosen.markdown:
        sys.stdout.write(markdown(kernels) + "\n")
    else:
        Console(width=None if sys.stdout.isatty() else 320).print(table(kernels, list(tables)))
    if chosen.json:
        _write(chosen.json, tables)
    return 0 if all(row.good for rows in tables.values() for row in rows) else 1


def _write(path: Path, tables: dict[str, list[Compiled]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    written = {version: [{**asdict(row), "faults": row.faults} for row in rows] for version, rows in tables.items()}
    path.write_text(json.dumps(written, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
