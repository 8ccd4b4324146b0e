"""`moegap infer`: the logits of a trained head, in any form."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Annotated

import typer

from bench import early
from bench.commands.shared import CheckpointArgument, DeviceOption, DtypeOption, examples


@examples(
    "moegap infer models/zoo/fast-sparse features.npy --out logits.npy",
    "moegap infer models/zoo/fast-sparse images.npy --images --form loop --out logits.npy",
    "moegap infer runs/sparse features.npy --form triton --device cuda --dtype bfloat16 --out logits.npy",
)
def infer(
    checkpoint: CheckpointArgument,
    inputs: Annotated[Path, typer.Argument(help="Features (N, D), or images with --images, as a .npy file.")],
    out: Annotated[Path, typer.Option(help="Where to write the logits (N, C), a .npy file of float32.")],
    form: Annotated[
        str, typer.Option(help="The form to run; `moegap doctor` lists them.", callback=early.checked_form)
    ] = "eager",
    images: Annotated[
        bool, typer.Option("--images", help="INPUTS holds images (N, channels, height, width), uint8 or in [0, 1].")
    ] = False,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "float32",
) -> None:
    """Run a trained head on features, or the whole model on images, and write its logits.

    The head takes all rows of INPUTS as one batch. With the policies `capacity` and `expert_choice` the rows of a batch
    compete for the experts, so a row's logits depend on the other rows of INPUTS.
    """
    from reports.records.files import writable, write

    writable(out)
    import numpy as np

    from bench.errors import BenchError, message
    from bench.forms import form as form_named
    from bench.subjects.given_rows import given_features
    from bench.timing.clock import synchronise
    from bench.timing.precision import exact_float32, resolve_dtype
    from models.classifier.checkpoint import load
    from models.device import device_name, pick_device

    chosen, place, precision = form_named(form), pick_device(device), resolve_dtype(dtype)
    loaded = load(checkpoint)
    model = loaded.model.to(place, precision).requires_grad_(False)
    reason = chosen.unavailable(model.head.config, place, precision)
    if chosen.computes != "head":
        raise BenchError(f"form {form} computes no logits: it is {chosen.summary}; choose another --form")
    if reason is not None:
        raise BenchError(f"form {form} cannot run here: {reason}")
    exact_float32()
    x = given_features(loaded, inputs, images=images).to(place, precision)
    try:
        runner = chosen.prepare(model.head, x)
        logits = runner(x)
        synchronise(place)
    except Exception as error:
        raise BenchError(
            f"form {form} failed on features {tuple(x.shape)}: {message(error)}; try another --form"
        ) from None
    buffer = io.BytesIO()
    np.save(buffer, logits.float().cpu().numpy())
    write(out, buffer.getvalue())
    ran_on = ", ".join(f"{key} {value}" for key, value in runner.runs_on.items() if key != "device")
    typer.echo(f"{len(logits)} rows of logits in {out}: {form} on {device_name(place)}, {dtype}, {ran_on}")
