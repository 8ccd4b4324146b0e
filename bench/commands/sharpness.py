"""`moegap sharpness`: curvature of the loss of trained models, block by block, and the loss around their weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench import early
from bench.commands.shared import DeviceOption, command_line, examples, on_interrupt, present

OUT = Path("runs/sharpness")


@examples(
    "moegap sharpness models/zoo/fast-dense models/zoo/fast-sparse",
    "moegap sharpness runs/sparse --quick --block gate --block experts",
    "moegap sharpness runs/sparse --data digits --subset train --dtype float64 --eigenvalues 10",
)
def sharpness(
    checkpoints: Annotated[
        list[Path], typer.Argument(help="Folders of trained models.", callback=early.checked_checkpoints)
    ],
    data: Annotated[
        str | None,
        typer.Option(
            help="The images that the models were trained on: digits, cifar10 (downloaded), or a folder with "
            "train/CLASS/ and test/CLASS/ inside. By default only the heads are measured, on the features in the "
            "checkpoints."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for CHECKPOINT.json and .svg. Continues what is there.")] = OUT,
    subset: Annotated[
        list[str] | None,
        typer.Option(
            help="train or test; may be repeated. By default both.", callback=early.one_of("subset", early.SUBSETS)
        ),
    ] = None,
    block: Annotated[
        list[str] | None,
        typer.Option(
            help="all, backbone, head (of a dense model), gate, experts or 'expert N'; may be repeated. By default "
            "every block. Density, lines, surface and worst case are measured for all only."
        ),
    ] = None,
    images: Annotated[
        int | None, typer.Option(help="Images of each subset, drawn by the seed; 1000 by default.")
    ] = None,
    eigenvalues: Annotated[
        int | None, typer.Option(help="How many eigenvalues, from the largest; 5 by default.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Most Hessian products for the eigenvalues; 120 by default.")
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(help="Largest residual, as a share of the largest eigenvalue; 0.003 in float32, 1e-9 in float64."),
    ] = None,
    probes: Annotated[int | None, typer.Option(help="Most Hessian products for a trace; 100 by default.")] = None,
    relative_error: Annotated[
        float | None, typer.Option(help="Relative standard error at which a trace is done; 0.05 by default.")
    ] = None,
    density: Annotated[bool, typer.Option(help="Measure the spectral density.")] = True,
    lines: Annotated[bool, typer.Option(help="Measure the loss along lines.")] = True,
    surface: Annotated[bool, typer.Option(help="Measure the loss over a plane.")] = True,
    worst_case: Annotated[bool, typer.Option(help="Measure the worst case within a radius.")] = True,
    quick: Annotated[bool, typer.Option("--quick", help="200 images, fewer probes and points: a first look.")] = False,
    dtype: Annotated[
        str | None,
        typer.Option(help="float32 or float64.", callback=early.one_of("dtype", ("float32", "float64"))),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the images and of all random vectors; 0 by default.")
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Measure how sharply the loss bends around trained weights, and how far that can be trusted.

    The command measures eigenvalues with residuals, traces with standard errors, the spectral density, the loss along
    lines and over a plane, and its worst rise within a radius, and counts rows that change their experts on the way.
    Every finished piece is kept: after Ctrl-C or a crash the same command continues.
    """
    from bench.timing.precision import exact_float32
    from models.progress import Progress
    from models.sharpness.config import QUICK, sharpness_config
    from models.sharpness.measure import check_names, measure_sharpness
    from reports.records.files import alone, write
    from reports.training.sharpness_section import picture

    options = {
        "subsets": tuple(subset) if subset else None,
        "blocks": tuple(block) if block else None,
        "images": images,
        "eigenvalues": eigenvalues,
        "most_steps": steps,
        "tolerance": tolerance,
        "probes": probes,
        "relative_error": relative_error,
        "dtype": dtype,
        "seed": seed,
        "density": density,
        "lines": lines,
        "surface": None if surface else 0,
        "worst_case": worst_case,
    }
    config = sharpness_config(**{**(QUICK if quick else {}), **present(options)})
    check_names(checkpoints)
    exact_float32()
    progress = Progress()
    with on_interrupt(lambda: f"{out} keeps every finished piece; run the same command again to continue"):
        for checkpoint in checkpoints:
            with alone(out / checkpoint.resolve().name):
                result = measure_sharpness(
                    checkpoint, out, config, data=data, device=device, progress=progress, command=command_line()
                )
            if (svg := picture(result)) is not None:
                write(out / f"{result.checkpoint}.svg", svg)
