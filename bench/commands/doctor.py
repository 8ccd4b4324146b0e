"""`moegap doctor`: what this machine can run, form by form, tried out on tiny heads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import torch

    from bench.forms import Form
    from models.heads import Head

TINY: dict[str, dict[str, int]] = {
    "dense": {"hidden": 64},
    "soft": {"experts": 4, "hidden": 16},
    "sparse": {"experts": 4, "hidden": 16},
}
FEATURES = 32
ROWS = 16


def doctor(
    quick: Annotated[bool, typer.Option("--quick", help="Ask the forms only; try none out.")] = False,
) -> None:
    """Say what this machine can run: every form of every head, tried on a tiny head, or why not and the fix."""
    import torch
    from rich.console import Console
    from rich.table import Table

    from bench.environment import versions
    from bench.forms import forms
    from bench.precision import exact_float32
    from models.config import HEAD_KINDS, head_config
    from models.device import device_name
    from models.heads import build_head

    exact_float32()
    console = Console(highlight=False)
    for form in forms().values():
        console.print(f"{form.name:<12} {form.summary}")
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
            for form in forms().values():
                with console.status(f"trying {form.name} on the {kind} head"):
                    verdict, words = _verdict(form, head, device, quick=quick)
                table.add_row(kind, form.name, verdict, words)
            table.add_section()
        console.print(table)


def _title(device: torch.device, name: str) -> str:
    import torch

    if device.type == "cpu":
        return f"CPU: {name}, {torch.get_num_threads()} threads"
    return f"GPU: {name}"


def _verdict(form: Form, head: Head, device: torch.device, *, quick: bool) -> tuple[str, str]:
    """Return yes, no or WRONG, and the words behind it; the first dtype that the form takes is tried."""
    import torch

    from bench.equivalence import deviation, head_reference
    from bench.errors import told
    from bench.workloads import dtype_name

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
