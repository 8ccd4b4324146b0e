"""Cold caches: evicting them is seen in the time of a read, and half an eviction does not pass for one."""

import statistics
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import BenchError
from bench.timing import eviction as cold
from bench.timing.caches import last_cache
from bench.timing.eviction import ColdCaches, Rotation

CPU = torch.device("cpu")


@pytest.fixture
def _small(monkeypatch):
    monkeypatch.setattr(cold, "last_cache", lambda device: 2**12)


def test_the_buffer_is_twice_the_last_cache():
    buffer = ColdCaches(CPU)._buffer
    assert buffer.numel() * buffer.itemsize >= 2 * last_cache(CPU)


@pytest.mark.usefixtures("_small")
def test_whole_evictions_are_proven():
    caches = ColdCaches(CPU)
    caches.check()
    for _ in range(5):
        caches.evict()
    caches.check()


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize(
    "mutant",
    [
        lambda buffer: buffer[: buffer.numel() // 2].add_(1),
        lambda buffer: buffer[:-1].add_(1),
        lambda buffer: buffer[::16].add_(1),
        lambda buffer: buffer.sum(),
    ],
)
def test_part_of_an_eviction_is_not(mutant, monkeypatch):
    def evict(caches):
        mutant(caches._buffer)
        caches._evictions += 1

    monkeypatch.setattr(ColdCaches, "evict", evict)
    caches = ColdCaches(CPU)
    caches.evict()
    with pytest.raises(BenchError, match=r"not cold: after 1 evictions .* 0 to [01] times"):
        caches.check()


def test_a_read_after_an_eviction_is_slower_than_one_after_a_read():
    """One thread reads one MiB, which fits the caches; medians of many, since a neighbour may evict it too."""
    caches, read = ColdCaches(CPU), torch.ones(2**20 // 4)
    threads = torch.get_num_threads()
    warm, after_eviction = [], []

    def seconds():
        start = time.perf_counter()
        read.sum()
        return time.perf_counter() - start

    try:
        torch.set_num_threads(1)
        for _ in range(41):
            read.sum()
            warm.append(seconds())
            caches.evict()
            after_eviction.append(seconds())
    finally:
        torch.set_num_threads(threads)
    caches.check()
    assert statistics.median(after_eviction) > 1.2 * statistics.median(warm)


@given(copies=st.integers(1, 7), uses=st.integers(0, 40))
def test_copies_come_in_turn(copies, uses):
    xs = [torch.full((2, 3), float(number)) for number in range(copies)]
    rotation = Rotation(xs, lambda x: lambda: int(x[0, 0]))
    given_out = []
    for _ in range(uses):
        rotation.turn()
        given_out.append(rotation.call())
    assert given_out == [number % copies for number in range(1, uses + 1)]
    assert rotation.uses == [given_out.count(number) for number in range(copies)]
    rotation.check()


@given(uses=st.lists(st.integers(0, 6), min_size=1, max_size=5))
def test_only_use_in_turn_passes(uses):
    rotation = Rotation([torch.zeros(1) for _ in uses], lambda x: x.sum)
    rotation.uses = list(uses)
    if max(uses) - min(uses) <= 1:
        rotation.check()
    else:
        with pytest.raises(BenchError, match="instead of in turn"):
            rotation.check()


def test_calls_without_a_turn_between_them_are_found_out():
    rotation = Rotation([torch.zeros(1), torch.zeros(1)], lambda x: x.sum)
    for _ in range(3):
        rotation.call()
    with pytest.raises(BenchError, match="instead of in turn"):
        rotation.check()


def test_copies_that_share_memory_are_refused():
    x = torch.zeros(3)
    with pytest.raises(BenchError, match="share memory"):
        Rotation([x, x], lambda x: x.sum)
    Rotation([torch.zeros(0, 4), torch.zeros(0, 4)], lambda x: x.sum)


@pytest.mark.gpu
def test_eviction_on_a_gpu():
    from bench.timing.clock import timed

    device = torch.device("cuda")
    caches, x, y = ColdCaches(device), torch.ones(2**22, device=device), torch.empty(2**22, device=device)
    warm, after_eviction = [], []
    for _ in range(40):
        y.copy_(x)
        warm.append(timed(lambda: y.copy_(x), "device", device))
        caches.evict()
        after_eviction.append(timed(lambda: y.copy_(x), "device", device))
    caches.check()
    assert statistics.median(after_eviction) > 1.1 * statistics.median(warm)
