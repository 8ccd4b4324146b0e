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
    from models.config import HEAD_KINDS, head_config
    from models.device import device_name
    from models.heads import build_head

    console = Console(highlight=False)
    devices = [torch.device("cpu"), *([torch.device("cuda", 0)] if torch.cuda.is_available() else [])]
    console.print(", ".join(f"{library} {version}" for library, version in versions().items()))
    if len(devices) == 1:
        console.print("no CUDA device: torch finds no NVIDIA GPU or driver, so every figure taken here is a CPU figure")
    for device in devices:
        dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
        title = _title(device, device_name(device))
        table = Table("head", "form", "can run", "why not, or how it was seen", title=title)
        for kind in HEAD_KINDS:
            torch.manual_seed(0)
            config = head_config(kind, "paper", features=FEATURES, classes=10, **TINY[kind])
            head = build_head(config).to(device, dtype).eval().requires_grad_(False)
            for form in forms().values():
                with console.status(f"trying {form.name} on the {kind} head"):
                    verdict, words = _verdict(form, head, device, dtype, quick=quick)
                table.add_row(kind, form.name, verdict, words)
            table.add_section()
        console.print(table)


def _title(device: torch.device, name: str) -> str:
    import torch

    if device.type == "cpu":
        return f"CPU: {name}, {torch.get_num_threads()} threads, float32"
    return f"GPU: {name}, bfloat16"


def _verdict(form: Form, head: Head, device: torch.device, dtype: torch.dtype, *, quick: bool) -> tuple[str, str]:
    """Return yes, no or WRONG, and the words behind it."""
    import torch

    from bench.equivalence import deviation, head_reference

    if reason := form.unavailable(head.config, device, dtype):
        return "no", reason
    if quick:
        return "yes", "not tried"
    x = torch.randn(ROWS, head.config.features, device=device).to(dtype)  # (N, D)
    try:
        found = deviation(form.prepare(head, x)(x), head_reference(head, x))
    except Exception as error:
        return "no", f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    seen = f"logits within {found.error:.1g} of float64, {found.tolerance:.0e} allowed"
    if not found.acceptable:
        return "WRONG", seen
    return "yes", "; ".join(filter(None, (seen, form.untimeable(device))))
