"""Plans repeat the steps of a call for other tensors, and never for another layout or setting."""

import gc
import weakref
from collections.abc import Hashable, Iterator
from contextlib import contextmanager, nullcontext
from typing import cast

import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

import kernels.launch.checks
from kernels.launch.checks import Tensors
from kernels.launch.descriptors import describe, pointed
from kernels.launch.launch import launch, name_stages, recording
from kernels.launch.plan import Planned, noted, planned


@triton.jit
def _subtract_kernel(a, b, out, N, scale, block: tl.constexpr):
    n = tl.arange(0, block)
    inside = n < N
    tl.store(out + n, tl.load(a + n, mask=inside) - scale * tl.load(b + n, mask=inside), mask=inside)


def subtract(a: Tensor, b: Tensor, scale: float) -> Tensor:
    """Return a - scale b by a launch, the result in the shape (1, N)."""
    if scale == 0:
        raise ValueError("scale must not be 0")
    out = torch.empty(1, len(a), dtype=a.dtype, device=a.device)
    tensors = {"a": a.contiguous(), "b": b.contiguous()[None], "out": out.flatten()}
    launch("combine", _subtract_kernel, (1,), {**tensors, "N": len(a), "scale": scale, "block": 8})
    return out


def counted() -> tuple[Planned, list[Hashable]]:
    """Return a planned function of two vectors and a scale, and the settings of the calls that it worked out."""
    worked: list[Hashable] = []

    @planned
    def function(tensors: Tensors, settings: Hashable) -> Tensor:
        worked.append(settings)
        a, b = cast("list[Tensor]", tensors)
        total = subtract(a, b, cast("float", settings))
        return subtract(torch.sort(total.flatten())[0], b, 1.0)  # a view that torch needs, a tuple, two launches

    return function, worked


def expected(a: Tensor, b: Tensor, scale: float) -> Tensor:
    """Return what the function does, by torch."""
    return ((a - scale * b).sort().values - b)[None]


def vectors(N: int, seed: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Return two vectors of small integers."""
    g = torch.Generator().manual_seed(seed)
    return torch.randint(-8, 9, (N,), generator=g).to(dtype), torch.randint(-8, 9, (N,), generator=g).to(dtype)


def test_a_layout_is_worked_out_once_and_any_other_again() -> None:
    function, worked = counted()
    for seed in range(3):
        a, b = vectors(5, seed)
        assert torch.equal(function((a, b), 2.0), expected(a, b, 2.0))
    assert len(worked) == 1
    first, second = vectors(5, 7)
    apart, odd = torch.zeros(5, 2), torch.zeros(6)[1:]
    apart[:, 0], odd[:] = first, first
    others = [(apart[:, 0], second), (odd, second), vectors(6, 1), vectors(1, 1), vectors(5, 1, torch.float16)]
    for a, b in others:
        before = len(worked)
        for _ in range(2):
            assert torch.equal(function((a, b), 2.0), expected(a, b, 2.0))
        assert len(worked) == before + 1
    assert torch.equal(function((first, second), 3.0), expected(first, second, 3.0))
    assert worked[-1] == 3.0


def test_a_tensor_passed_twice_is_two_tensors() -> None:
    function, worked = counted()
    a, b = vectors(5, 0)
    assert torch.equal(function((a, a), 2.0), expected(a, a, 2.0))
    assert torch.equal(function((a, b), 2.0), expected(a, b, 2.0))
    assert torch.equal(function((b, a), 2.0), expected(b, a, 2.0))
    assert len(worked) == 1


def test_results_are_new_and_nothing_is_held() -> None:
    function, _ = counted()
    a, b = vectors(5, 0)
    kept, again = function((a, b), 2.0), function((a, b), 2.0)
    assert kept.data_ptr() != again.data_ptr()
    gone = [weakref.ref(tensor) for tensor in (a, b, kept, again)]
    del a, b, kept, again
    gc.collect()
    assert [tensor() for tensor in gone] == [None] * 4


def test_an_error_is_raised_each_time() -> None:
    function, worked = counted()
    for _ in range(2):
        with pytest.raises(ValueError, match="scale must not be 0"):
            function(vectors(5, 0), 0.0)
    assert len(worked) == 2


def test_few_plans_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels.launch.checks, "MOST_REMEMBERED", 2)
    function, worked = counted()
    for N in (2, 3, 4, 4, 2):  # the third forgets the first two
        function(vectors(N, 0), 2.0)
    assert len(worked) == 4


def test_recorded_launches_are_worked_out_each_time() -> None:
    function, worked = counted()
    a, b = vectors(5, 0)
    function((a, b), 2.0)
    for _ in range(2):
        with recording() as records:
            function((a, b), 2.0)
        assert [made.arguments["scale"] for made in records] == [2.0, 1.0]
    assert len(worked) == 3


def test_stages_named_later_are_seen() -> None:
    function, _ = counted()
    seen = []

    @contextmanager
    def note(stage: str) -> Iterator[None]:
        seen.append(stage)
        yield

    function(vectors(5, 0), 2.0)
    name_stages(note)
    try:
        function(vectors(5, 0), 2.0)
    finally:
        name_stages(nullcontext)
    assert seen == ["combine", "combine"]


def test_a_noted_function_is_called_each_time() -> None:
    made: list[Tensor] = []

    @noted
    def changing(number: int) -> Tensor:
        made.append(torch.full((number,), float(len(made))))
        return made[-1]

    @planned
    def function(tensors: Tensors, settings: Hashable) -> Tensor:
        (a,) = cast("list[Tensor]", tensors)
        return subtract(a, changing(len(a)), 1.0)

    results = [function((torch.zeros(2),), None) for _ in range(3)]
    assert [result[0, 0].item() for result in results] == [-1.0, -2.0, -3.0]  # the first call made one to plan
    assert changing(1).item() == 4.0


def test_what_a_plan_cannot_hold_is_refused() -> None:
    lasting = torch.zeros(5)

    @planned
    def foreign(tensors: Tensors, settings: Hashable) -> Tensor:
        return subtract(cast("Tensor", tensors[0]), lasting, 1.0)

    @planned
    def listed(tensors: Tensors, settings: Hashable) -> Tensor:
        return torch.cat(cast("list[Tensor]", [*tensors]))

    with pytest.raises(TypeError, match="a tensor that no call of torch made: let `noted` wrap what made it"):
        foreign((torch.zeros(5),), None)
    with pytest.raises(TypeError, match="tensors that cat takes by name or in a list"):
        listed((torch.zeros(5),), None)


def test_a_descriptor_points_to_another_tensor_of_the_layout() -> None:
    one, other = torch.zeros(4, 16), torch.ones(4, 16)
    descriptor = describe("a", one, [4, 16])
    moved = pointed(descriptor, other)
    assert isinstance(moved, TensorDescriptor)
    assert moved.base is other
    assert descriptor.base is one
    assert {**vars(moved), "base": None} == {**vars(descriptor), "base": None}
    assert pointed(descriptor, None).base is None
