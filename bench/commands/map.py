"""`moegap map`: from how many rows on a sparse head is faster than the dense one, over many sizes."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from bench import early
from bench.commands.measurement import measurement
from bench.commands.shared import (
    DeviceOption,
    DtypesOption,
    FormsOption,
    MinutesOption,
    ResultOption,
    ResumeOption,
    SeedOption,
    ThreadsOption,
    examples,
)

OUT = Path("runs/map.json")


@examples(
    "moegap map --quick",
    "moegap map --quick --form loop --form eager --threads 1 --out runs/map.json --resume",
    "moegap map --device cuda --dtype bfloat16 --minutes 10",
)
def break_even_map(
    quick: Annotated[bool, typer.Option("--quick", help="Fewer sizes and forms: at most ten minutes.")] = False,
    form: FormsOption = None,
    out: ResultOption = OUT,
    resume: ResumeOption = False,
    device: DeviceOption = "auto",
    dtype: DtypesOption = None,
    threads: ThreadsOption = None,
    seconds: Annotated[
        float | None, typer.Option(min=0.01, help="Sampling time per case. By default 0.4, with --quick 0.2.")
    ] = None,
    minutes: MinutesOption = None,
    seed: SeedOption = 0,
) -> None:
    """Find from how many rows on a sparse head is faster than a dense head with as many parameters.

    The map covers heads of many widths, experts E and experts per row k. The search is a bisection over rows: each
    measurement decides the next. The result is written after every shape, so an interrupted run loses at most one.
    """
    early.check_new(out, resume=resume)
    from bench.cases.resume import check_conditions
    from bench.suites.break_even import map_grid
    from bench.suites.map import measure_map
    from bench.suites.suite import chosen_forms

    forms = chosen_forms(form or ())
    with measurement(out, resume, device, dtype or (), threads, minutes) as run:
        check_conditions(run.result.path, run.result.records(), run.device)
        grid = map_grid(quick=quick, device=run.device.type)
        at_most = f"; this takes at most {grid.most_seconds / 60:.0f} min" if grid.most_seconds else ""
        run.bar.console.print(
            f"{len(grid.cells)} sparse heads of {len(grid.layers)} layers against dense ones, by bisection{at_most}",
            soft_wrap=True,
        )
        run.measure_ceilings(run.dtypes)
        task = run.bar.add_task("break-even map", total=1.0)
        measure_map(
            grid,
            forms,
            run.device,
            run.dtypes,
            grid.seconds if seconds is None else seconds,
            seed,
            run.result,
            lambda place, share: run.bar.update(task, description=place, completed=share),
            min(run.deadline, time.monotonic() + (grid.most_seconds or math.inf) - run.ceiling_seconds),
            lambda line: run.bar.console.print(escape(line), soft_wrap=True),
        )
