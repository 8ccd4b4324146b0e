"""What the machine itself needs: an empty launch, a copy in memory, reading it, one large product.

Letters: N rows, D input width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bench.execution.form import Form, Runner, always, torch_runner
from bench.timing.graphs import nothing
from models.heads.heads import Head, HeadConfig

COPIED = {"cuda": 2**30, "cpu": 2**23}
"""Bytes that the copy reads; it writes as many."""
READ = {"cuda": 2**30, "cpu": 2**28}
"""Bytes that are read, more than caches hold."""
SIZE = {"cuda": 8192, "cpu": 512}
"""Rows and columns of the square matrices that are multiplied."""


def _no_launch(config: HeadConfig, device: torch.device, dtype: torch.dtype) -> str | None:
    return None if device.type == "cuda" else "an empty launch needs a CUDA device"


def _prepare_empty(head: Head, example: Tensor) -> Runner:
    def run(x: Tensor) -> Tensor:
        nothing[(1,)](x)
        return x

    return torch_runner(run, example)


def _prepare_copy(head: Head, example: Tensor) -> Runner:
    source = torch.randn(COPIED[example.device.type] // 4, device=example.device)
    target = torch.empty_like(source)
    return torch_runner(lambda x: target.copy_(source), example)


def _prepare_read(head: Head, example: Tensor) -> Runner:
    source = torch.randn(READ[example.device.type] // 4, device=example.device)
    return torch_runner(lambda x: torch.sum(source), example)


def _prepare_peak(head: Head, example: Tensor) -> Runner:
    size = SIZE[example.device.type]
    a, b = (torch.randn(size, size, dtype=example.dtype, device=example.device) for _ in range(2))
    return torch_runner(lambda x: torch.mm(a, b), example)


FORMS = (
    Form(
        "empty", 16, "one launch of an empty kernel", _no_launch, _prepare_empty, computes="nothing", default=False,
        work=lambda config, rows, dtype, device, experts: (0, 0),
    ),
    Form(
        "copy", 17, "a copy in memory", always, _prepare_copy, computes="nothing", default=False,
        work=lambda config, rows, dtype, device, experts: (0, 2 * COPIED[device.type]),
    ),
    Form(
        "read", 18, "reading memory", always, _prepare_read, computes="nothing", default=False,
        work=lambda config, rows, dtype, device, experts: (0, READ[device.type]),
    ),
    Form(
        "peak", 19, "one product of large square matrices", always, _prepare_peak, computes="nothing", default=False,
        work=lambda config, rows, dtype, device, experts: (
            2 * SIZE[device.type] ** 3, 3 * SIZE[device.type] ** 2 * dtype.itemsize
        ),
    ),
)  # fmt: skip
