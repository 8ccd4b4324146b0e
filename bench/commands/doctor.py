"""`moegap doctor`: what this machine can run, form by form, tried out on tiny heads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import torch
    from rich.table import Table

    from bench.forms import Form
    from models.heads.heads import Head

TINY: dict[str, dict[str, int]] = {
    "dense": {"hidden": 64},
    "soft": {"experts": 4, "hidden": 16},
    "sparse": {"experts": 4, "hidden": 16},
}
FEATURES = 32
ROWS = 16


def doctor(
    quick: Annotated[bool, typer.Option("--quick", help="Ask the forms only; try none out.")] = False,
    ceilings: Annotated[
        bool, typer.Option("--ceilings", help="Also measure what the machine can do: a few seconds for each dtype.")
    ] = False,
) -> None:
    """Say what this machine can run: every form of every head, tried on a tiny head, or why not and the fix.

    Forms that are measured by name alone are asked and not tried: tuning one takes a minute.
    """
    import torch
    from rich.console import Console
    from rich.table import Table

    from bench.forms import forms
    from bench.timing.environment import versions
    from bench.timing.precision import exact_float32
    from models.config import HEAD_KINDS, head_config
    from models.device import device_name
    from models.heads.heads import build_head

    exact_float32()
    console = Console(highlight=False)
    for form in forms().values():
        console.print(f"{form.name:<18} {form.summary}")
    devices = [torch.device("cpu"), *([torch.device("cuda", 0)] if torch.cuda.is_available() else [])]
    console.print(", ".join(f"{library} {version}" for library, version in versions().items()))
    if len(devices) == 1:
        console.print("no CUDA device: torch finds no NVIDIA GPU or driver, so every figure taken here is a CPU figure")
    for device in devices:
        title = _title(device, device_name(device))
        table = Table("head", "form", "can run", "why not, or how it was seen", title=title)
        for kind in HEAD_KINDS:
            torch.manual_seed(0)
            config = head_config(kind, "paper", features=FEATURES, classes=10, **TINY[kind])
            head = build_head(config).to(device).eval().requires_grad_(False)
            for form in (form for form in forms().values() if form.computes == "head"):
                with console.status(f"trying {form.name} on the {kind} head"):
                    verdict, words = _verdict(form, head, device, quick=quick or not form.default)
                table.add_row(kind, form.name, verdict, words)
            table.add_section()
        console.print(table)
        if ceilings:
            with console.status("measuring ceilings"):
                console.print(_ceilings(device, f"ceilings, the least time of many: {title}"))


def _ceilings(device: torch.device, title: str) -> Table:
    """Measure what `device` can do in the dtypes that matter there."""
    import torch
    from rich.table import Table

    from bench.timing.ceilings import measure_ceilings

    table = Table("dtype", "products", "copies, read and written", "overheads", title=title)
    for dtype in (torch.float32, torch.bfloat16):
        found = measure_ceilings(device, dtype)
        copies = "\n".join(f"{_si(copy.bytes_per_s, 'B/s')} in {_binary(copy.working_set)}" for copy in found.copies)
        least = {
            "a launch": found.launch,
            "an operator": found.operator,
            "waking threads": found.parallel,
            "a graph's replay": found.graph_replay,
        }
        words = "\n".join(f"{name} {_si(taken, 's')}" for name, taken in least.items() if taken is not None)
        table.add_row(found.dtype, f"{_si(found.flops_per_s, 'FLOP/s')}\n{found.product}", copies, words)
        table.add_section()
    return table


def _si(value: float, unit: str) -> str:
    """Return three digits with the prefix that keeps them from 1 to 999."""
    prefixes = {1e12: "T", 1e9: "G", 1e6: "M", 1e3: "k", 1.0: "", 1e-3: "m", 1e-6: "µ", 1e-9: "n"}
    size = next((size for size in prefixes if float(f"{value:.3g}") >= size), 1e-9)
    return f"{value / size:.3g} {prefixes[size]}{unit}"


def _binary(size: int) -> str:
    units = {2**30: "GiB", 2**20: "MiB", 2**10: "KiB"}
    unit = next(unit for unit in units if size >= unit)
    return f"{size / unit:.3g} {units[unit]}"


def _title(device: torch.device, name: str) -> str:
    import torch

    if device.type == "cpu":
        return f"CPU: {name}, {torch.get_num_threads()} threads"
    return f"GPU: {name}"


def _verdict(form: Form, head: Head, device: torch.device, *, quick: bool) -> tuple[str, str]:
    """Return yes, no or WRONG, and the words behind it; the first dtype that the form takes is tried."""
    import torch

    from bench.correctness.equivalence import deviation, head_reference
    from bench.errors import told
    from bench.subjects.workloads import dtype_name

    dtypes = (torch.float32,) if device.type == "cpu" else (torch.bfloat16, torch.float16, torch.float32)
    reasons = {dtype: form.unavailable(head.config, device, dtype) for dtype in dtypes}
    dtype = next((dtype for dtype, reason in reasons.items() if reason is None), None)
    if dtype is None:
        return "no", reasons[torch.float32] or ""
    if quick:
        return "yes", "not tried"
    head = head.to(dtype)
    x = torch.randn(ROWS, head.config.features, device=device).to(dtype)  # (N, D)
    try:
        found = deviation(form.prepare(head, x)(x), head_reference(head, x), x)
    except Exception as error:
        return "no", told(error)
    seen = f"{dtype_name(dtype)} logits within {found.error:.1g} of float64, {found.tolerance:.0e} allowed"
    if not found.acceptable:
        return "WRONG", seen
    return "yes", "; ".join(filter(None, (seen, form.untimeable(device))))
