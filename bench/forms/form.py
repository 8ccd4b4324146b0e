"""What a form is and what running one takes.

Letters: N rows, D input width, C output width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from bench.forms.steps import Steps
from models.heads.heads import Head, HeadConfig


@dataclass(frozen=True)
class Runner:
    """A prepared head: features x (N, D) -> logits (N, C), on x's device and in its dtype.

    `runs_on` says on what: at least `device` and `library`, as far as they apply `provider` and `options`.
    `reused_s` is the seconds of preparation that an earlier shape of the same head already paid; cold start is
    that and what this preparation took. `work` returns what a call executes when its rows use the E experts so often:
    the record's `launches`, `executed_flops` and `requested_bytes`.
    """

    run: Callable[[Tensor], Tensor]
    runs_on: dict[str, str] = field(default_factory=dict)
    reused_s: float = 0.0
    work: Callable[[list[int]], dict[str, int]] | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """Return the logits (N, C) of x (N, D)."""
        with torch.inference_mode():
            return self.run(x)


@dataclass(frozen=True)
class Form:
    """One way of executing a head.

    `unavailable` returns why the form cannot run a head here, as one sentence, or None when it can. `prepare` takes a
    head in evaluation mode, without gradients, on the device and in the dtype of an example x (N, D), and returns its
    runner; whatever preparing costs (compilation, export) is cold start, never part of a timed call. `memory_seen` is
    False for an engine whose allocations torch does not see. `untimeable` says why a run here shows correctness alone,
    or returns None. `events`, of an engine with a profile of its own, returns what that shows of a number of calls as
    events of Chrome's trace format, none without rows: ranges named as `bench.profile.trace` names calls, and the nodes
    in them as operators with their provider. `steps` returns the counterfactuals of a head on x (N, D), N > 0, of a
    form that can be split. `setup` is the seconds that preparing a head takes, guessed, to say beforehand how long a
    run will take.
    """

    name: str
    rank: int
    summary: str
    unavailable: Callable[[HeadConfig, torch.device, torch.dtype], str | None]
    prepare: Callable[[Head, Tensor], Runner]
    memory_seen: bool = True
    untimeable: Callable[[torch.device], str | None] = field(default=lambda device: None)
    events: Callable[[Head, Tensor, int], list[dict[str, Any]]] | None = None
    steps: Callable[[Head, Tensor], Steps] | None = None
    setup: float = 0.2


def torch_runner(run: Callable[[Tensor], Tensor], example: Tensor, **runs_on: str) -> Runner:
    """Return the runner of a form that torch itself executes."""
    return Runner(run, {"device": str(example.device), "library": f"torch {torch.__version__}", **runs_on})
