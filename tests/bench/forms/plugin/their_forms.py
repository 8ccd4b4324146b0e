"""A form of another package: the head as it is defined."""

from __future__ import annotations

from torch import Tensor

from bench.execution.form import Form, Runner, always, torch_runner
from models.heads.heads import Head


def prepare(head: Head, example: Tensor) -> Runner:
    """Return the head itself as the runner of x (N, D)."""
    return torch_runner(head.forward, example, kernels="their-forms 1.2.3")


FORM = Form("theirs", 50, "the head as another package runs it", always, prepare)
