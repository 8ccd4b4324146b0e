"""The native kernel as an operator of torch: in compiled graphs, under the flop counter, by torch's own check."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from kernels.native.layer import Native
from kernels.native.operator import native_moe
from kernels.problem.routes import Gate
from tests.kernels.calls import KINDS, new_call
from tests.kernels.native.calls import solve


@pytest.mark.parametrize("kind", KINDS)
def test_lives_in_a_whole_compiled_graph(kind: str) -> None:
    call = new_call(6, 16, 16, 4, 5, kind=kind)
    gate = call.routing if isinstance(call.routing, Gate) else None
    layer, routing = Native(call.experts, gate), None if gate else call.routing
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: 2 * layer(x + 0, routing), fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        assert torch.equal(compiled(call.x), 2 * solve(call))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("activation", ["gelu", "swiglu"])
def test_the_flop_counter_sees_the_products(kind: str, activation: str) -> None:
    call = new_call(6, 16, 8, 4, 5, kind=kind, k=3, activation=activation)
    with FlopCounterMode(display=False) as counter:
        solve(call)
    products = 18 * (2 * 16 * 8 * (2 if activation == "swiglu" else 1) + 2 * 8 * 5)
    assert counter.get_total_flops() == products + (2 * 6 * 16 * 4 if kind == "gate" else 0)


def test_passes_torchs_own_check_of_an_operator() -> None:
    call = new_call(6, 16, 8, 4, 5)
    assert isinstance(call.routing, Gate)
    layer = Native(call.experts, call.routing)
    torch.library.opcheck(
        native_moe,
        (call.x, *layer._packed, *layer._routed),
        test_utils=("test_schema", "test_faketensor", "test_aot_dispatch_dynamic"),
    )
