"""`moegap self-test`: how often the verdicts are right on this machine, found by comparing code with itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench import early
from bench.commands.shared import (
    DeviceOption,
    ThreadsOption,
    command_line,
    examples,
    progress_bar,
    set_threads,
)

OUT = Path("runs/self_test.json")


@examples("moegap self-test --comparisons 24", "moegap self-test --busy --out runs/self_test_busy.json")
def self_test(
    comparisons: Annotated[int, typer.Option(min=1, help="How many comparisons.")] = 204,
    busy: Annotated[bool, typer.Option("--busy", help="Meanwhile keep one core busy with another process.")] = False,
    seconds: Annotated[float, typer.Option(min=0.01, help="Sampling time of each side of a comparison.")] = 1.0,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    seed: Annotated[int, typer.Option(help="Decides what is compared and the order within blocks.")] = 0,
    out: Annotated[Path, typer.Option(help="File for all samples, JSON for `moegap report`.")] = OUT,
) -> None:
    """Compare code with itself, plain and slowed by a known share, and count how often the verdicts are right.

    The code is the trained heads that come with moegap, in several forms. Sampling takes at most COMPARISONS x 2 x
    SECONDS.
    """
    early.check_new(out)
    from bench.suites import self_test as comparing
    from models.device import pick_device
    from reports.noise import self_test as verdicts
    from reports.records.files import alone, make_folder, writable, write

    set_threads(threads)
    place = pick_device(device)
    make_folder(out.parent)
    with alone(out), progress_bar() as bar:
        early.check_new(out)
        writable(out)
        task = bar.add_task(f"{comparisons} comparisons", total=1.0)
        result = comparing.self_test(
            comparisons,
            seconds,
            place,
            seed,
            lambda share: bar.update(task, completed=share),
            busy=busy,
            command=command_line(),
        )
        write(out, result.text(indent=None))
    for line in verdicts.lines(result):
        typer.echo(line)
    typer.echo(f"self-test: {out}")
