"""Calls of the native kernel in every plan."""

from torch import Tensor

from kernels.native.layer import Native
from kernels.native.plan import Plan
from kernels.problem.routes import Gate
from tests.kernels.calls import Call

PLANS: dict[str, Plan | None] = {
    "chosen": None,
    "one block": Plan(threads=1, block=1000, shared=False),
    "own blocks": Plan(threads=3, block=5, shared=False),
    "shared steps": Plan(threads=2, block=7, shared=True),
}


def solve(call: Call, plan: str = "chosen") -> Tensor:
    """Run `call` on the native kernel in one of the plans."""
    if isinstance(call.routing, Gate):
        return Native(call.experts, call.routing)(call.x, plan=PLANS[plan])
    return Native(call.experts)(call.x, call.routing, plan=PLANS[plan])
