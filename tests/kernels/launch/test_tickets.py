"""Tickets find the last program, and captured launches never share counters."""

import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.launch import tickets
from kernels.launch.launch import launch
from kernels.launch.tickets import LINE, MOST, RESERVE, _Reserve, counters, take_ticket

CPU = torch.device("cpu")


@triton.jit
def _last_kernel(counter, seen, programs: tl.constexpr):
    last = take_ticket(counter + tl.program_id(0), programs)
    tl.store(seen + tl.program_id(0) * programs + tl.program_id(1), last.to(tl.int32))


def last(counter: Tensor, sums: int, programs: int) -> Tensor:
    """Return which program of each sum the ticket calls the last, (sums, programs)."""
    seen = torch.empty(sums, programs, dtype=torch.int32)
    launch("combine", _last_kernel, (sums, programs), {"counter": counter, "seen": seen, "programs": programs})
    return seen


@pytest.mark.parametrize(("sums", "programs"), [(1, 2), (3, 4), (5, 7)])
def test_one_program_of_each_sum_is_the_last_time_after_time(sums: int, programs: int) -> None:
    counter = counters(sums, CPU)
    for _ in range(3):
        seen = last(counter, sums, programs)
        assert torch.equal(seen.sum(dim=1), torch.ones(sums, dtype=torch.int64))
        assert counter.count_nonzero() == 0


def test_too_many_sums_are_refused() -> None:
    with pytest.raises(ValueError, match=f"at most {MOST} split sums, not {MOST + 1}: use larger tiles"):
        counters(MOST + 1, CPU)


@pytest.fixture
def capture(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Stand in for the driver: the capture under way has this number, and its graph this lifetime."""
    now = SimpleNamespace(number=0, life=SimpleNamespace(over=False))
    monkeypatch.setattr(tickets, "capture_number", lambda: now.number)
    monkeypatch.setattr(tickets, "lifetime", lambda: now.life)
    return now


def start(part: Tensor | None) -> int:
    assert part is not None
    return int(part[0])


@pytest.mark.parametrize("numbers", [(1, LINE, LINE + 1, 3)])
def test_a_reserve_gives_each_graph_lines_that_no_other_has(capture: SimpleNamespace, numbers: tuple[int, ...]) -> None:
    reserve = _Reserve(torch.arange(RESERVE))
    starts = []
    for capture.number, number in enumerate(numbers):
        part = reserve.take(number, 0)
        assert part is not None
        assert len(part) >= number
        starts.append(start(part))
    assert starts == [0, LINE, 2 * LINE, 4 * LINE]


def test_launches_of_a_graph_share_their_counters_on_one_stream_alone(capture: SimpleNamespace) -> None:
    reserve = _Reserve(torch.arange(RESERVE))
    first = start(reserve.take(5, stream=1))
    assert start(reserve.take(7, stream=1)) == first
    assert start(reserve.take(5, stream=2)) != first
    capture.number += 1
    assert start(reserve.take(5, stream=1)) not in (first, LINE)


def test_without_a_driver_that_knows_the_capture_each_launch_keeps_its_counters(capture: SimpleNamespace) -> None:
    capture.number = None
    reserve = _Reserve(torch.arange(RESERVE))
    assert [start(reserve.take(5, 0)) for _ in range(3)] == [0, LINE, 2 * LINE]


def test_a_destroyed_graph_gives_its_counters_back(capture: SimpleNamespace) -> None:
    reserve = _Reserve(torch.arange(RESERVE))
    lives = []
    for capture.number in range(RESERVE // MOST):
        lives.append(SimpleNamespace(over=False))
        capture.life = lives[-1]
        assert start(reserve.take(MOST, 0)) == capture.number * MOST
    capture.number += 1
    with pytest.warns(UserWarning, match=f"hold all {RESERVE} counters"):
        assert reserve.take(1, 0) is None
    assert reserve.take(1, 0) is None  # without a second warning, which would be an error
    lives[3].over = True
    assert start(reserve.take(MOST, 0)) == 3 * MOST
    capture.number += 1
    assert reserve.take(MOST, 0) is None


def test_the_first_calls_of_a_stream_agree_on_its_counters(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def zeros(number: int, device: torch.device) -> Tensor:
        time.sleep(0.01)
        made.append(number)
        return torch.zeros(number, dtype=torch.int32)

    monkeypatch.setattr(tickets, "_lasting_zeros", zeros)
    monkeypatch.setattr(tickets, "_streams", {})
    monkeypatch.setattr(tickets, "_reserves", {})
    with ThreadPoolExecutor(4) as threads:
        same = list(threads.map(lambda _: tickets._first_zeros(torch.device("cuda"), 7).data_ptr(), range(4)))
    assert len(set(same)) == 1
    assert sorted(made) == [MOST, RESERVE]
