"""What a form is, and what it prepares.

Letters: N rows, D input width, C output width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from bench.execution.steps import Steps
from models.heads.heads import Head, HeadConfig
from models.heads.soft import SoftMoEHead
from models.heads.sparse import SparseMoEHead
from models.routing import Routing


@dataclass(frozen=True)
class Runner:
    """A prepared head: features x (N, D) -> logits (N, C), on x's device and in its dtype.

    `runs_on` says what it runs on: `device` and `library`, and `provider` and `options` if they apply. `reused_s` is
    the seconds of preparation that an earlier shape of the same head already paid; cold start is their sum with this
    preparation. `work` maps the rows per expert (E,) to what a call executes: the record's `launches`, `executed_flops`
    and `requested_bytes`.
    """

    run: Callable[[Tensor], Tensor]
    runs_on: dict[str, str] = field(default_factory=dict)
    reused_s: float = 0.0
    work: Callable[[list[int]], dict[str, int]] | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """Return the logits (N, C) of x (N, D)."""
        with torch.inference_mode():
            return self.run(x)


Work = Callable[[HeadConfig, int, torch.dtype, torch.device, int | None], tuple[int, int]]
"""From a head's config, N rows, dtype, device and the number of experts in use (None for as many as N rows can reach)
to the floating-point operations and the least bytes of one call."""


@dataclass(frozen=True)
class StoredWeights:
    """How a form stores the weights of the experts in fewer bits than the head, which changes the outputs.

    `scheme` names it. `parameters` returns those of the head that the form computes with, named as in its state, with
    rounded weights in float32. `expert_bytes` maps a head's config and the bytes of a full value to those of an expert.
    """

    scheme: str
    parameters: Callable[[Head], Mapping[str, Tensor]]
    expert_bytes: Callable[[HeadConfig, int], int]


@dataclass(frozen=True)
class Form:
    """One way of executing a head or a part of it, or an anchor to compare with.

    Attributes:
        name: The form's name; `rank` orders tables and `summary` explains the form in a few words.
        unavailable: Why the form cannot run a head of this configuration here, in one sentence, or None if it can. If
            only the weights decide, `prepare` raises `UnavailableError`.
        prepare: From a head in evaluation mode, without gradients, on the device and in the dtype of an example x
            (N, D), to its runner. All preparation (compilation, export) is cold start, never part of a timed call.
        train: As `prepare`, for a head whose parameters have gradients: `Runner.run` is differentiable, and takes the
            parameters as they are at each call, since training changes them. None for inference alone.
        memory_seen: False for an engine whose allocations torch does not see.
        untimeable: Why a run here only shows correctness, or None.
        events: For an engine with its own profiler: what it saw of some calls, as events of Chrome's trace format; none
            without rows. Ranges are named as `bench.profile.trace` names calls, and nodes inside them are operators
            with their provider.
        steps: The counterfactual steps of a head on x (N, D), N > 0, for a form that can be split.
        setup: A guess of the seconds that preparing a head takes, to estimate how long a run takes.
        computes: The whole "head", only the experts' "products", or, for an anchor, "nothing" of it.
        expected: If the output is not the head's: from head and x (N, D) to the float64 matrix that the runner must
            give. None for an anchor, which has nothing to check.
        work: If the work is not the head's: its operations and bytes.
        stored: If weights are stored in fewer bits: how. The outputs must be those of the head with rounded weights.
        capturable: False if no CUDA graph can hold a call: it waits for the device, or another engine runs it.
        reusable: False if a runner works only for the rows it was prepared with, or copies of them.
        default: Whether the form is measured unless forms are named.
    """

    name: str
    rank: int
    summary: str
    unavailable: Callable[[HeadConfig, torch.device, torch.dtype], str | None]
    prepare: Callable[[Head, Tensor], Runner]
    train: Callable[[Head, Tensor], Runner] | None = None
    memory_seen: bool = True
    untimeable: Callable[[torch.device], str | None] = field(default=lambda device: None)
    events: Callable[[Head, Tensor, int], list[dict[str, Any]]] | None = None
    steps: Callable[[Head, Tensor], Steps] | None = None
    setup: float = 0.2
    computes: Literal["head", "products", "nothing"] = "head"
    expected: Callable[[Head, Tensor], Tensor] | None = None
    work: Work | None = None
    stored: StoredWeights | None = None
    capturable: bool = True
    reusable: bool = True
    default: bool = True

    def refusal(self, config: HeadConfig, device: torch.device, dtype: torch.dtype) -> str | None:
        """Return why no call of a head of this configuration is timed here, or None."""
        return self.unavailable(config, device, dtype) or self.untimeable(device)

    def expert_bytes(self, config: HeadConfig, dtype: torch.dtype) -> int | None:
        """Return the bytes of one expert if its weights are stored in fewer bits than `dtype`, or None."""
        return self.stored.expert_bytes(config, dtype.itemsize) if self.stored else None


def always(config: HeadConfig, device: torch.device, dtype: torch.dtype) -> None:
    """Return None: the form runs any head anywhere."""


def torch_runner(run: Callable[[Tensor], Tensor], example: Tensor, **runs_on: str) -> Runner:
    """Return the runner of a form that torch executes."""
    return Runner(run, {"device": str(example.device), "library": f"torch {torch.__version__}", **runs_on})


def exact_routing(head: SoftMoEHead | SparseMoEHead, x: Tensor) -> Routing:
    """Return the head's routing of x (N, D) in float64, with float32 weights, for forms that do not route."""
    routing = head.routing(x.double())
    return routing._replace(weights=routing.weights.float())


def trained(bias: Tensor) -> Tensor | None:
    """Return `bias`, or None if it has no gradient: as `nonzero`, for a head that is trained, without waiting."""
    return bias if bias.requires_grad else None


def nonzero(bias: Tensor) -> Tensor | None:
    """Return `bias`, or None if it is all zeros, so that no form pays for biases that a public model does not have."""
    return bias if bool(bias.any()) else None
