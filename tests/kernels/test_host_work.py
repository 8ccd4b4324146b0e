"""The host's work of a call, counted and not timed, so that no machine changes it."""

import sys
from dataclasses import replace
from functools import partial
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from kernels import host_work
from kernels.call import operator
from kernels.call.unseen import is_unseen
from kernels.host_work import PATHS, arguments, idle_kernels, main
from kernels.launch.launch import recording
from kernels.moe import moe
from tests.kernels.calls import assert_right, new_call
from tests.kernels.test_moe import PATHS as OPTIONS


def calls_of(function: Any) -> int:
    """Return how many functions, Python's and C's, `function` calls."""
    calls = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.parametrize("path", PATHS)
def test_a_call_is_a_look_up_allocations_and_launches(path: str) -> None:
    kind, options = PATHS[path]
    call = partial(moe, *arguments(kind, N=48), options=options)
    with idle_kernels(), torch.no_grad():
        with recording() as records:
            call()
        call()
        assert calls_of(call) <= 60 + 18 * len(records)  # with every check it is 140 for one launch, 400 for five


def test_the_table_names_every_path(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(host_work, "BLOCKS", 1)
    monkeypatch.setattr(host_work, "CALLS", 1)
    assert main() == 0
    shown = capsys.readouterr().out
    assert all(path in shown for path in PATHS)


def test_the_interpreter_is_needed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("TRITON_INTERPRET")
    assert main() == 2
    assert "run it with TRITON_INTERPRET=1" in capsys.readouterr().err


@pytest.mark.parametrize("path", OPTIONS)
def test_a_plan_never_serves_another_call(path: str) -> None:
    options = OPTIONS[path]
    for N, k, dtype in ((2, 2, torch.float32), (1, 2, torch.float32), (2, 3, torch.float32), (2, 2, torch.float16)):
        for seed in (0, 1):
            call = new_call(N, 16, 16, 4, 5, dtype, k=k, seed=seed)
            assert_right(call.run(moe, options=options), call)
        odd = torch.zeros(call.w1.numel() + 1, dtype=dtype)[1:].view(call.w1.shape).copy_(call.w1)
        assert_right(call.but(w1=odd).run(moe, options=options), call)
        other = call.but(temperature=0.5)
        assert_right(other.run(moe, options=options), other)
    with pytest.raises(ValueError, match="k must be between 1 and E = 4, not 5"):
        call.but(k=5).run(moe, options=options)


def test_a_described_product_reads_the_weights_of_its_call() -> None:
    grouped = OPTIONS["grouped"]
    described = replace(grouped, first=replace(grouped.first, described=True))  # type: ignore[attr-defined,type-var]
    for seed in range(3):
        call = new_call(9, 16, 16, 4, 5, seed=seed)
        assert_right(call.run(moe, options=described), call)


def test_the_operator_is_passed_by_only_if_nobody_sees_it() -> None:
    tensors = torch.zeros(1), None, torch.nn.Parameter(torch.zeros(1))
    assert is_unseen(tensors)
    assert not is_unseen((torch.zeros(1, device="meta"),))
    assert not is_unseen((torch.zeros(1).as_subclass(type("Other", (torch.Tensor,), {})),))
    with FlopCounterMode(display=False):
        assert not is_unseen(tensors)
    with torch.overrides.BaseTorchFunctionMode():
        assert not is_unseen(tensors)
    with torch.autograd.profiler.profile():
        assert not is_unseen(tensors)
    seen = []
    torch.func.vmap(lambda x: (seen.append(is_unseen((x,))), x)[1])(torch.ones(2))
    assert seen == [False]


def test_both_ways_give_the_same_result() -> None:
    call = new_call(9, 16, 16, 4, 5)
    unseen = call.run(moe)
    with patch.object(operator, "is_unseen", lambda tensors: False):
        assert torch.equal(call.run(moe), unseen)
