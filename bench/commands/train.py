"""`moegap train`: train a classifier with one of the heads, or many over several seeds, and leave checkpoints."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from models.progress import Progress
    from models.training.recipes import TrainConfig

ALL = "all"


def train(
    head: Annotated[list[str], typer.Option(help="dense, soft, sparse or all; may be repeated.")],
    data: Annotated[
        str,
        typer.Option(
            help="digits, cifar10 (downloaded), or a folder with train/CLASS/ and test/CLASS/ inside; several joined "
            "by + are a mixture."
        ),
    ] = "digits",
    preset: Annotated[
        str | None,
        typer.Option(
            help="demo: the head alone, seconds; quick: a small network simply; fast: a small network well, minutes "
            "on a CPU; paper: ResNet-18 as published, with its defect 1: no augmentation; paper-fixed: with it "
            "working. By default demo for digits, quick otherwise."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the checkpoint, or of all of them; runs/DATA-HEAD or runs/DATA-study by default. Continues "
            "what is there."
        ),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Train this many seeds, from 0 or --seed on, and table them.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None,
    batch: Annotated[int | None, typer.Option(help="Images per step.")] = None,
    lr: Annotated[float | None, typer.Option(help="Highest learning rate; Muon's in fast.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of weights, order, noise and augmentation; 42 by default for a single training.")
    ] = None,
    val_share: Annotated[float | None, typer.Option(help="Share of training images that validate.")] = None,
    backbone: Annotated[str | None, typer.Option(help="identity, small, fast or resnet18.")] = None,
    experts: Annotated[int | None, typer.Option(help="Experts E of a soft or sparse head.")] = None,
    hidden: Annotated[
        int | None,
        typer.Option(help="Hidden width H, of one expert or of the dense head; beside others that gets E H."),
    ] = None,
    k: Annotated[int | None, typer.Option(help="Experts per row of the sparse head.")] = None,
    activation: Annotated[str | None, typer.Option(help="relu, gelu, silu or swiglu.")] = None,
    policy: Annotated[
        str | None, typer.Option(help="Routing of the sparse head: top_k, capacity, top_p, threshold, expert_choice.")
    ] = None,
    mass: Annotated[float | None, typer.Option(help="Gate mass that top_p reaches.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Least share of an expert under threshold.")] = None,
    capacity_factor: Annotated[
        float | None, typer.Option(help="Rows an expert takes under capacity and expert_choice, over an equal share.")
    ] = None,
    overflow: Annotated[str | None, typer.Option(help="Of capacity: drop, or next to try further experts.")] = None,
    bias_correction: Annotated[
        bool, typer.Option("--bias-correction", help="Balance the sparse head's choice without a loss.")
    ] = False,
    balance: Annotated[
        list[str] | None,
        typer.Option(help="NAME=WEIGHT of kl, importance, load, switch, z or correction; may be repeated."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Train a backbone with a dense, soft or sparse head and keep the weights that validate best.

    The state is kept after every epoch: after Ctrl-C or a crash the same command goes on where it stopped. Several
    heads or --seeds make a study: a folder of trainings, and a table of their results.
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
    given = {**_given(changes), "head_changes": _given(head_changes), "balance": _weights(balance or [])}
    name = name_of(data)
    if len(head) == 1 and head != [ALL] and seeds is None:
        from models.training.recipes import train_config

        config = train_config(data, head[0], preset, **given, **_given({"seed": seed}))
        _train_one(config, out or Path("runs") / f"{name}-{config.head}", device)
    else:
        from models.training.study import study_configs

        first = seed or 0
        configs = study_configs(data, _heads(head), range(first, first + (seeds or 1)), preset, **given)
        _train_all(configs, out or Path("runs") / f"{name}-study", device)


def _train_one(config: TrainConfig, out: Path, device: str) -> None:
    from models.progress import Progress
    from models.training.train import train
    from models.training.training_state import read_state

    progress = Progress()
    progress.say(f"{config.head} head on {config.data}, preset {config.preset}, {config.epochs} epochs, into {out}")
    _warn(config, progress)
    try:
        metrics = train(config, out, device=device, progress=progress, command=_command())
    except KeyboardInterrupt:
        state = read_state(out)
        kept = f"{out} keeps epoch {len(state.history)} of {config.epochs}" if state else "no epoch was finished"
        progress.say(f"stopped: {kept}; run the same command again to continue")
        raise typer.Exit(130) from None
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
    try:
        rows, failures = run_study(configs, out, device=device, progress=progress, command=_command())
    except KeyboardInterrupt:
        progress.say(
            f"stopped: {out} keeps {len(finished(out))} finished trainings and the epochs of the one that ran; run the "
            "same command again to continue"
        )
        raise typer.Exit(130) from None
    if rows:
        _show(rows, progress)
        progress.say(f"checkpoints and study.json are in {out}")
    for folder, reason in failures.items():
        progress.say(f"{folder} failed: {reason}")
    if failures:
        raise typer.Exit(1)


def _show(rows: list[dict[str, Any]], progress: Progress) -> None:
    """Print one line of results for each head: means over seeds and their spread."""
    from rich import box
    from rich.table import Table

    from models.training.study import summaries

    table = Table(
        *("head", "seeds", "validation", "spread", "test", "spread", "seconds"),
        box=box.SIMPLE,
        caption="accuracy: mean over seeds; spread: sample standard deviation; seconds: mean of a training",
    )
    for summary in summaries(rows):
        head = f"{summary.head} ({summary.policy})" if summary.policy else summary.head
        numbers = [_percent(number) for pair in (summary.val, summary.test) for number in pair]
        table.add_row(head, str(summary.seeds), *numbers, f"{summary.seconds:.1f}")
    progress.console.print(table)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.2%}"


def _warn(config: TrainConfig, progress: Progress) -> None:
    """Say what a reader of the results must know of the recipe."""
    if config.preset == "paper":
        progress.say(
            "paper is the recipe of arXiv 2601.15021, defect 1 included: the training images are not augmented; its "
            "other defects are corrected; paper-fixed augments them"
        )


def _heads(heads: list[str]) -> list[str]:
    """Return the heads named, each once, with `all` spelled out."""
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


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _command() -> str:
    return shlex.join(["moegap", *sys.argv[1:]])
