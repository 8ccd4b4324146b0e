"""`moegap profile`: where the time of each form goes, as a table and as traces."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from bench.trace import Profile

OUT = Path("runs/profile")
LONGEST = 5
NAME_WIDTH = 48


def profile(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of a trained model.")],
    form: Annotated[
        list[str] | None, typer.Option(help="A form to profile; may be repeated. By default all that can run here.")
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="Rows of features in a call.")] = 256,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    dtype: Annotated[str, typer.Option(help="float32, float16 or bfloat16.")] = "float32",
    out: Annotated[Path, typer.Option(help="Folder for the traces, a log directory of TensorBoard.")] = OUT,
) -> None:
    """Profile the head of a checkpoint in several forms and leave a trace of each.

    Profiling slows every call, so the table shows where time goes; `moegap bench` measures how long a call takes.
    """
    from rich.console import Console

    from bench.errors import BenchError, told
    from bench.forms import form as form_named
    from bench.precision import exact_float32
    from bench.trace import profile_form
    from bench.workloads import chosen_forms, feature_rows, load_subjects, resolve_dtype
    from models.config import SparseConfig
    from models.device import device_name, pick_device

    exact_float32()
    (subject,) = load_subjects([checkpoint])
    place, precision = pick_device(device), resolve_dtype(dtype)
    head = subject.on(place, precision).head
    x = feature_rows(subject.features, head.config.features, rows).to(place, precision)  # (N, D)
    profiles: dict[str, Profile] = {}
    refusals: dict[str, str] = {}
    console = Console()
    with console.status("") as status:
        for chosen in map(form_named, chosen_forms(form or ())):
            refusal = chosen.unavailable(head.config, place, precision) or chosen.untimeable(place)
            if refusal:
                refusals[chosen.name] = refusal
                continue
            status.update(f"profiling {chosen.name}")
            name = f"{subject.name}-{chosen.name}-n{rows}-{dtype}-{place.type}"
            try:
                profiles[chosen.name] = profile_form(chosen, head, x, out, name=name)
            except (BenchError, RuntimeError) as error:
                refusals[chosen.name] = told(error)
    if not profiles:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in refusals.items())
        raise BenchError(f"no form of those asked for can run here ({reasons}); choose another --form or --device")
    routed = f", {head.config.policy} routing" if isinstance(head.config, SparseConfig) else ""
    console.print(f"{head.config.kind} head of {checkpoint}{routed}, {rows} rows, {dtype}, {device_name(place)}\n")
    console.print(_stage_table(profiles, place.type))
    console.print(_operator_table(profiles))
    for name, reason in refusals.items():
        console.print(f"{name} was left out: {reason}")
    console.print(
        f"\nTo look closer: `tensorboard --logdir {out}`, whose page loads its charts from the web,", soft_wrap=True
    )
    console.print("or open one of these traces in https://ui.perfetto.dev:")
    for profiled in profiles.values():
        console.print(f"  {profiled.trace}", soft_wrap=True)


def _stage_table(profiles: Mapping[str, Profile], device: str) -> Table:
    """Return a row per form: microseconds per call and share of each stage, pieces of work and time between them."""
    from bench.breakdown import OTHER
    from bench.stages import STAGES

    work, kinds = ("kernels", "GPU kernels and copies") if device == "cuda" else ("ops", "operators or nodes")
    table = _table(
        "Stages of a call as the profiler sees them: microseconds and share",
        f"Profiled calls are slower than timed ones: read shares. {work}: {kinds} per call; gap: time between them.",
    )
    table.add_column("form", no_wrap=True)
    for column in ("call", *STAGES, OTHER, work, "gap"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, profiled in profiles.items():
        seen = profiled.breakdown
        parts = (_cell(seen.parts[part].seconds, seen.seconds) for part in (*STAGES, OTHER))
        count, gap = seen.launches, _cell(seen.gap, seen.seconds)
        if profiled.nodes and device == "cpu":
            count, gap = sum(node.count for node in profiled.nodes), "-"
        table.add_row(name, f"{seen.seconds * 1e6:.0f}", *parts, f"{count:.0f}", gap)
    return table


def _cell(seconds: float, call: float) -> str:
    return f"{seconds * 1e6:.0f}\n{seconds / call:.0%}" if seconds else "-"


def _operator_table(profiles: Mapping[str, Profile]) -> Table:
    """Return the longest operators, kernels or nodes of each form."""
    table = _table(f"The {LONGEST} longest operators, kernels or nodes of each form", "Times are per call.")
    table.add_column("form", no_wrap=True)
    table.add_column("name")
    table.add_column("where", no_wrap=True)
    for column in ("microseconds", "times"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, profiled in profiles.items():
        operators = sorted((*profiled.breakdown.operators, *profiled.nodes), key=lambda found: -found.seconds)
        for operator in operators[:LONGEST]:
            shown = operator.name if len(operator.name) <= NAME_WIDTH else operator.name[: NAME_WIDTH - 1] + "…"
            table.add_row(name, shown, operator.where, f"{operator.seconds * 1e6:.1f}", f"{operator.count:.0f}")
        table.add_section()
    return table


def _table(title: str, caption: str) -> Table:
    from rich import box
    from rich.table import Table

    return Table(
        title=title,
        caption=caption,
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        show_edge=False,
        title_justify="left",
        caption_justify="left",
    )
