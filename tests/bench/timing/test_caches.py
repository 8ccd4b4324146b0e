"""The last caches of a machine, from a made-up /sys."""

import os
from types import SimpleNamespace

import pytest
import torch

from bench.timing.caches import UNKNOWN, last_cache

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
