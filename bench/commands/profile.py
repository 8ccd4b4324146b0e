"""`moegap profile`: where the time of each form goes, as a table, as traces and as a file for the report."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from bench.cases.case import Shape
    from bench.profile.file import LeftOut, Profiled
    from bench.subjects.workloads import Subject

OUT = Path("runs/profile")
ROWS = 256
LONGEST = 5
NAME_WIDTH = 48


def profile(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of a trained model.")],
    form: Annotated[
        list[str] | None, typer.Option(help="A form to profile; may be repeated. By default all that can run here.")
    ] = None,
    rows: Annotated[
        list[int] | None, typer.Option(min=1, help=f"Rows of features in a call; may be repeated. By default {ROWS}.")
    ] = None,
    graph: Annotated[
        bool, typer.Option("--graph", help="Also the replays of a CUDA graph of each form that one can hold.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    dtype: Annotated[str, typer.Option(help="float32, float16 or bfloat16.")] = "float32",
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of a CPU. By default as many as torch finds cores.")
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder for the traces, a log directory of TensorBoard, and profile.json.")
    ] = OUT,
) -> None:
    """Profile the head of a checkpoint in several forms and leave a trace of each.

    Profiling slows every call, so the table shows where time goes; `moegap bench` measures how long a call takes.
    """
    import torch
    from rich.console import Console

    from bench.cases.case import Shape
    from bench.errors import BenchError
    from bench.profile.file import NAME, LeftOut, Profiled, ProfileFile
    from bench.subjects.workloads import load_subjects, resolve_dtype
    from bench.timing import environment
    from bench.timing.precision import exact_float32
    from models.config import SparseConfig
    from models.device import device_name, pick_device
    from models.storage import make_folder

    exact_float32()
    if threads is not None:
        torch.set_num_threads(threads)
    place = pick_device(device)
    if graph and place.type != "cuda":
        raise BenchError("--graph needs a CUDA device: a CPU has no graph to replay; leave --graph out")
    (subject,) = load_subjects([checkpoint])
    shapes = [Shape("head", N, resolve_dtype(dtype), place) for N in dict.fromkeys(rows or [ROWS])]
    console = Console(markup=False)  # brackets in a reason or in a kernel's name are text
    make_folder(out)
    where = environment.snapshot(place)
    with console.status("") as status:
        passes = list(_passes(subject, form or (), shapes, graph, out, status.update))
    profiles = [found for found in passes if isinstance(found, Profiled)]
    left_out = [found for found in passes if isinstance(found, LeftOut)]
    if not profiles:
        reasons = dict.fromkeys(f"{_called(found)}: {found.reason}" for found in left_out)
        raise BenchError(
            f"no form of those asked for can run here ({'; '.join(reasons)}); choose another --form or --device"
        )
    config = subject.head.config
    policy = config.policy if isinstance(config, SparseConfig) else ""
    ProfileFile(
        checkpoint=subject.name,
        head=config.kind,
        policy=policy,
        dtype=dtype,
        runs_on=place.type,
        versions=where.pop("versions"),
        environment={**where, "device": device_name(place)},
        profiles=profiles,
        left_out=left_out,
    ).write(out / NAME, shlex.join(["moegap", *sys.argv[1:]]))
    routed = f", {policy} routing" if policy else ""
    console.print(f"{config.kind} head of {checkpoint}{routed}, {dtype}, {device_name(place)}", soft_wrap=True)
    _show(console, profiles, left_out, place.type)
    console.print(f"\nWritten: {out / NAME}, for `moegap report`, and traces for `moegap traces {out}`", soft_wrap=True)
    console.print("or, each alone, for https://ui.perfetto.dev:")
    for trace in (trace for found in profiles for trace in found.traces):
        console.print(f"  {out / trace}", soft_wrap=True)


def _show(console: Console, profiles: Sequence[Profiled], left_out: Sequence[LeftOut], device: str) -> None:
    """Print the stages and the longest work of all forms, by number of rows, and what was left out."""
    for rows in dict.fromkeys(found.rows for found in profiles):
        alike = [found for found in profiles if found.rows == rows]
        console.print()
        console.print(_stage_table(alike, rows, device))
        console.print(_operator_table(alike))
    for sentence in dict.fromkeys(f"{_called(found)} was left out: {found.reason}" for found in left_out):
        console.print(sentence, soft_wrap=True)


def _passes(
    subject: Subject, names: Sequence[str], shapes: Sequence[Shape], graph: bool, out: Path, say: Callable[[str], None]
) -> Iterator[Profiled | LeftOut]:
    """Yield what a pass over each form at each shape shows, with `graph` also over the replay of its graph."""
    from bench.errors import BenchError, told
    from bench.forms import form
    from bench.profile.file import LeftOut, Profiled
    from bench.profile.trace import profile_form
    from bench.subjects.workloads import dtype_name, feature_rows
    from bench.suites.suite import chosen_forms

    kinds = (False, True) if graph else (False,)
    for chosen, shape, replayed in product(map(form, chosen_forms(names)), shapes, kinds):
        N, place, dtype = shape.rows, shape.device, shape.dtype
        head = subject.on(place, dtype).head
        refusal = chosen.unavailable(head.config, place, dtype) or chosen.untimeable(place)
        if refusal:
            yield LeftOut(chosen.name, N, replayed, refusal)
            continue
        say(f"profiling {chosen.name}, N = {N}")
        x = feature_rows(subject.features, head.config.features, N).to(place, dtype)  # (N, D)
        name = f"{subject.name}-{chosen.name}{'-graph' * replayed}-n{N}-{dtype_name(dtype)}-{place.type}"
        try:
            found = profile_form(chosen, head, x, out, name=name, graph=replayed)
        except (BenchError, RuntimeError) as error:
            reason = str(error) if isinstance(error, BenchError) else told(error)
            yield LeftOut(chosen.name, N, replayed, reason)
        else:
            yield Profiled.of(found, out, form=chosen.name, rows=N, graph=replayed)


def _called(found: Profiled | LeftOut) -> str:
    return f"{found.form} (graph)" if found.graph else found.form


def _stage_table(profiles: Sequence[Profiled], rows: int, device: str) -> Table:
    """Return a row per form: microseconds per call and share of each stage, pieces of work, busy time and gaps."""
    from bench.forms.stages import OTHER, STAGES

    work = "kernels and copies" if device == "cuda" else "operators or nodes"
    told = f"work: {work} per call; busy: in any of them; gap: between them."
    if device == "cuda":
        told += " host: until the last launch returns."
    if named := [_called(found) for found in profiles if found.told_by == "names"]:
        told += f" Stages of {', '.join(named)} are told by names."
    table = _table(
        f"{rows} {'row' if rows == 1 else 'rows'}: stages of a call as the profiler sees them, microseconds and share",
        f"Profiled calls are slower than timed ones: read shares. {told}",
        gap=0,
    )
    stages = [stage for stage in (*STAGES, OTHER) if any(found.parts[stage].seconds for found in profiles)]
    table.add_column("form", no_wrap=True)
    for column in ("call", *stages, "work", "busy", "gap", *["host"] * (device == "cuda")):
        table.add_column(column, justify="right", no_wrap=True)
    for found in profiles:
        times = [found.busy, found.gap, *[found.host] * (device == "cuda")]
        table.add_row(
            _called(found),
            f"{found.seconds * 1e6:.0f}",
            *(_cell(found.parts[stage].seconds, found.seconds) for stage in stages),
            f"{found.launches:.0f}",
            *(_cell(seconds, found.seconds) for seconds in times),
        )
    return table


def _cell(seconds: float, call: float) -> str:
    return f"{seconds * 1e6:.0f}\n{seconds / call:.0%}" if seconds else "-"


def _operator_table(profiles: Sequence[Profiled]) -> Table:
    """Return the longest operators, kernels or nodes of each form."""
    table = _table(f"The {LONGEST} longest operators, kernels or nodes of each form", "Times are per call.")
    table.add_column("form", no_wrap=True)
    table.add_column("name")
    table.add_column("where", no_wrap=True)
    for column in ("microseconds", "times"):
        table.add_column(column, justify="right", no_wrap=True)
    for found in profiles:
        operators = sorted((*found.operators, *found.nodes), key=lambda operator: -operator.seconds)
        for operator in operators[:LONGEST]:
            shown = operator.name if len(operator.name) <= NAME_WIDTH else operator.name[: NAME_WIDTH - 1] + "…"
            row = (shown, operator.where, f"{operator.seconds * 1e6:.1f}", f"{operator.count:.0f}")
            table.add_row(_called(found), *row)
        table.add_section()
    return table


def _table(title: str, caption: str, gap: int = 1) -> Table:
    from rich import box
    from rich.table import Table

    return Table(
        title=title,
        caption=caption,
        box=box.SIMPLE_HEAD,
        padding=(0, gap, 0, 0),
        show_edge=False,
        title_justify="left",
        caption_justify="left",
    )
