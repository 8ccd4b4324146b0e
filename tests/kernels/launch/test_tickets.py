"""Tickets find the last program, and captured launches never share counters."""

import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor

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


def test_a_reserve_gives_each_launch_lines_of_its_own() -> None:
    reserve = _Reserve(torch.arange(RESERVE))
    taken = [reserve.take(number) for number in (1, LINE, LINE + 1, 3)]
    starts = [int(part[0]) for part in taken if part is not None]
    assert starts == [0, LINE, 2 * LINE, 4 * LINE]
    assert all(start % LINE == 0 for start in starts)
    reserve.taken = RESERVE - LINE
    assert reserve.take(LINE + 1) is None
    assert reserve.take(LINE) is not None
    assert reserve.take(1) is None
