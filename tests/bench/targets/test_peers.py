"""Every peer against the float64 reference, on a CPU at small sizes; on a GPU as it is timed."""

import sys
from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch

from bench.forms.compile import isolated
from bench.targets.peers import dense, grouped_mm, masked, peers
from bench.targets.peers.layers import E128, PAPER, deviation, layer_output, new_tensors, tolerance
from bench.targets.plan import plan, rehearsal

CPU = torch.device("cpu")
SMALL_PAPER = replace(PAPER, D=64, H=16, C=10)
SWIGLU = replace(E128, D=64, H=24, E=6, k=2, C=64)
ODD = replace(PAPER, D=23, H=9, E=7, k=3, C=5)
ONE = replace(E128, D=16, H=8, E=1, k=1, C=16)
TINY = replace(PAPER, D=16, H=16, E=3, C=3)
TINY_SWIGLU = replace(E128, D=16, H=16, E=3, k=2, C=16)
OURS = ("ours", "ours_fused", "ours_grouped", "ours_given", "ours_products")


def error_of(name, layer, rows, dtype, routing="zipf", device=CPU):
    """The deviation of a peer on both sets of rows, or a skip with the peer's reason."""
    peer = peers()[name]
    if reason := peer.unavailable(layer, dtype, device):
        pytest.skip(reason)
    tensors = new_tensors(layer, rows, dtype, device, (routing,))[routing]
    with torch.inference_mode():
        prepared = peer.prepare(tensors)
        expected = prepared.expected or (lambda x: layer_output(tensors, x))
        outputs = [(prepared.run(x), expected(x)) for x in tensors.xs]
    return max(deviation(output, want) for output, want in outputs if output is not None)


@pytest.mark.parametrize("layer", [SMALL_PAPER, SWIGLU, ODD, ONE], ids=["paper", "swiglu", "odd", "one"])
@pytest.mark.parametrize("name", ["loop", "grouped_mm", "masked", "dense", "cublas", "peak", "copy"])
@pytest.mark.parametrize("rows", [1, 33])
def test_plain_peers(name, layer, rows):
    assert error_of(name, layer, rows, torch.float32) < 1e-5


@pytest.mark.parametrize("name", ["loop", "grouped_mm", "masked", "cublas"])
@pytest.mark.parametrize("routing", ["balanced", "hot"])
def test_plain_peers_in_bf16(name, routing):
    assert error_of(name, SWIGLU, 40, torch.bfloat16, routing) < tolerance(torch.bfloat16) / 2


@pytest.mark.parametrize("name", OURS)
def test_our_kernels_interpreted(name):
    layer = TINY if name == "ours_fused" else TINY_SWIGLU
    assert error_of(name, layer, 9, torch.float32) < 1e-5


@pytest.mark.parametrize("make", [grouped_mm.pipeline, masked.whole, dense.head], ids=["grouped_mm", "masked", "dense"])
@pytest.mark.parametrize("layer", [SMALL_PAPER, SWIGLU], ids=["paper", "swiglu"])
def test_what_is_compiled_is_one_graph(make, layer):
    if make is dense.head and layer is SWIGLU:
        pytest.skip("no dense head beside it")
    tensors = new_tensors(layer, 33, torch.bfloat16, CPU, ("zipf",))["zipf"]
    with torch.inference_mode():
        run = torch.compile(isolated(make(tensors)), fullgraph=True, dynamic=False, backend="aot_eager")
        expected = dense.expected(tensors) if make is dense.head else lambda x: layer_output(tensors, x)
        for x in tensors.xs:
            assert deviation(run(x), expected(x)) < tolerance(torch.bfloat16)


def test_peers_that_cannot_run_here_say_why():
    reasons = {name: peer.unavailable(PAPER, torch.bfloat16, CPU) for name, peer in peers().items()}
    assert "interpreter" in reasons["ours"]
    assert "max-autotune" in reasons["compile_masked"]
    assert "CUDA" in reasons["empty"]
    for name, package in (("liger", "liger_kernel"), ("moe_ops", "moe_ops")):
        if find_spec(package) is None:
            assert "pip install" in reasons[name]
    assert "operations" in peers()["masked"].unavailable(E128, torch.bfloat16, CPU)
    assert peers()["dense"].unavailable(E128, torch.bfloat16, CPU)


def test_optional_peers_refuse_what_they_do_not_compute(monkeypatch):
    cuda = torch.device("cuda")
    for module in ("bench.targets.peers.liger", "bench.targets.peers.moe_ops"):
        monkeypatch.setattr(sys.modules[module], "find_spec", lambda name: object())
    assert peers()["liger"].unavailable(E128, torch.bfloat16, cuda) is None
    assert peers()["moe_ops"].unavailable(E128, torch.bfloat16, cuda) is None
    for layer, dtype in ((PAPER, torch.bfloat16), (replace(E128, E=60), torch.bfloat16), (E128, torch.float32)):
        assert peers()["moe_ops"].unavailable(layer, dtype, cuda)
    assert peers()["liger"].unavailable(PAPER, torch.bfloat16, cuda)


def test_every_planned_peer_exists_and_every_case_is_planned_once():
    for groups in (plan(), rehearsal()):
        cases = [case.key for group in groups for case in group.planned()]
        assert len(cases) == len(set(cases))
    measured = {name for group in plan() for _, peer in group.contestants for name in (peer.name,)}
    assert measured == set(peers())


def test_counts_of_the_anchors():
    layer, item = E128, 2
    flops, _ = peers()["cublas"].counts(layer, 1000, item, 128, CPU)
    assert flops == layer.product_flops(1000) == 2 * 8000 * (2048 * 1536 + 768 * 2048)
    assert peers()["copy"].counts(layer, 1, item, 1, torch.device("cuda"))[1] == 2**31
    assert peers()["dense"].counts(PAPER, 1, item, 8, CPU)[0] == 2 * 512 * (512 + 10)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("layer", [PAPER, replace(E128, D=256, H=128, E=16, k=4, C=256)], ids=["paper", "swiglu"])
@pytest.mark.parametrize("name", [name for name in peers() if not name.startswith("compile") and name != "empty"])
def test_peers_on_a_gpu(name, layer, dtype):
    assert error_of(name, layer, 300, dtype, device=torch.device("cuda")) < tolerance(dtype)
