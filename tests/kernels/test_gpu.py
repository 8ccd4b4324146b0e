"""The operation as a GPU runs it: every dtype and path, repeatability, CUDA graphs, streams, offsets past 2^31.

The most important come first, because the first minutes on a GPU may end before the last.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kernels.choice.choice import choose
from kernels.cost.machine import machine_of
from kernels.launch.captures import capture_number
from kernels.launch.tickets import MOST, RESERVE, counters
from kernels.moe import moe, moe_reference
from kernels.ops.dispatch import count, dispatch, dispatch_reference
from kernels.ops.router import route
from kernels.paths.fused_rows import FusedRows
from kernels.paths.fused_tiles import FusedTiles
from kernels.paths.grouped import Grouped
from kernels.paths.options import Options
from kernels.problem.options import Product, Router
from kernels.problem.problem import Problem
from kernels.problem.routes import Gate, TopK
from tests.kernels.calls import AWKWARD, KINDS, MUTANTS, Call, assert_right, new_call, padded, turned
from tests.kernels.gradients import expected, gradients, wrong

pytestmark = pytest.mark.gpu

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
PART = Product(columns=64, depth=32, warps=4, stages=3)
ROUTER = Router(tile_rows=16, depth=64, warps=4, stages=2)
PATHS: dict[str, Options] = {
    "grouped": Grouped(tile_rows=64, router=ROUTER, first=PART, second=PART),
    "swapped": Grouped(
        tile_rows=16,
        router=replace(ROUTER, splits=4),
        first=replace(PART, swapped=True),
        second=replace(PART, swapped=True, splits=4),
    ),
    "persistent": Grouped(
        tile_rows=64, router=ROUTER, first=replace(PART, persistent=True), second=replace(PART, persistent=True)
    ),
    "fused tiles": FusedTiles(tile_rows=16, experts=1, slices=1, hidden=64, depth=32, warps=4, stages=2),
    "swapped fused tiles": FusedTiles(
        tile_rows=16, experts=1, slices=1, hidden=64, depth=32, warps=4, stages=2, swapped=True
    ),
    "tall fused tiles": FusedTiles(tile_rows=64, experts=3, slices=2, hidden=64, depth=32, warps=4, stages=2),
    "fused rows": FusedRows(slices=2, hidden=64, depth=32, warps=4),
}
on_every_path = pytest.mark.parametrize("path", PATHS)
in_every_dtype = pytest.mark.parametrize("dtype", DTYPES)


def cuda(call: Call) -> Call:
    """Return `call` on the GPU, strides kept."""
    return call.map(moved)


def moved(tensor: Tensor) -> Tensor:
    """Return a copy of `tensor` on the GPU with its strides and its place in the storage."""
    storage = torch.empty(0, dtype=tensor.dtype).set_(tensor.untyped_storage()).cuda()
    return storage.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())


def solve(call: Call, path: str) -> Tensor:
    """Run `call` on the GPU on a path."""
    return cuda(call).run(moe, options=PATHS[path])


@in_every_dtype
@pytest.mark.parametrize(
    ("N", "D", "H", "E", "k", "C"),
    [
        *AWKWARD,
        (64, 512, 64, 8, 2, 10),
        (257, 512, 64, 8, 2, 10),
        (2049, 512, 64, 8, 2, 10),
        (129, 577, 859, 7, 2, 10),
        (65, 511, 511, 60, 4, 10),
        (64, 256, 128, 384, 8, 10),
        (300, 128, 128, 4, 2, 512),
        (40, 14336, 64, 2, 1, 10),
    ],
)
def test_the_chosen_path(N: int, D: int, H: int, E: int, k: int, C: int, dtype: torch.dtype) -> None:
    call = new_call(N, D, H, E, C, dtype, k=k, kind=KINDS[(N + D + dtype.itemsize) % 3])
    assert_right(cuda(call).run(moe), call)


@in_every_dtype
@on_every_path
@pytest.mark.parametrize(("N", "D", "H", "E", "k", "C"), [(33, 97, 47, 7, 3, 10), (257, 512, 64, 8, 2, 10)])
def test_every_path(N: int, D: int, H: int, E: int, k: int, C: int, path: str, dtype: torch.dtype) -> None:
    for kind in ("gate", "top_k"):
        call = new_call(N, D, H, E, C, dtype, k=k, kind=kind)
        assert_right(solve(call, path), call)


@in_every_dtype
@pytest.mark.parametrize(("N", "D", "H", "E", "k", "C"), [(5, 16, 16, 4, 2, 5), (300, 128, 96, 8, 2, 64)])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients(kind: str, N: int, D: int, H: int, E: int, k: int, C: int, dtype: torch.dtype) -> None:
    call = new_call(N, D, H, E, C, dtype, k=k, kind=kind)
    dout = torch.randn(N, C, generator=torch.Generator().manual_seed(7)).to(dtype)
    first, second = (gradients(cuda(call), dout.cuda()) for _ in range(2))
    assert all(torch.equal(gradient, second[name]) for name, gradient in first.items())
    got = {name: gradient.cpu() for name, gradient in first.items()}
    assert list(wrong(got, expected(call, dout), dtype)) == []


LARGE = {
    "qwen3": (512, 2048, 768, 128, 8),
    "qwen3 at many rows": (8192, 2048, 768, 128, 8),
    "olmoe": (4096, 1024, 1024, 64, 8),
    "mixtral": (1024, 4096, 14336, 8, 2),
    "deepseek": (64, 7168, 2048, 16, 4),
}
"""N, D, H, E and k, with C = D; the largest has 2.8 GB of weights."""


@pytest.mark.parametrize("activation", ["silu", "swiglu"])
@pytest.mark.parametrize("layer", LARGE)
def test_layers_of_large_models_are_right_and_repeat_to_the_bit(layer: str, activation: str) -> None:
    """Twenty calls: a copy that arrives too late for its product would differ in one of them."""
    N, D, H, E, k = LARGE[layer]
    g = torch.Generator(device="cuda").manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=g, device="cuda", dtype=torch.bfloat16)

    wide = 2 * H if activation == "swiglu" else H
    routing = TopK(
        torch.rand(N, E, generator=g, device="cuda").argsort(dim=1)[:, :k].int(), torch.full((N, k), 1 / k).cuda()
    )
    w1, w2 = normal(E, D, wide).div_(D**0.5), normal(E, H, D).div_(H**0.5)
    call = Call(normal(N, D), routing, w1, None, w2, None, activation)
    exact = call.run(moe_reference).float()
    got = call.run(moe)
    assert ((got.float() - exact).norm() / exact.norm()).item() < 1e-2
    assert sum(not torch.equal(call.run(moe), got) for _ in range(20)) == 0
    problem = Problem(N, D, H, E, D, k, N * k, torch.bfloat16, activation, "top_k")  # type: ignore[arg-type]
    assert isinstance(choose(problem, machine_of(torch.device("cuda"))), Grouped)


@in_every_dtype
@on_every_path
def test_runs_repeat_to_the_bit(path: str, dtype: torch.dtype) -> None:
    call = cuda(new_call(3000, 512, 64, 8, 10, dtype))
    first = call.run(moe, options=PATHS[path])
    assert all(torch.equal(call.run(moe, options=PATHS[path]), first) for _ in range(10))


def captured(run: Callable[[], Tensor]) -> tuple[torch.cuda.CUDAGraph, Tensor]:
    """Return a graph of `run`, warmed up outside the capture, and what it writes."""
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch gives it no types
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = run()
    return graph, out


@on_every_path
def test_a_captured_graph_follows_the_routing(path: str) -> None:
    dtype = torch.bfloat16
    call = new_call(300, 64, 48, 7, 10, dtype)
    static = cuda(call)
    assert isinstance(call.routing, Gate)
    assert isinstance(static.routing, Gate)
    assert call.routing.bias is not None
    assert static.routing.bias is not None
    graph, out = captured(lambda: static.run(moe, options=PATHS[path]))
    g = torch.Generator().manual_seed(1)
    one_expert = torch.zeros(7)
    one_expert[6] = 99.0
    for bias in (call.routing.bias.float(), torch.randn(7, generator=g), one_expert, -one_expert):
        changed = call.but(x=torch.randn(300, 64, generator=g).to(dtype), bias=bias.to(dtype))
        static.x.copy_(changed.x)
        static.routing.bias.copy_(bias)
        graph.replay()
        assert_right(out, changed)
        graph.replay()
        assert_right(out, changed)


@pytest.mark.parametrize("N", [1, 300, 5000])
@pytest.mark.parametrize("kind", KINDS)
def test_chained_launches_equal_plain_ones(kind: str, N: int) -> None:
    """Each call of the graph reads what the one before wrote, and memory is used again: an early start would show."""
    call = cuda(new_call(N, 128, 96, 8, 128, torch.bfloat16, kind=kind))
    plain = Grouped(tile_rows=64, router=replace(ROUTER, splits=4), first=PART, second=PART)

    def many(options: Options) -> Tensor:
        outputs = [call.x]
        for _ in range(20):
            outputs.append(call.but(x=outputs[-1]).run(moe, options=options))
        return torch.stack(outputs[1:])

    expected = many(plain)
    graph, out = captured(lambda: many(replace(plain, chained=True)))
    for _ in range(10):
        graph.replay()
        assert torch.equal(out, expected)


@in_every_dtype
@on_every_path
@pytest.mark.parametrize(
    ("activation", "standardise", "weights_over"), [("gelu", True, "all"), ("swiglu", False, "selected")]
)
def test_every_setting(activation: str, standardise: bool, weights_over: str, path: str, dtype: torch.dtype) -> None:
    gate = {"temperature": 0.5, "standardise": standardise, "weights_over": weights_over}
    call = new_call(130, 64, 48, 8, 10, dtype, activation=activation, **gate)
    assert_right(solve(call, path), call)
    bare = call.but(b1=None, b2=None, bias=None)
    assert_right(solve(bare, path), bare)


@in_every_dtype
@on_every_path
def test_the_soft_mixture(path: str, dtype: torch.dtype) -> None:
    call = new_call(130, 64, 48, 6, 10, dtype, k=6, activation="gelu")
    assert_right(solve(call, path), call)


@pytest.mark.parametrize(
    "path", ["grouped", "swapped", "persistent", "fused tiles", "swapped fused tiles", "tall fused tiles"]
)
def test_tf32_when_asked(path: str) -> None:
    call = new_call(130, 512, 64, 8, 10)
    exact = cuda(call).run(moe_reference)
    rounded = cuda(call).run(moe, options=replace(PATHS[path], precision="tf32"))  # type: ignore[call-arg]
    error = ((rounded - exact).norm() / exact.norm()).item()
    assert 1e-5 < error < 2e-3


@in_every_dtype
@pytest.mark.parametrize("tile_rows", [16, 32, 64, 128])
@pytest.mark.parametrize("described", [False, True])
def test_every_tile(tile_rows: int, described: bool, dtype: torch.dtype) -> None:
    columns, stages = (128, 3) if described else (64, 2)
    depth = 16 if dtype == torch.float32 else 64
    if described and torch.cuda.get_device_capability() < (9, 0):
        pytest.skip("tensor descriptors need sm_90")
    part = Product(columns, depth, 8, stages, group=3, swapped=tile_rows < 64, described=described)
    call = new_call(333, 208, 136, 3, 24, dtype)
    options = Grouped(tile_rows=tile_rows, router=ROUTER, first=part, second=part)
    assert_right(cuda(call).run(moe, options=options), call)


@on_every_path
@pytest.mark.parametrize("used", [[0], [6], [0, 6], [1, 2, 3, 4, 5]], ids=str)
def test_unused_experts_may_hold_anything(used: list[int], path: str) -> None:
    call = new_call(200, 64, 48, 7, 10, torch.bfloat16, k=1)
    unused = [e for e in range(7) if e not in used]
    assert isinstance(call.routing, Gate)
    assert call.routing.bias is not None
    call.routing.bias[unused] = -float("inf")
    expected = solve(call, path)
    assert_right(expected, call)
    for parameter in (call.w1, call.b1, call.w2, call.b2):
        assert parameter is not None
        parameter[unused] = float("nan")
    assert torch.equal(solve(call, path), expected)


@on_every_path
def test_any_strides(path: str) -> None:
    call = new_call(100, 47, 33, 5, 7, torch.bfloat16)
    assert_right(solve(padded(call), path), call)
    assert_right(solve(turned(call), path), call)


@on_every_path
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_is_seen(mutant: str, path: str) -> None:
    call = new_call(64, 64, 48, 4, 10, torch.bfloat16, activation="gelu")
    wrong = solve(call.but(**MUTANTS[mutant](call)), path)
    with pytest.raises(AssertionError, match="wrong, worst by"):
        assert_right(wrong, call)


@pytest.mark.parametrize("splits", [1, 4])
def test_routing_ranks_nan_infinity_and_ties_as_a_stable_sort(splits: int) -> None:
    g = torch.Generator().manual_seed(0)
    scores = torch.randint(-2, 3, (500, 60), generator=g).float()
    special = torch.tensor([float("nan"), float("inf"), -float("inf"), -0.0])
    chance = torch.rand(500, 60, generator=g) < 0.1
    scores[chance] = special[torch.randint(0, 4, (int(chance.sum()),), generator=g)]
    order = torch.sort(scores, dim=1, descending=True, stable=True).indices
    one = torch.ones(1, 1).cuda()
    for n in range(0, 500, 50):
        for k in (1, 4, 60):
            gate = Gate(torch.zeros(60, 1).cuda(), scores[n].cuda(), k)
            routed = route(one, gate, replace(ROUTER, splits=splits))
            np.testing.assert_array_equal(routed.ids.cpu()[0], order[n, :k])


@pytest.mark.parametrize(("N", "k", "E"), [(1, 1, 1), (1000, 2, 8), (4097, 4, 60), (20000, 8, 384), (65536, 2, 8)])
def test_dispatch_sorts_stably(N: int, k: int, E: int) -> None:
    ids = torch.randint(-1, E, (N * k,), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    counts, block = count(ids.cuda(), E)
    got = dispatch(ids.cuda(), counts, block, k=k, tile_rows=64)
    expected = dispatch_reference(ids, E, k=k, tile_rows=64)
    used = int(expected.offsets[-1])
    assert torch.equal(got.rows.cpu()[:used], expected.rows[:used])
    for field in ("slots", "offsets", "tile_starts"):
        assert torch.equal(getattr(got, field).cpu(), getattr(expected, field)), field


@on_every_path
def test_a_nan_row_touches_no_other(path: str) -> None:
    call = new_call(200, 64, 48, 5, 10, torch.bfloat16, standardise=True)
    call.x[13] = float("nan")
    got = solve(call, path)
    others = torch.arange(200) != 13
    assert got[13].isnan().all()
    assert_right(got.cpu()[others], call.rows(others))


@on_every_path
def test_one_row_after_many(path: str) -> None:
    many = new_call(5000, 64, 64, 8, 10, torch.bfloat16)
    solve(many, path)
    one = many.rows(torch.arange(1))
    assert_right(solve(one, path), one)


@on_every_path
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
def test_never_waits_for_the_device(path: str) -> None:
    call = cuda(new_call(300, 64, 64, 8, 10, torch.bfloat16))
    call.run(moe, options=PATHS[path])
    torch.cuda.set_sync_debug_mode("error")
    try:
        call.run(moe, options=PATHS[path])
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("kind", ["top_k", "flat"])
def test_a_captured_graph_follows_a_given_routing(kind: str) -> None:
    call = new_call(300, 64, 48, 7, 10, torch.bfloat16, kind=kind)
    static = cuda(call)
    graph, out = captured(lambda: static.run(moe))
    other = new_call(300, 64, 48, 7, 10, torch.bfloat16, kind=kind, seed=1)
    for name, value in vars(static.routing).items():
        if isinstance(value, Tensor):
            value.copy_(getattr(other.routing, name))
    graph.replay()
    assert_right(out, call.but(routing=other.routing))


@pytest.mark.parametrize("path", ["swapped", "fused tiles", "fused rows"])
def test_graphs_and_streams_share_no_counter(path: str) -> None:
    calls = [cuda(new_call(64, 256, 64, 8, 10, torch.bfloat16, seed=seed)) for seed in range(4)]
    runs = [lambda call=call: call.run(moe, options=PATHS[path]) for call in calls]
    expected = [run().clone() for run in runs]
    graphs = [captured(run) for run in runs]
    streams = [torch.cuda.Stream() for _ in calls]  # type: ignore[no-untyped-call]
    for _ in range(50):
        for (graph, _), stream in zip(graphs, streams, strict=True):
            with torch.cuda.stream(stream):
                graph.replay()
    torch.cuda.synchronize()
    for (_, out), right in zip(graphs, expected, strict=True):
        assert torch.equal(out, right)


def test_lives_in_torch_compile() -> None:
    call = cuda(new_call(300, 64, 48, 7, 10, torch.bfloat16))
    with torch.no_grad():
        compiled = torch.compile(lambda: 2 * call.run(moe), fullgraph=True)
        assert torch.equal(compiled(), 2 * call.run(moe))


@pytest.mark.parametrize("path", ["swapped", "fused tiles"])
def test_counters_survive_the_graphs_of_torch_compile(path: str) -> None:
    call = cuda(new_call(64, 256, 64, 8, 10, torch.bfloat16))
    expected = call.run(moe, options=PATHS[path])
    options = PATHS[path]
    compiled = torch.compile(lambda: call.run(moe, options=options) + 0, mode="reduce-overhead", fullgraph=True)
    with torch.no_grad():
        for _ in range(5):
            torch.compiler.cudagraph_mark_step_begin()
            assert torch.equal(compiled(), expected)


@pytest.mark.parametrize("N", [1, 3, 17])
def test_counters_of_a_graph_are_aligned(N: int) -> None:
    call = cuda(new_call(N, 256, 64, 8, 10, torch.bfloat16))
    for _ in range(3):
        graph, out = captured(lambda: call.run(moe, options=PATHS["fused rows"]))
        graph.replay()
        assert torch.equal(out, call.run(moe, options=PATHS["fused rows"]))
    _, taken = captured(lambda: counters(N, torch.device("cuda", torch.cuda.current_device())).add_(0))
    assert taken.data_ptr() % 128 == 0


def test_a_destroyed_graph_gives_its_counters_back() -> None:
    if capture_number_unknown():
        pytest.skip("needs cuda-bindings, and a driver that numbers captures")
    device = torch.device("cuda", torch.cuda.current_device())
    for _ in range(3 * RESERVE // MOST):  # three times what the reserve holds; a warning would be an error
        graph, _ = captured(lambda: counters(MOST, device).add_(0))
        graph.replay()
        torch.cuda.synchronize()
        del graph


def capture_number_unknown() -> bool:
    """Return whether the driver does not say which capture is under way."""
    numbers: list[int | None] = []

    def work() -> Tensor:
        numbers.append(capture_number())
        return torch.zeros(1, device="cuda")

    captured(work)
    return numbers[-1] is None


def far_apart(values: Tensor, *stride: int) -> Tensor:
    """Return `values` on the GPU with the given strides, in a storage of more than 2^31 elements."""
    reach = 1 + sum((size - 1) * step for size, step in zip(values.shape, stride, strict=True))
    if torch.cuda.mem_get_info()[0] < 4 * reach:
        pytest.skip("needs about 10 GB of free GPU memory")
    return torch.empty(reach, dtype=values.dtype, device="cuda").as_strided(values.shape, stride).copy_(values)


@on_every_path
@pytest.mark.parametrize("name", ["rows of x", "columns of x", "experts of w1", "columns of w1", "experts of w2"])
def test_strides_past_two_billion(name: str, path: str) -> None:
    call = new_call(2 if name == "rows of x" else 40, 33, 17, 3, 10, torch.bfloat16)
    changes: dict[str, Any] = {
        "rows of x": lambda: {"x": far_apart(call.x, 2**31 + 16, 1)},
        "columns of x": lambda: {"x": far_apart(call.x, 1, 2**26 + 8)},
        "experts of w1": lambda: {"w1": far_apart(call.w1, 2**30 + 8, 17, 1)},
        "columns of w1": lambda: {"w1": far_apart(call.w1, 33, 1, 2**27 + 8)},
        "experts of w2": lambda: {"w2": far_apart(call.w2, 2**30 + 8, 10, 1)},
    }
    assert_right(cuda(call).but(**changes[name]()).run(moe, options=PATHS[path]), call)


def test_more_than_two_billion_hidden_values() -> None:
    if torch.cuda.mem_get_info()[0] < 8 * 2**30:
        pytest.skip("needs 8 GiB of free GPU memory")
    call = new_call(2**20 + 5, 16, 2064, 2, 3, torch.bfloat16, k=1, kind="top_k")
    got = cuda(call).run(moe, options=PATHS["grouped"])
    ends = torch.cat([torch.arange(5), torch.arange(2**20 - 10, 2**20 + 5)])
    assert_right(got.cpu()[ends], call.rows(ends))
