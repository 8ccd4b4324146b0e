"""The last caches of a machine, from a made-up /sys; evicting them shows in a read, and half an eviction is seen."""

import os
import statistics
import time
from types import SimpleNamespace

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from bench.errors import BenchError
from bench.timing import caches
from bench.timing.caches import UNKNOWN, ColdCaches, Rotation, copies_beyond, last_cache

CPU = torch.device("cpu")


def cache(root, cpu, index, level, size, shared):
    entry = root / f"cpu{cpu}" / "cache" / f"index{index}"
    entry.mkdir(parents=True)
    for name, text in (("level", level), ("size", size), ("shared_cpu_list", shared)):
        (entry / name).write_text(f"{text}\n")


@pytest.fixture
def with_cpus(monkeypatch):
    return lambda *numbers: monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(numbers))


def test_a_shared_cache_counts_once_and_two_count_twice(tmp_path, with_cpus):
    for cpu, shared in ((0, "0-1"), (1, "0-1"), (2, "2-3")):
        cache(tmp_path, cpu, 0, 1, "32K", cpu)
        cache(tmp_path, cpu, 2, 2, "1024K", cpu)
        cache(tmp_path, cpu, 3, 3, "32768K", shared)
    with_cpus(0, 1)
    assert last_cache(CPU, tmp_path) == 32 * 2**20
    with_cpus(1, 2)
    assert last_cache(CPU, tmp_path) == 64 * 2**20


@pytest.mark.parametrize(("size", "bytes_"), [("512K", 2**19), ("2M", 2**21), ("1G", 2**30), ("4096", 4096)])
def test_without_a_third_level_the_second_counts(tmp_path, with_cpus, size, bytes_):
    with_cpus(0)
    cache(tmp_path, 0, 1, 1, "64K", 0)
    cache(tmp_path, 0, 2, 2, size, 0)
    assert last_cache(CPU, tmp_path) == bytes_


def test_where_nothing_is_said_a_size_is_assumed(tmp_path, with_cpus):
    with_cpus(0)
    assert last_cache(CPU, tmp_path) == UNKNOWN


def test_this_machine_has_a_plausible_one():
    assert 2**18 <= last_cache(CPU) <= 2**33


def test_a_gpu_says_how_large_its_l2_cache_is(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(L2_cache_size=50 * 2**20))
    assert last_cache(torch.device("cuda")) == 50 * 2**20


@pytest.fixture
def _small(monkeypatch):
    monkeypatch.setattr(caches, "last_cache", lambda device: 2**12)


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


@given(size=st.integers(1, 10**9), cache=st.integers(1, 2**28))
def test_copies_drive_each_other_out(size, cache):
    assume(2 * cache // size + 3 <= caches.MOST_COPIES)
    copies = copies_beyond(size, cache)
    assert copies >= 2
    assert (copies - 1) * size >= 2 * cache
    assert copies == 2 or (copies - 2) * size < 2 * cache


def test_too_many_copies_are_refused():
    with pytest.raises(BenchError, match="copies of 1 bytes would be needed"):
        copies_beyond(1, 2**20)


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
