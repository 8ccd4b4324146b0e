"""`moegap policies`: dynamic against fixed expert capacity at equal parameters."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from models.policies.results import PolicyResults
    from models.policies.study import Plan
    from models.progress import Progress

INTERRUPTED = 130
WIDTH = 150
"""Columns of the table where no terminal says how many there are."""


def policies(
    data: Annotated[
        str,
        typer.Option(
            help="digits, cifar10 (downloaded), or a folder with train/CLASS/ and test/CLASS/ inside; several joined "
            "by + are a mixture, whose sources are the domains."
        ),
    ] = "digits",
    preset: Annotated[
        str | None, typer.Option(help="As of `moegap train`. By default demo for digits and --features, else quick.")
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            help="top_k, capacity, top_p, threshold or expert_choice, alone or with settings of the sparse head, as in "
            "top_p:mass=0.6,temperature=2; or dense or soft, of equal capacity. May be repeated. By default all seven."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many, the same for every policy.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="The first of them.")] = 0,
    features: Annotated[
        Path | None,
        typer.Option(
            help="Folder of a trained model: train heads alone, in seconds each, on what its backbone makes of the "
            "images. By default backbone and head are trained together."
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder of the trainings and of policies.json. Continues what is there.")
    ] = Path("runs/policies"),
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None,
    batch: Annotated[int | None, typer.Option(help="Images per step; with --features 256 by default.")] = None,
    lr: Annotated[float | None, typer.Option(help="Highest learning rate.")] = None,
    experts: Annotated[int | None, typer.Option(help="Experts E.")] = None,
    hidden: Annotated[int | None, typer.Option(help="Hidden width H of one expert.")] = None,
    k: Annotated[
        int | None, typer.Option(help="Experts per row of top_k, wanted of capacity, on average of expert_choice.")
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="Rows of the batch whose latency is measured.")] = 256,
    form: Annotated[list[str] | None, typer.Option(help="A form to measure; may be repeated. By default all.")] = None,
    latency: Annotated[bool, typer.Option(help="Measure the latency of the trained heads in every form.")] = True,
    seconds: Annotated[float, typer.Option(min=0.01, help="Sampling time per head and form.")] = 1.0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Train routing policies side by side at equal parameter count, and compare them.

    Each gets the same seeds, data and recipe but for the losses that balance its experts, which the result names; a
    dense and a soft head of equal capacity stand beside them. Under capacity and expert_choice a row's experts depend
    on its batch: accuracy is that of batches of 500 test images.
    After Ctrl-C or a crash the same command goes on where it stopped; more seeds and policies may be added.
    """
    from rich.console import Console

    from bench.commands.policy_table import policy_table
    from bench.errors import BenchError
    from bench.suites.suite import chosen_forms
    from bench.timing.precision import exact_float32
    from models.classifier.checkpoint import load
    from models.policies.contenders import contenders
    from models.policies.study import Plan
    from models.progress import Progress

    forms = chosen_forms(form or ()) if latency else []
    shared = _given({"experts": experts, "hidden": hidden, "k": k})
    plan = Plan(
        data=data,
        contenders=contenders(policy or (), shared),
        seeds=range(seed, seed + seeds),
        preset=preset,
        source=None if features is None else load(features),
        shared=shared,
        changes=_given({"epochs": epochs, "batch": batch, "lr": lr}),
    )
    exact_float32()
    progress = Progress()
    try:
        results = _train(plan, out, device, progress)
        if results.runs and latency:
            _measure(results, rows, forms, seconds, device, progress)
    except KeyboardInterrupt:
        progress.say(f"stopped: {out} keeps what is finished; run the same command again to continue")
        raise typer.Exit(INTERRUPTED) from None
    if results.runs:
        wide = progress.console if progress.console.is_terminal else Console(width=WIDTH)
        wide.print(policy_table(results))
        progress.say(f"the answer, with its interval: moegap report {results.path}")
    if results.failed:
        first = results.failed[0]
        raise BenchError(
            f"{len(results.failed)} of {len(plan.contenders) * seeds} trainings failed, first {first['policy']} with "
            f"seed {first['seed']}: {first['reason']}"
        )


def _train(plan: Plan, out: Path, device: str, progress: Progress) -> PolicyResults:
    from models.policies.study import run_policies

    names = ", ".join(one.label for one in plan.contenders)
    seeds = ", ".join(map(str, plan.seeds))
    alone = f", heads alone on features of {plan.source.path}" if plan.source else ""
    progress.say(f"{names} with seeds {seeds} on {plan.data}{alone}, into {out}")
    command = shlex.join(["moegap", *sys.argv[1:]])
    results = run_policies(plan, out, device=device, progress=progress, command=command)
    counts = results.about["parameters"]
    progress.say("parameters of the head: " + ", ".join(f"{name} {count:,}" for name, count in counts.items()))
    return results


def _measure(
    results: PolicyResults, rows: int, forms: list[str], seconds: float, device: str, progress: Progress
) -> None:
    """Measure the latency of the trained heads, unless all of it is there."""
    from rich.progress import Progress as Bar

    from bench.cases.policy_latency import is_measured, measure_latency
    from bench.timing.cold_start import empty_compiler_caches
    from models.device import pick_device

    place = pick_device(device)
    if is_measured(results, rows, forms, place):
        return
    policies = len({run["policy"] for run in results.runs})
    progress.say(f"latency of {policies} heads in {len(forms)} forms on {rows:,} rows")
    with (
        Bar(console=progress.console, transient=True, disable=not progress.console.is_terminal) as bar,
        empty_compiler_caches(),
    ):
        task = bar.add_task("latency", total=1.0)
        measure_latency(
            results,
            rows=rows,
            forms=forms,
            seconds=seconds,
            device=place,
            progress=lambda share: bar.update(task, completed=share),
        )


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}
