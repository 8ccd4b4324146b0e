"""`moegap profile`: where each form's time goes, as a table, as traces and as a file for the report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.commands.shared import (
    CheckpointArgument,
    DeviceOption,
    DtypeOption,
    FormsOption,
    ThreadsOption,
    columns,
    command_line,
    examples,
    print_table,
    set_threads,
    terminal,
)

if TYPE_CHECKING:
    from rich.console import Console

    from bench.cases.case import Shape
    from bench.subjects.subject import Subject
    from reports.output.blocks import Table
    from reports.records.profile import LeftOut, Profile

OUT = Path("runs/profile")
ROWS = 256
LONGEST = 5
NAME_WIDTH = 48


@examples(
    "moegap profile models/zoo/fast-sparse",
    "moegap profile models/zoo/fast-sparse --form loop --form eager --rows 1 --rows 1024",
    "moegap profile runs/sparse --form triton --graph --device cuda --dtype bfloat16",
)
def profile(
    checkpoint: CheckpointArgument,
    form: FormsOption = None,
    rows: Annotated[
        list[int] | None,
        typer.Option(min=1, max=2**31 - 1, help=f"Rows of features in a call; may be repeated. By default {ROWS}."),
    ] = None,
    graph: Annotated[
        bool, typer.Option("--graph", help="Also profile CUDA graph replays of each form that can be captured.")
    ] = False,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "float32",
    threads: ThreadsOption = None,
    out: Annotated[
        Path, typer.Option(help="Folder for the traces, a log directory of TensorBoard, and profile.json.")
    ] = OUT,
) -> None:
    """Profile the head of a checkpoint in every form, and write a trace of each.

    Profiling slows every call: the table shows where the time goes; `moegap bench` measures how long a call takes.
    """
    from bench.cases.case import Shape
    from bench.errors import BenchError
    from bench.subjects.subject import load_subjects
    from bench.timing import environment
    from bench.timing.precision import exact_float32, resolve_dtype
    from models.device import device_name, pick_device
    from models.result_file import write_result
    from reports.records.files import make_folder, writable
    from reports.records.profile import PROFILE_FILE, LeftOut, Profile, ProfileFile

    exact_float32()
    set_threads(threads)
    place = pick_device(device)
    if graph and place.type != "cuda":
        raise BenchError("--graph needs a CUDA device: a CPU has no graph to replay; leave --graph out")
    (subject,) = load_subjects([checkpoint])
    shapes = [Shape("head", N, resolve_dtype(dtype), place) for N in dict.fromkeys(rows or [ROWS])]
    console = terminal()
    writable(make_folder(out) / PROFILE_FILE)
    machine = environment.snapshot(place)
    with console.status("") as status:
        passes = list(_passes(subject, form or (), shapes, graph, out, status.update))
    profiles = [each for each in passes if isinstance(each, Profile)]
    left_out = [each for each in passes if isinstance(each, LeftOut)]
    if not profiles:
        reasons = dict.fromkeys(f"{each.label}: {each.reason}" for each in left_out)
        raise BenchError(f"none of these forms can run here ({'; '.join(reasons)}); choose another --form or --device")
    config = subject.head.config
    file = ProfileFile(
        format=1,
        kind="profile",
        command=command_line(),
        checkpoint=subject.name,
        head=config.kind,
        policy=config.policy or "",
        dtype=dtype,
        runs_on="cuda" if place.type == "cuda" else "cpu",
        versions=machine.pop("versions"),
        environment={**machine, "device": device_name(place)},
        profiles=tuple(profiles),
        left_out=tuple(left_out),
    )
    write_result(out / PROFILE_FILE, file)
    routed = f", {config.policy} routing" if config.policy else ""
    console.print(f"{config.kind} head of {checkpoint}{routed}, {dtype}, {device_name(place)}", soft_wrap=True)
    _show(console, profiles, left_out, place.type)
    console.print(
        f"\nWritten: {out / PROFILE_FILE}, for `moegap report`, and traces for `moegap traces {out}`", soft_wrap=True
    )
    console.print("or, each alone, for https://ui.perfetto.dev:")
    for trace in (trace for each in profiles for trace in each.traces):
        console.print(f"  {out / trace}", soft_wrap=True)


def _show(console: Console, profiles: Sequence[Profile], left_out: Sequence[LeftOut], device: str) -> None:
    """Print the stages and the longest work of all forms for each number of rows, and what was left out."""
    for rows in dict.fromkeys(each.rows for each in profiles):
        same_rows = [each for each in profiles if each.rows == rows]
        console.print()
        table, note = _stage_table(same_rows, rows, device)
        print_table(console, table, note, gap=0)
        print_table(console, _operator_table(same_rows), "Times are per call.", ruled=True)
    for sentence in dict.fromkeys(f"{each.label} was left out: {each.reason}" for each in left_out):
        console.print(sentence, soft_wrap=True)


def _passes(
    subject: Subject, names: Sequence[str], shapes: Sequence[Shape], graph: bool, out: Path, say: Callable[[str], None]
) -> Iterator[Profile | LeftOut]:
    """Yield the profile of each form at each shape, with `graph` also of the replay of its graph."""
    from bench.errors import BenchError, message
    from bench.forms import form
    from bench.profile.trace import profile_form
    from bench.subjects.subject import feature_rows
    from bench.suites.suite import chosen_forms
    from bench.timing.precision import dtype_name
    from reports.records.profile import LeftOut

    kinds = (False, True) if graph else (False,)
    for chosen, shape, replayed in product(map(form, chosen_forms(names)), shapes, kinds):
        N, place, dtype = shape.rows, shape.device, shape.dtype
        head = subject.on(place, dtype).head
        if refusal := chosen.refusal(head.config, place, dtype):
            yield LeftOut(form=chosen.name, rows=N, graph=replayed, reason=refusal)
            continue
        say(f"profiling {chosen.name}, N = {N}")
        x = feature_rows(subject.features, head.config.features, N).to(place, dtype)  # (N, D)
        name = f"{subject.name}-{chosen.name}{'-graph' * replayed}-n{N}-{dtype_name(dtype)}-{place.type}"
        try:
            yield profile_form(chosen, head, x, out, name=name, graph=replayed)
        except (BenchError, RuntimeError) as error:
            reason = str(error) if isinstance(error, BenchError) else message(error)
            yield LeftOut(form=chosen.name, rows=N, graph=replayed, reason=reason)


def _stage_table(profiles: Sequence[Profile], rows: int, device: str) -> tuple[Table, str]:
    """Return a table of microseconds per call and share of each stage, work, busy time and gaps by form; and a note."""
    from bench.execution.stages import OTHER, STAGES
    from reports.output.blocks import Table

    stages = [stage for stage in (*STAGES, OTHER) if any(each.parts[stage].seconds for each in profiles)]
    cells = []
    for each in profiles:
        times = [each.busy, each.gap, *[each.host] * (device == "cuda")]
        cells.append(
            (
                each.label,
                f"{each.seconds * 1e6:.0f}",
                *(_time_and_share(each.parts[stage].seconds, each.seconds) for stage in stages),
                f"{each.launches:.0f}",
                *(_time_and_share(seconds, each.seconds) for seconds in times),
            )
        )
    title = (
        f"{rows} {'row' if rows == 1 else 'rows'}: stages of a call as the profiler sees them, microseconds and share"
    )
    headings = columns("form", numbers=("call", *stages, "work", "busy", "gap", *["host"] * (device == "cuda")))
    return Table(title, headings, tuple(cells)), _stage_note(profiles, device)


def _stage_note(profiles: Sequence[Profile], device: str) -> str:
    work = "kernels and copies" if device == "cuda" else "operators or nodes"
    note = f"Profiled calls are slower than timed ones: read shares. work: {work} per call; busy: in any of them; gap: "
    note += "between them."
    if device == "cuda":
        note += " host: until the last launch returns."
    if named := [each.label for each in profiles if each.told_by == "names"]:
        note += f" Stages of {', '.join(named)} are recognised by operator names."
    for each in profiles:
        if each.dropped:
            note += f" {each.label}: the profiler lost kernels of {each.dropped} more calls, which do not count."
    return note


def _time_and_share(seconds: float, call: float) -> str:
    return f"{seconds * 1e6:.0f}\n{seconds / call:.0%}" if seconds else "-"


def _operator_table(profiles: Sequence[Profile]) -> Table:
    """Return the longest operators, kernels or nodes of each form."""
    from reports.output.blocks import Table

    rows = []
    for each in profiles:
        operators = sorted((*each.operators, *each.nodes), key=lambda operator: -operator.seconds)
        for operator in operators[:LONGEST]:
            shown = operator.name if len(operator.name) <= NAME_WIDTH else operator.name[: NAME_WIDTH - 1] + "…"
            rows.append((each.label, shown, operator.where, f"{operator.seconds * 1e6:.1f}", f"{operator.count:.0f}"))
    title = f"The {LONGEST} longest operators, kernels or nodes of each form"
    return Table(title, columns("form", "name", "where", numbers=("microseconds", "times")), tuple(rows))
