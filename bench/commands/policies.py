"""`moegap policies`: dynamic against fixed expert capacity at equal parameters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median, stdev
from typing import TYPE_CHECKING, Annotated

import typer

from bench import early
from bench.commands.shared import (
    DataOption,
    DeviceOption,
    EpochsOption,
    FormsOption,
    LearningRateOption,
    columns,
    command_line,
    examples,
    on_interrupt,
    present,
    print_table,
    terminal,
)
from reports.records.policy_study import Latency, PolicyRun

if TYPE_CHECKING:
    from models.policies.results import PolicyResults
    from models.policies.study import Plan
    from models.progress import Progress
    from reports.output.blocks import Table

Runs = Sequence[PolicyRun]

NUMBERS = (
    ("experts/row", "experts_per_row_mean", "{:.2f}"),
    ("spread", "experts_per_row_std", "{:.2f}"),
    ("load CV", "load_cv", "{:.2f}"),
    ("dropped", "dropped", "{:.1%}"),
    ("unserved", "unserved", "{:.1%}"),
    ("entropy", "gate_entropy", "{:.2f}"),
    ("FLOPs/row", "flops_per_row", "{:,.0f}"),
)
"""Columns of means over runs: heading, name in a run, format."""
NOTE = (
    "Means over seeds. test: accuracy with its sample standard deviation. spread: standard deviation over rows. "
    "unserved: rows without an expert. entropy: of the gate, in nats. expert-class, expert-domain: mutual information "
    "in nats, and its excess over chance as a share of the entropy of class or domain. quickest form: median of a call "
    "on {rows:,} rows, first seed."
)


@examples(
    "moegap policies",
    "moegap policies --policy top_k --policy top_p:mass=0.6 --seeds 2 --epochs 5",
    "moegap policies --features models/zoo/fast-dense --data cifar10 --out runs/policies",
    "moegap policies --no-latency --experts 16 --k 4",
)
def policies(
    data: DataOption = "digits",
    preset: Annotated[
        str | None,
        typer.Option(
            help="As for `moegap train`. By default demo for digits and --features, else quick.",
            callback=early.one_of("preset", early.PRESETS),
        ),
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            help="top_k, capacity, top_p, threshold or expert_choice, alone or with settings of the sparse head, as in "
            "top_p:mass=0.6,temperature=2; or dense or soft, of equal capacity. May be repeated. By default all seven."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds, the same for every policy.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="The first seed.")] = 0,
    features: Annotated[
        Path | None,
        typer.Option(
            help="Folder of a trained model: train the heads alone, each in seconds, on the features of its backbone. "
            "By default backbone and head are trained together."
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder of the trainings and of policies.json. Continues what is there.")
    ] = Path("runs/policies"),
    epochs: EpochsOption = None,
    batch: Annotated[int | None, typer.Option(help="Images per step; with --features 256 by default.")] = None,
    lr: LearningRateOption = None,
    experts: Annotated[int | None, typer.Option(help="Experts E.")] = None,
    hidden: Annotated[int | None, typer.Option(help="Hidden width H of one expert.")] = None,
    k: Annotated[
        int | None,
        typer.Option(help="Experts per row: of top_k exactly, of capacity at most, of expert_choice on average."),
    ] = None,
    rows: Annotated[int, typer.Option(min=1, max=2**31 - 1, help="Rows of the batch whose latency is measured.")] = 256,
    form: FormsOption = None,
    latency: Annotated[bool, typer.Option(help="Measure the latency of the trained heads in every form.")] = True,
    seconds: Annotated[float, typer.Option(min=0.01, help="Sampling time per head and form.")] = 1.0,
    device: DeviceOption = "auto",
) -> None:
    """Train routing policies side by side with equal parameter counts, and compare them.

    All policies get the same seeds, data and recipe; only the losses that balance the experts differ, and the result
    names them. A dense and a soft head of equal capacity are trained too. With capacity and expert_choice a row's
    experts depend on its batch; accuracy is measured on batches of 500 test images. After Ctrl-C or a crash the same
    command continues; you may add seeds and policies.
    """
    from bench.errors import BenchError
    from bench.suites.suite import chosen_forms
    from bench.timing.precision import exact_float32
    from models.classifier.checkpoint import load
    from models.policies.contenders import contenders
    from models.policies.study import Plan
    from models.progress import Progress
    from reports.records.files import alone

    forms = chosen_forms(form or ()) if latency else []
    shared = present({"experts": experts, "hidden": hidden, "k": k})
    plan = Plan(
        data=data,
        contenders=contenders(policy or (), shared),
        seeds=range(seed, seed + seeds),
        preset=preset,
        source=None if features is None else load(features),
        shared=shared,
        changes=present({"epochs": epochs, "batch": batch, "lr": lr}),
    )
    exact_float32()
    progress = Progress()
    with (
        alone(out),
        on_interrupt(lambda: f"{out} keeps what is finished; run the same command again to continue"),
    ):
        results = _train(plan, out, device, progress)
        if results.runs and latency:
            _measure(results, rows, forms, seconds, device, progress)
    if results.runs:
        print_table(terminal(), _table(results), NOTE.format(rows=results.rows))
        progress.say(f"the answer, with its interval: moegap report {results.path}")
    if results.failed:
        first = results.failed[0]
        raise BenchError(
            f"{len(results.failed)} of {len(plan.contenders) * seeds} trainings failed, first {first.policy} with "
            f"seed {first.seed}: {first.reason}"
        )


def _train(plan: Plan, out: Path, device: str, progress: Progress) -> PolicyResults:
    from models.policies.study import run_policies

    names = ", ".join(one.label for one in plan.contenders)
    seeds = ", ".join(map(str, plan.seeds))
    alone = f", heads alone on features of {plan.source.path}" if plan.source else ""
    progress.say(f"{names} with seeds {seeds} on {plan.data}{alone}, into {out}")
    results = run_policies(plan, out, device=device, progress=progress, command=command_line())
    counts = results.about["parameters"]
    progress.say("parameters of the head: " + ", ".join(f"{name} {count:,}" for name, count in counts.items()))
    return results


def _measure(
    results: PolicyResults, rows: int, forms: list[str], seconds: float, device: str, progress: Progress
) -> None:
    """Measure the latency of the trained heads, unless the results have it."""
    from rich.progress import Progress as Bar

    from bench.suites.policy_latency import is_measured, measure_latency
    from bench.timing.cold_start import empty_compiler_caches
    from models.device import pick_device

    place = pick_device(device)
    if is_measured(results, rows, forms, place):
        return
    policies = len({run.policy for run in results.runs})
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


def _table(results: PolicyResults) -> Table:
    """Return the table of all runs: one line for each policy."""
    from reports.output.blocks import Table

    groups = ["class", *(["domain"] if results.about["domains"] else [])]
    rows = []
    for policy in dict.fromkeys(run.policy for run in results.runs):
        runs = [run for run in results.runs if run.policy == policy]
        rows.append(
            (
                policy,
                str(len(runs)),
                _accuracy([run.test_accuracy for run in runs]),
                *(_mean(runs, name, template) for _, name, template in NUMBERS),
                *(_information(runs, group) for group in groups),
                _quickest([part for part in results.latency if part.policy == policy]),
            )
        )
    numbers = ("seeds", "test, %", *(heading for heading, _, _ in NUMBERS))
    about = [f"expert-{group}" for group in groups]
    headings = (*columns("policy", numbers=numbers), *columns(*about, "quickest form"))
    return Table("", headings, tuple(rows))


def _accuracy(values: Sequence[float]) -> str:
    spread = f" ± {100 * stdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * fmean(values):.2f}{spread}"


def _mean(runs: Runs, name: str, template: str) -> str:
    """Return the mean of a value over runs, or a dash if the head has none."""
    values = [value for run in runs if (value := getattr(run, name)) is not None]
    return template.format(fmean(values)) if values else "-"


def _information(runs: Runs, group: str) -> str:
    kinds = ("information", "chance", "entropy")
    values = [[getattr(run, f"{group}_{kind}") for kind in kinds] for run in runs]
    if any(None in row for row in values):
        return "-"
    information, chance, entropy = (fmean(column) for column in zip(*values, strict=True))
    return f"{information:.3f} ({(information - chance) / entropy:.0%})" if entropy else f"{information:.3f}"


def _quickest(parts: Sequence[Latency]) -> str:
    """Return the form with the lowest median, and that median in microseconds."""
    medians = {part.form: median(part.seconds) for part in parts if part.seconds}
    if not medians:
        return "-"
    form = min(medians, key=medians.__getitem__)
    return f"{form} {medians[form] * 1e6:,.0f} us"
