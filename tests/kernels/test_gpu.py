"""The kernels as a GPU runs them: every dtype, repeatability, CUDA graphs, and offsets past 2^31."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kernels.dispatch import dispatch_reference, dispatch_rows
from kernels.moe import sparse_moe
from kernels.options import Options, ProductOptions
from kernels.routing import top_k_routing
from tests.kernels.problems import AWKWARD, MUTANTS, Problem, assert_solves, padded, problem, turned

pytestmark = pytest.mark.gpu

DTYPES = [torch.float32, torch.float16, torch.bfloat16]


def cuda(case: Problem) -> Problem:
    """Return `case` on the GPU, strides kept."""
    return case.but(**{name: moved(value) for name, value in vars(case).items() if isinstance(value, Tensor)})


def moved(tensor: Tensor) -> Tensor:
    """Return a copy of `tensor` on the GPU with its strides and its place in the storage."""
    storage = torch.empty(0, dtype=tensor.dtype).set_(tensor.untyped_storage()).cuda()
    return storage.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())


@pytest.mark.parametrize("dtype", DTYPES)
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
def test_awkward_shapes(N: int, D: int, H: int, E: int, k: int, C: int, dtype: torch.dtype) -> None:
    case = problem(N, D, H, E, C, dtype, k=k)
    assert_solves(cuda(case).run(sparse_moe), case)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ["relu", "gelu", "silu"])
@pytest.mark.parametrize("weights_over", ["selected", "all"])
@pytest.mark.parametrize("standardise", [False, True])
def test_every_setting(activation: str, weights_over: str, standardise: bool, dtype: torch.dtype) -> None:
    settings: dict[str, Any] = {
        "activation": activation,
        "standardise": standardise,
        "weights_over": weights_over,
    }
    case = problem(130, 64, 48, 8, 10, dtype, temperature=0.5, **settings)
    assert_solves(cuda(case).run(sparse_moe), case)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tile_rows", [16, 32, 64, 128])
@pytest.mark.parametrize("columns", [16, 64, 128])
@pytest.mark.parametrize("stages", [1, 3])
def test_every_tile(tile_rows: int, columns: int, stages: int, dtype: torch.dtype) -> None:
    depth = 16 if dtype == torch.float32 else 64
    part = ProductOptions(columns=columns, depth=depth, warps=8, stages=stages, group=3)
    case = problem(333, 200, 136, 3, 24, dtype)
    assert_solves(cuda(case).run(sparse_moe, options=Options(tile_rows=tile_rows, first=part, second=part)), case)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("used", [[0], [3], [6], [0, 6], [1, 2, 3, 4, 5]], ids=str)
def test_unused_experts_may_hold_anything(used: list[int], dtype: torch.dtype) -> None:
    case = problem(200, 64, 48, 7, 10, dtype, k=1)
    unused = [e for e in range(7) if e not in used]
    case.scores[:, unused] = -float("inf")
    expected = cuda(case).run(sparse_moe)
    assert_solves(expected, case)
    for parameter in (case.w1, case.b1, case.w2, case.b2):
        parameter[unused] = float("nan")
    assert torch.equal(cuda(case).run(sparse_moe), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_strides(dtype: torch.dtype) -> None:
    case = problem(100, 47, 33, 5, 7, dtype)
    assert_solves(cuda(padded(case)).run(sparse_moe), case)
    assert_solves(cuda(turned(case)).run(sparse_moe), case)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_is_seen(mutant: str, dtype: torch.dtype) -> None:
    case = problem(64, 64, 48, 4, 10, dtype, activation="gelu")
    wrong = cuda(case.but(**MUTANTS[mutant](case))).run(sparse_moe)
    with pytest.raises(AssertionError, match="wrong, worst by"):
        assert_solves(wrong, case)


def test_routing_ranks_nan_infinity_and_ties_as_a_stable_sort() -> None:
    g = torch.Generator().manual_seed(0)
    scores = torch.randint(-2, 3, (500, 60), generator=g).float()
    special = torch.tensor([float("nan"), -float("nan"), float("inf"), -float("inf"), -0.0, 1e-45])
    chance = torch.rand(500, 60, generator=g) < 0.1
    scores[chance] = special[torch.randint(0, 6, (int(chance.sum()),), generator=g)]
    order = torch.sort(scores, dim=1, descending=True, stable=True).indices
    for k in (1, 4, 60):
        ids, weights = top_k_routing(scores.cuda(), k, temperature=1.0, standardise=False, weights_over="selected")
        np.testing.assert_array_equal(ids.cpu(), order[:, :k])
        finite = scores.gather(1, order[:, :k])[:, 0].isfinite()
        np.testing.assert_allclose(weights.cpu()[finite].sum(dim=1), 1, rtol=1e-5)
        assert weights.cpu()[scores.isnan().any(dim=1)].isnan().all()


@pytest.mark.parametrize(("N", "k", "E"), [(1, 1, 1), (1000, 2, 8), (4097, 4, 60), (20000, 8, 384)])
def test_dispatch_sorts_stably(N: int, k: int, E: int) -> None:
    ids = torch.randint(0, E, (N, k), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    got, expected = dispatch_rows(ids.cuda(), E, tile_rows=64), dispatch_reference(ids, E, tile_rows=64)
    for field in ("rows", "slots", "offsets", "tile_starts"):
        assert torch.equal(getattr(got, field).cpu(), getattr(expected, field)), field


@pytest.mark.parametrize("where", ["x", "scores"])
def test_a_nan_row_touches_no_other(where: str) -> None:
    case = problem(200, 64, 48, 5, 10, torch.bfloat16, standardise=True)
    clean = cuda(case).run(sparse_moe).cpu()
    getattr(case, where)[13] = float("nan")
    got = cuda(case).run(sparse_moe).cpu()
    others = torch.arange(200) != 13
    assert got[13].isnan().all()
    if where == "x":  # bad scores move row 13 to other experts, so others may change places but not values
        assert torch.equal(got[others], clean[others])
    assert_solves(got[others], case.but(x=case.x[others], scores=case.scores[others]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_runs_repeat_to_the_bit(dtype: torch.dtype) -> None:
    case = cuda(problem(3000, 512, 64, 8, 10, dtype))
    first = case.run(sparse_moe)
    assert all(torch.equal(case.run(sparse_moe), first) for _ in range(5))


def test_one_row_after_many() -> None:
    many = problem(5000, 64, 64, 8, 10, torch.bfloat16)
    one = many.but(x=many.x[:1], scores=many.scores[:1])
    cuda(many).run(sparse_moe)
    assert_solves(cuda(one).run(sparse_moe), one)


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
def test_never_waits_for_the_device() -> None:
    case = cuda(problem(300, 64, 64, 8, 10, torch.bfloat16))
    case.run(sparse_moe)
    torch.cuda.set_sync_debug_mode("error")
    try:
        case.run(sparse_moe)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_captured_graph_follows_the_routing(dtype: torch.dtype) -> None:
    case = problem(300, 64, 48, 7, 10, dtype)
    static = cuda(case)
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch gives it no types
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # compiles outside the capture
        static.run(sparse_moe)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = static.run(sparse_moe)

    one_expert = torch.zeros(300, 7)
    one_expert[:, 6] = 9.0
    g = torch.Generator().manual_seed(1)
    for scores in (case.scores, torch.randn(300, 7, generator=g), one_expert, case.scores.flip(1)):
        x = torch.randn(300, 64, generator=g).to(dtype)
        static.x.copy_(x)
        static.scores.copy_(scores)
        graph.replay()
        assert_solves(out, case.but(x=x, scores=scores))


def far_apart(values: Tensor, *stride: int) -> Tensor:
    """Return `values` on the GPU with the given strides, in a storage of more than 2^31 elements."""
    reach = 1 + sum((size - 1) * step for size, step in zip(values.shape, stride, strict=True))
    if torch.cuda.mem_get_info()[0] < 4 * reach:
        pytest.skip("needs about 10 GB of free GPU memory")
    return torch.empty(reach, dtype=values.dtype, device="cuda").as_strided(values.shape, stride).copy_(values)


@pytest.mark.parametrize("name", ["rows of x", "columns of x", "experts of w1", "columns of w1"])
def test_strides_past_two_billion(name: str) -> None:
    case = problem(2 if name == "rows of x" else 40, 33, 17, 3, 10, torch.bfloat16)
    changes: dict[str, Any] = {
        "rows of x": lambda: {"x": far_apart(case.x, 2**31 + 16, 1)},
        "columns of x": lambda: {"x": far_apart(case.x, 1, 2**26 + 8)},
        "experts of w1": lambda: {"w1": far_apart(case.w1, 2**30 + 8, 17, 1)},
        "columns of w1": lambda: {"w1": far_apart(case.w1, 33, 1, 2**27 + 8)},
    }
    assert_solves(cuda(case).but(**changes[name]()).run(sparse_moe), case)


def test_more_than_two_billion_hidden_values() -> None:
    if torch.cuda.mem_get_info()[0] < 8 * 2**30:
        pytest.skip("needs 8 GiB of free GPU memory")
    case = problem(2**20 + 5, 16, 2064, 2, 3, torch.bfloat16, k=1)
    got = cuda(case).run(sparse_moe)
    ends = torch.cat([torch.arange(5), torch.arange(2**20 - 10, 2**20 + 5)])
    assert_solves(got.cpu()[ends], case.but(x=case.x[ends], scores=case.scores[ends]))
