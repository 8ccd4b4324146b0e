"""The operation as an operator of torch: in compiled graphs, under the flop counter, on the meta device."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from kernels.launch.launch import recording
from kernels.moe import moe
from tests.kernels.calls import KINDS, Call, new_call
from tests.kernels.test_moe import PATHS


@pytest.mark.parametrize(("kind", "dynamic"), [("gate", False), *((kind, True) for kind in KINDS)])
def test_lives_in_a_whole_compiled_graph(kind: str, dynamic: bool) -> None:
    call = new_call(6, 16, 16, 4, 5, kind=kind)

    def double(call: Call) -> torch.Tensor:
        return 2 * moe(call.x + 0, call.routing, call.experts)

    torch._dynamo.reset()
    compiled = torch.compile(double, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    with torch.no_grad():
        assert torch.equal(compiled(call), 2 * call.run(moe))


def test_forced_options_reach_a_compiled_graph() -> None:
    call, options = new_call(6, 16, 16, 4, 5), PATHS["swapped"]
    torch._dynamo.reset()
    compiled = torch.compile(lambda: call.run(moe, options=options), fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        assert torch.equal(compiled(), call.run(moe, options=options))
        with recording() as records:
            compiled()
    assert [launch.arguments["swapped"] for launch in records if launch.stage == "experts"] == [True, True]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("activation", ["gelu", "swiglu"])
def test_the_flop_counter_sees_the_products(kind: str, activation: str) -> None:
    call = new_call(6, 16, 8, 4, 5, kind=kind, k=3, activation=activation)
    with FlopCounterMode(display=False) as counter:
        call.run(moe)
    products = 18 * (2 * 16 * 8 * (2 if activation == "swiglu" else 1) + 2 * 8 * 5)
    assert counter.get_total_flops() == products + (2 * 6 * 16 * 4 if kind == "gate" else 0)


@pytest.mark.parametrize("kind", KINDS)
def test_runs_without_a_device_as_a_shape(kind: str) -> None:
    call = new_call(6, 16, 8, 4, 5, torch.bfloat16, kind=kind).map(lambda tensor: tensor.to("meta"))
    out = call.run(moe)
    assert (out.shape, out.dtype, out.device.type) == ((6, 5), torch.bfloat16, "meta")


def test_passes_torchs_own_check_of_an_operator() -> None:
    call = new_call(6, 16, 8, 4, 5)
    arguments = (call.x, "gate", [call.routing.weight, None], 2, 1.0, False, "selected", False)  # type: ignore[union-attr]
    weights = (call.w1, call.b1, call.w2, call.b2, None, None, "relu", "ieee", None)
    torch.library.opcheck(
        torch.ops.moegap.moe.default,
        (*arguments, *weights),
        test_utils=("test_schema", "test_faketensor", "test_aot_dispatch_dynamic"),
    )
