"""The choice of a plan, held against what it promises."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.launch.integers import cdiv
from kernels.native.plan import plan_of

BLOCK, SHARED = 256, 2**28
SIZES = {"D": 512, "W": 64, "H": 64, "E": 8, "C": 10, "k": 2, "element_size": 4}
LARGE = {"D": 2048, "W": 2048, "H": 1024, "E": 64, "C": 2048, "k": 8, "element_size": 4}


@settings(deadline=None)
@given(N=st.integers(1, 10**6), threads=st.integers(1, 128))
def test_blocks_are_even_and_cover_every_thread(N: int, threads: int) -> None:
    plan = plan_of(N, **SIZES, threads=threads)
    assert 1 <= plan.threads <= threads
    assert 1 <= plan.block <= N
    if not plan.shared:
        rounds = cdiv(cdiv(N, plan.block), plan.threads)  # blocks of the busiest thread
        assert rounds * plan.threads * plan.block <= N + rounds * plan.threads  # at most a row too many in each
        assert plan.block <= BLOCK


def test_few_rows_of_a_small_head_take_one_thread() -> None:
    assert plan_of(1, **SIZES, threads=64) == (1, 1, False)


@pytest.mark.parametrize("threads", [1, 2, 64])
def test_large_layers_are_shared_so_that_weights_are_read_once(threads: int) -> None:
    assert plan_of(16, **LARGE, threads=threads) == (threads, 16, True)
    many = plan_of(10**6, **LARGE, threads=threads)
    assert many.shared
    assert many.block * LARGE["k"] * LARGE["W"] * 4 <= SHARED
