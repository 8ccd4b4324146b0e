"""The sum of parts against torch, for numbers of parts around those that are loaded at once."""

import pytest
import torch
import triton
import triton.language as tl

from kernels.ops.parts import at_once, sum_parts, waits


@triton.jit
def _sum_kernel(stored, out, number, parts: tl.constexpr, block: tl.constexpr):
    place = tl.arange(0, block)
    inside = place < number
    total = sum_parts(stored, tl.cast(number, tl.int64), place, inside, parts)
    tl.store(out + place, total, mask=inside)


@pytest.mark.parametrize("block", [16, 2048])
@pytest.mark.parametrize("parts", [1, 3, 4, 7, 8, 9, 16, 27])
def test_each_part_is_added_once_and_in_order(parts: int, block: int) -> None:
    number = block - 3
    stored = torch.randn(parts, number, generator=torch.Generator().manual_seed(parts))
    out = torch.empty(number)
    _sum_kernel[(1,)](stored, out, number, parts, block)
    expected = torch.zeros(number)
    for part in stored:
        expected += part
    assert torch.equal(out, expected)


def test_small_parts_are_loaded_together_and_large_ones_one_by_one() -> None:
    assert [at_once(numel) for numel in (16, 1024, 2048, 4096, 2**14)] == [8, 8, 4, 2, 1]


def test_a_sum_waits_to_store_for_a_ticket_and_for_each_group_of_loads() -> None:
    assert [waits(parts, 256) for parts in (1, 2, 8, 9, 64)] == [0, 3, 3, 4, 10]
