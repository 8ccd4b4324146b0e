"""`moegap doctor`: what this machine can run, form by form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from bench.commands.shared import columns, examples, print_table, progress_bar, terminal

if TYPE_CHECKING:
    import torch

    from bench.forms import Form
    from models.heads.heads import Head
    from reports.output.blocks import Table
    from reports.records.record import Ceilings

TINY: dict[str, dict[str, int]] = {
    "dense": {"hidden": 128},
    "soft": {"experts": 4, "hidden": 32},
    "sparse": {"experts": 4, "hidden": 32},
}
FEATURES = 32
ROWS = 16


@examples("moegap doctor", "moegap doctor --try", "moegap doctor --ceilings")
def doctor(
    tried: Annotated[
        bool, typer.Option("--try", help="Also try every form on a tiny head of each kind: a minute or two.")
    ] = False,
    ceilings: Annotated[
        bool, typer.Option("--ceilings", help="Also measure what the machine can do: a few seconds for each dtype.")
    ] = False,
) -> None:
    """Show what this machine can run, form by form, and why it cannot run the rest.

    Each form is asked, which takes seconds. With --try it must also get the outputs of tiny heads right; forms that are
    measured only by name are not tried, since tuning one takes a minute.
    """
    import torch

    from bench.forms import forms
    from bench.timing.ceilings import measure_ceilings
    from bench.timing.environment import versions
    from bench.timing.precision import exact_float32
    from models.device import device_name

    exact_float32()
    console = terminal()
    for form in forms().values():
        console.print(f"{form.name:<18} {form.summary}")
    devices = [torch.device("cpu"), *([torch.device("cuda", 0)] if torch.cuda.is_available() else [])]
    console.print(", ".join(f"{library} {version}" for library, version in versions().items()))
    if len(devices) == 1:
        console.print("no CUDA device: torch finds no NVIDIA GPU or driver, so every time measured here is a CPU time")
    for device in devices:
        threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
        title = f"{'GPU' if device.type == 'cuda' else 'CPU'}: {device_name(device)}{threads}"
        print_table(console, _form_table(device, title, tried), gap=2, ruled=True)
        if ceilings:
            with console.status("measuring ceilings"):
                measured = [measure_ceilings(device, dtype) for dtype in (torch.float32, torch.bfloat16)]
            print_table(console, _ceiling_table(measured, title), gap=2, ruled=True)


def _form_table(device: torch.device, title: str, tried: bool) -> Table:
    """Ask every form about a tiny head of every kind, or also try it there, and return the results."""
    import torch

    from bench.forms import forms
    from models.config import head_config
    from models.heads.heads import HEAD_KINDS, build_head
    from reports.output.blocks import Table

    rows = []
    computing = [form for form in forms().values() if form.computes == "head"]
    with progress_bar() as bar:
        task = bar.add_task("", total=len(HEAD_KINDS) * len(computing), visible=tried)
        for kind in HEAD_KINDS:
            torch.manual_seed(0)
            config = head_config(kind, "paper", features=FEATURES, classes=10, **TINY[kind])
            head = build_head(config).to(device).eval().requires_grad_(False)
            for form in computing:
                bar.update(task, description=f"trying {form.name} on the {kind} head")
                rows.append((kind, form.name, *_trial(form, head, device, asked=not tried or not form.default)))
                bar.advance(task)
    return Table(title, columns("head", "form", "can run", "why not, or how it was tried"), tuple(rows))


def _ceiling_table(measured: list[Ceilings], title: str) -> Table:
    """Return the ceilings of a device in each dtype."""
    from reports.output.blocks import Table

    rows = []
    for ceiling in measured:
        copies = "\n".join(f"{_si(copy.bytes_per_s, 'B/s')} in {_binary(copy.working_set)}" for copy in ceiling.copies)
        least = {
            "a launch": ceiling.launch,
            "an operator": ceiling.operator,
            "waking threads": ceiling.parallel,
            "a graph's replay": ceiling.graph_replay,
        }
        overheads = "\n".join(f"{name} {_si(seconds, 's')}" for name, seconds in least.items() if seconds is not None)
        rows.append((ceiling.dtype, f"{_si(ceiling.flops_per_s, 'FLOP/s')}\n{ceiling.product}", copies, overheads))
    headings = columns("dtype", "products", "copies, read and written", "overheads")
    return Table(f"ceilings, the least time of many: {title}", headings, tuple(rows))


def _si(value: float, unit: str) -> str:
    """Return three digits and the SI prefix that puts the number between 1 and 999."""
    prefixes = {1e12: "T", 1e9: "G", 1e6: "M", 1e3: "k", 1.0: "", 1e-3: "m", 1e-6: "µ", 1e-9: "n"}
    size = next((size for size in prefixes if float(f"{value:.3g}") >= size), 1e-9)
    return f"{value / size:.3g} {prefixes[size]}{unit}"


def _binary(size: int) -> str:
    units = {2**30: "GiB", 2**20: "MiB", 2**10: "KiB"}
    unit = next(unit for unit in units if size >= unit)
    return f"{size / unit:.3g} {units[unit]}"


def _trial(form: Form, head: Head, device: torch.device, *, asked: bool) -> tuple[str, str]:
    """Return yes, no or WRONG, and why; the form is only `asked`, or tried in the first dtype that it takes."""
    import torch

    from bench.correctness.equivalence import deviation, head_reference
    from bench.errors import message
    from bench.timing.precision import dtype_name

    dtypes = (torch.float32,) if device.type == "cpu" else (torch.bfloat16, torch.float16, torch.float32)
    reasons = {dtype: form.unavailable(head.config, device, dtype) for dtype in dtypes}
    dtype = next((dtype for dtype, reason in reasons.items() if reason is None), None)
    if dtype is None:
        return "no", reasons[torch.float32] or ""
    if asked:
        return "yes", "not tried"
    head = head.to(dtype)
    x = torch.randn(ROWS, head.config.features, device=device).to(dtype)  # (N, D)
    try:
        measured = deviation(form.prepare(head, x)(x), head_reference(head, x), x)
    except Exception as error:
        return "no", message(error)
    words = f"{dtype_name(dtype)} logits within {measured.error:.1g} of float64, {measured.tolerance:.0e} allowed"
    if not measured.acceptable:
        return "WRONG", words
    return "yes", "; ".join(filter(None, (words, form.untimeable(device))))
