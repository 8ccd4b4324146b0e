"""`moegap train`: train a classifier with one head, or several heads over several seeds, into checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench import early
from bench.commands.shared import (
    DataOption,
    DeviceOption,
    EpochsOption,
    LearningRateOption,
    columns,
    command_line,
    examples,
    on_interrupt,
    present,
    print_table,
    terminal,
)

if TYPE_CHECKING:
    from models.progress import Progress
    from models.training.recipes import TrainConfig
    from reports.records.training_study import TrainingRun

ALL = "all"


@examples(
    "moegap train --head sparse --out runs/sparse",
    "moegap train --head all --seeds 3 --out runs/study",
    "moegap train --head sparse --data cifar10 --preset fast --experts 16 --k 2",
    "moegap train --head sparse --policy top_p --mass 0.7 --balance load=0.1",
)
def train(
    head: Annotated[
        list[str],
        typer.Option(help="dense, soft, sparse or all; may be repeated.", callback=early.one_of("head", early.HEADS)),
    ],
    data: DataOption = "digits",
    preset: Annotated[
        str | None,
        typer.Option(
            help="demo: the head alone, in seconds. quick: a small network with a simple recipe. fast: a small network "
            "with a good recipe, in minutes on a CPU. paper: ResNet-18 as published, without augmentation (its defect "
            "1). paper-fixed: the same with augmentation. By default demo for digits, else quick.",
            callback=early.one_of("preset", early.PRESETS),
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the checkpoint, or of all checkpoints. By default runs/DATA-HEAD or runs/DATA-study. "
            "Continues what is there."
        ),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Train this many seeds, from --seed or 0 on, and show a table.")
    ] = None,
    epochs: EpochsOption = None,
    batch: Annotated[int | None, typer.Option(help="Images per step.")] = None,
    lr: LearningRateOption = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of weights, order, noise and augmentation; 42 by default for one training.")
    ] = None,
    val_share: Annotated[float | None, typer.Option(help="Share of the training images used for validation.")] = None,
    backbone: Annotated[
        str | None,
        typer.Option(help="identity, small, fast or resnet18.", callback=early.one_of("backbone", early.BACKBONES)),
    ] = None,
    experts: Annotated[int | None, typer.Option(help="Experts E of a soft or sparse head.")] = None,
    hidden: Annotated[
        int | None,
        typer.Option(
            help="Hidden width H of one expert, or of a dense head alone; in a study the dense head gets E H."
        ),
    ] = None,
    k: Annotated[int | None, typer.Option(help="Experts per row of the sparse head.")] = None,
    activation: Annotated[
        str | None,
        typer.Option(help="relu, gelu, silu or swiglu.", callback=early.one_of("activation", early.ACTIVATIONS)),
    ] = None,
    policy: Annotated[
        str | None, typer.Option(help="Routing of the sparse head: top_k, capacity, top_p, threshold, expert_choice.")
    ] = None,
    mass: Annotated[float | None, typer.Option(help="Of top_p: the gate mass to reach.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Of threshold: the least gate share of an expert.")] = None,
    capacity_factor: Annotated[
        float | None, typer.Option(help="Of capacity and expert_choice: rows of an expert over an equal share.")
    ] = None,
    overflow: Annotated[str | None, typer.Option(help="Of capacity: drop, or next to try the next experts.")] = None,
    bias_correction: Annotated[
        bool, typer.Option("--bias-correction", help="Balance the sparse head's choice without a loss.")
    ] = False,
    balance: Annotated[
        list[str] | None,
        typer.Option(help="NAME=WEIGHT of kl, importance, load, switch, z or correction; may be repeated."),
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Train a backbone with a dense, soft or sparse head and keep the weights that validate best.

    The state is kept after every epoch: after Ctrl-C or a crash the same command continues. With several heads or
    --seeds the result is a study: a folder of trainings and a table of their results.
    """
    from bench.timing.precision import exact_float32
    from models.data.data import name_of

    exact_float32()
    changes: dict[str, Any] = {
        "epochs": epochs,
        "batch": batch,
        "lr": lr,
        "val_share": val_share,
        "backbone": None if backbone is None else {"name": backbone},
    }
    head_changes: dict[str, Any] = {
        "experts": experts,
        "hidden": hidden,
        "k": k,
        "activation": activation,
        "policy": policy,
        "mass": mass,
        "threshold": threshold,
        "capacity_factor": capacity_factor,
        "overflow": overflow,
        "bias_correction": bias_correction or None,
    }
    options = {**present(changes), "head_changes": present(head_changes), "balance": _weights(balance or [])}
    name = name_of(data)
    if len(head) == 1 and head != [ALL] and seeds is None:
        from models.training.recipes import train_config

        config = train_config(data, head[0], preset, **options, **present({"seed": seed}))
        _train_one(config, out or Path("runs") / f"{name}-{config.head}", device)
    else:
        from models.training.study import study_configs

        first = seed or 0
        configs = study_configs(data, _heads(head), range(first, first + (seeds or 1)), preset, **options)
        _train_all(configs, out or Path("runs") / f"{name}-study", device)


def _train_one(config: TrainConfig, out: Path, device: str) -> None:
    from models.progress import Progress
    from models.training.train import train
    from models.training.training_state import read_state

    progress = Progress()
    progress.say(f"{config.head} head on {config.data}, preset {config.preset}, {config.epochs} epochs, into {out}")
    _warn(config, progress)

    def kept() -> str:
        state = read_state(out)
        epochs = f"{out} keeps epoch {len(state.history)} of {config.epochs}" if state else "no epoch was finished"
        return f"{epochs}; run the same command again to continue"

    with on_interrupt(kept):
        metrics = train(config, out, device=device, progress=progress, command=command_line())
    progress.say(
        f"test accuracy {metrics['test_accuracy']:.2%} with the weights of epoch {metrics['best_epoch']}; "
        f"checkpoint in {out}"
    )


def _train_all(configs: list[TrainConfig], out: Path, device: str) -> None:
    from models.progress import Progress
    from models.training.study import finished, run_study

    progress, first = Progress(), configs[0]
    heads, seeds = ({getattr(config, name): None for config in configs} for name in ("head", "seed"))
    progress.say(
        f"heads {', '.join(heads)} with seeds {', '.join(map(str, seeds))} on {first.data}, preset {first.preset}, "
        f"{first.epochs} epochs each, into {out}"
    )
    _warn(first, progress)
    with on_interrupt(
        lambda: (
            f"{out} keeps {len(finished(out))} finished trainings and the epochs of the one that ran; run the same "
            "command again to continue"
        )
    ):
        runs, failures = run_study(configs, out, device=device, progress=progress, command=command_line())
    if runs:
        _show(runs)
        progress.say(f"checkpoints and study.json are in {out}")
    for folder, reason in failures.items():
        progress.say(f"{folder} failed: {reason}")
    if failures:
        raise typer.Exit(1)


def _show(runs: Sequence[TrainingRun]) -> None:
    """Print one line of results for each head: means over seeds and their spread."""
    from reports.numbers.groups import grouped
    from reports.output.blocks import Table

    rows = []
    heads = grouped(runs, lambda run: f"{run.head} ({run.policy})" if run.policy else run.head)
    for head, group in heads.items():
        val, test, seconds = (
            [getattr(run, field) for run in group] for field in ("val_accuracy", "test_accuracy", "seconds")
        )
        rows.append((head, str(len(group)), *_spread(val), *_spread(test), f"{fmean(seconds):.1f}"))
    headings = columns("head", numbers=("seeds", "validation", "spread", "test", "spread", "seconds"))
    note = "accuracy: mean over seeds; spread: sample standard deviation; seconds: mean of a training"
    print_table(terminal(), Table("", headings, tuple(rows)), note, gap=2)


def _spread(shares: Sequence[float]) -> tuple[str, str]:
    """Return the mean over seeds and the sample standard deviation, a dash for one seed."""
    return f"{fmean(shares):.2%}", f"{stdev(shares):.2%}" if len(shares) > 1 else "-"


def _warn(config: TrainConfig, progress: Progress) -> None:
    """Print what readers of the results must know about the recipe."""
    if config.preset == "paper":
        progress.say(
            "paper is the recipe of arXiv 2601.15021, defect 1 included: the training images are not augmented; its "
            "other defects are corrected; paper-fixed augments them"
        )


def _heads(heads: list[str]) -> list[str]:
    """Return the named heads, each once, with `all` spelled out."""
    from models.heads.heads import HEAD_KINDS

    return list(dict.fromkeys(one for name in heads for one in (HEAD_KINDS if name == ALL else (name,))))


def _weights(terms: list[str]) -> dict[str, float]:
    """Return the balance terms written as NAME=WEIGHT."""
    from models.settings import ConfigError

    weights = {}
    for term in terms:
        name, _, weight = term.partition("=")
        try:
            weights[name] = float(weight)
        except ValueError:
            raise ConfigError(f"--balance {term!r} is no NAME=WEIGHT; write for example --balance load=0.1") from None
    return weights
