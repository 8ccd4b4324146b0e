"""`moegap train`: train a classifier with one of the heads and leave a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def train(
    head: Annotated[str, typer.Option(help="dense, soft or sparse.")],
    data: Annotated[
        str, typer.Option(help="digits, cifar10 (downloaded), or a folder with train/CLASS/ and test/CLASS/ inside.")
    ] = "digits",
    preset: Annotated[
        str | None,
        typer.Option(
            help="demo: the head alone, seconds; quick: a small network for CPUs; paper: ResNet-18 as published; "
            "paper-fixed: with augmentation working. By default demo for digits, quick otherwise."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the checkpoint; runs/DATA-HEAD by default. Continues what is there.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None,
    batch: Annotated[int | None, typer.Option(help="Images per step.")] = None,
    lr: Annotated[float | None, typer.Option(help="Highest learning rate.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights, order, noise and augmentation; 42 by default.")] = None,
    val_share: Annotated[float | None, typer.Option(help="Share of training images that validate.")] = None,
    backbone: Annotated[str | None, typer.Option(help="identity, small or resnet18.")] = None,
    experts: Annotated[int | None, typer.Option(help="Experts E of a soft or sparse head.")] = None,
    hidden: Annotated[int | None, typer.Option(help="Hidden width H, of one expert or of the dense head.")] = None,
    k: Annotated[int | None, typer.Option(help="Experts per row of the sparse head.")] = None,
    activation: Annotated[str | None, typer.Option(help="relu, gelu or silu.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Train a backbone with a dense, soft or sparse head and keep the weights that validate best.

    The state is kept after every epoch: after Ctrl-C or a crash the same command goes on where it stopped.
    """
    from models.progress import Progress
    from models.recipes import train_config
    from models.train import train as train_model
    from models.training_state import read_state

    changes: dict[str, Any] = {
        "epochs": epochs,
        "batch": batch,
        "lr": lr,
        "seed": seed,
        "val_share": val_share,
        "backbone": None if backbone is None else {"name": backbone},
        "head_changes": _given({"experts": experts, "hidden": hidden, "k": k, "activation": activation}),
    }
    config = train_config(data, head, preset, **_given(changes))
    out = out or Path("runs") / f"{Path(data).resolve().name}-{head}"
    progress = Progress()
    progress.say(f"{head} head on {data}, preset {config.preset}, {config.epochs} epochs, into {out}")
    try:
        metrics = train_model(config, out, device=device, progress=progress)
    except KeyboardInterrupt:
        state = read_state(out)
        kept = f"{out} keeps epoch {len(state.history)} of {config.epochs}" if state else "no epoch was finished"
        progress.say(f"stopped: {kept}; run the same command again to continue")
        raise typer.Exit(130) from None
    progress.say(
        f"test accuracy {metrics['test_accuracy']:.2%} with the weights of epoch {metrics['best_epoch']}; "
        f"checkpoint in {out}"
    )


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}
