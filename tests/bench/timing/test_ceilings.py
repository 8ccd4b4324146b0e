"""Ceilings: found exactly on simulated machines, plausible on this one."""

import math
import random
import time
from types import SimpleNamespace

import pytest
import torch

from bench.errors import BenchError
from bench.timing import ceilings, environment
from bench.timing.caches import last_cache
from bench.timing.ceilings import ROUNDS, measure_ceilings, working_sets
from bench.timing.clock import Samples

CPU = torch.device("cpu")
LAUNCH = 1e-6


class Machine:
    """A clock that only simulated work moves; most calls are disturbed, so that only the least of many is right."""

    def __init__(self, flops_per_s=2e11, disturbed=0.7):
        self.now = 0.0
        self.flops_per_s = flops_per_s
        self.disturbed = disturbed
        self.rng = random.Random(0)

    def work(self, seconds):
        def call():
            self.now += seconds

        return call

    def product(self, size, by_columns, device, dtype):
        M, K, N = size
        share = 1.0 if size == (4096, 512, 512) and by_columns else 0.7 if M == 256 else 0.8
        return self.work(2 * M * K * N / (share * self.flops_per_s))

    def ways(self, source, target):
        """Two threads take longer where they must wake, and one where the caches end."""
        size = 2 * source.numel() * source.itemsize
        yield self.work(LAUNCH + 30e-6 + size / 1e11)
        yield self.work(LAUNCH + size / (1e11 if size <= 2 * 2**20 else 1e10))

    def timed(self, call, clock, device):
        start = self.now
        call()
        if self.rng.random() < self.disturbed:
            self.now += (self.now - start) * self.rng.uniform(0.1, 2)
        return self.now - start

    def samples(self, call, clock, device, number):
        return Samples([self.timed(call, clock, device) for _ in range(number)], None)


@pytest.fixture
def simulated(monkeypatch):
    def simulate(**properties):
        machine = Machine(**properties)
        monkeypatch.setattr(ceilings, "_product", machine.product)
        monkeypatch.setattr(ceilings, "_ways", machine.ways)
        monkeypatch.setattr(ceilings, "_read", lambda source: machine.work(source.nbytes / 2e11))
        monkeypatch.setattr(ceilings, "_copy", lambda source, target: machine.work(LAUNCH))
        monkeypatch.setattr(ceilings, "timed", machine.timed)
        monkeypatch.setattr(ceilings, "samples", machine.samples)
        monkeypatch.setattr(ceilings, "last_cache", lambda device: 2**20)
        monkeypatch.setattr(ceilings, "time", SimpleNamespace(perf_counter=lambda: machine.now))
        monkeypatch.setattr(ceilings, "_on_cpu", lambda *arguments: ({"launch": 1e-6, "operator": 1e-6}, 99))
        return machine

    return simulate


def test_the_ceilings_of_a_simulated_machine_are_found_through_its_noise(simulated):
    simulated()
    found = measure_ceilings(CPU, torch.float32, seconds=4)
    assert found.product == "4096 x 512 x 512"
    assert found.flops_per_s == pytest.approx(2e11)
    assert [copy.working_set for copy in found.copies] == [2**17, 2**19, 2**21, 2**23]
    best = [1e11, 1e11, 1e11, 2**23 / (30e-6 + 2**23 / 1e11)]
    assert [copy.bytes_per_s for copy in found.copies] == pytest.approx(best)
    assert found.read == pytest.approx(2e11)
    assert found.samples >= ROUNDS


@pytest.mark.parametrize("flops_per_s", [1e9, 1e10, 1e12, 1e13])
def test_the_time_is_bounded_however_slow_products_are(simulated, flops_per_s):
    machine = simulated(flops_per_s=flops_per_s, disturbed=0)
    assert measure_ceilings(CPU, torch.bfloat16, seconds=4).flops_per_s == pytest.approx(flops_per_s, rel=0.31)
    assert machine.now < 8


def test_memory_bounds_what_is_taken(simulated, monkeypatch):
    simulated()
    monkeypatch.setattr(environment, "available_memory", lambda device: 20 * 2**20)
    assert measure_ceilings(CPU, torch.float32).product == "512 x 512 x 512"
    monkeypatch.setattr(environment, "available_memory", lambda device: 13 * 2**20)
    with pytest.raises(BenchError, match=r"copies beyond the caches of cpu .*free some"):
        measure_ceilings(CPU, torch.float32)
    monkeypatch.setattr(environment, "available_memory", lambda device: 2**20)
    with pytest.raises(BenchError, match=r"FLOP/s of cpu needs 3 MiB; free some"):
        measure_ceilings(CPU, torch.float32)


def test_what_one_more_launch_takes_is_free_of_what_a_graph_takes(simulated, monkeypatch):
    machine = simulated(disturbed=0)
    graph, host = 3e-6, machine.work(5e-6)

    def captured(call):
        def replay():
            machine.now += graph
            call()

        return SimpleNamespace(replay=replay)

    kernel = type("Kernel", (), {"__getitem__": lambda self, grid: lambda x: machine.work(LAUNCH)()})()
    monkeypatch.setattr(ceilings, "nothing", kernel)
    monkeypatch.setattr(ceilings, "captured", captured)
    monkeypatch.setattr(torch, "add", lambda *arguments: host())
    found, taken = ceilings._on_gpu(CPU, torch.bfloat16, 0.1)
    assert found["launch"] == pytest.approx(LAUNCH)
    assert found["graph_replay"] == pytest.approx(graph + LAUNCH)
    assert found["operator"] == pytest.approx(5e-6)
    assert taken >= ROUNDS


def test_working_sets_grow_beyond_the_caches():
    assert working_sets(32 * 2**20) == [2**17 * 4**power for power in range(6)]
    assert working_sets(50 * 2**20, 2**31)[-1] == 2**31
    for cache in (1, 2**17, 2**25 + 1, 2**29):
        assert 4 * cache <= working_sets(cache)[-1] <= max(2**17, 16 * cache)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_this_machine(dtype):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    found = measure_ceilings(CPU, dtype, seconds=0.4)
    assert torch.equal(torch.get_rng_state(), before)
    assert found.dtype == str(dtype).removeprefix("torch.")
    assert found.threads == torch.get_num_threads()
    assert found.samples >= ROUNDS
    assert 1e8 < found.flops_per_s < 1e14
    assert found.copies[-1].working_set >= 4 * last_cache(CPU)
    assert all(1e8 < copy.bytes_per_s < 1e13 for copy in found.copies)
    assert 1e-8 < found.launch < found.operator < 1e-4
    assert found.graph_replay is None


@pytest.mark.parametrize(("waking", "found"), [(30e-6, 30e-6), (0.0, 0.0), (-1e-6, 0.0)])
def test_waking_is_what_remains_beside_the_halved_arithmetic(simulated, monkeypatch, waking, found):
    machine, arithmetic = simulated(), 4e-6

    def negate(x, out):
        halves = 2 if len(x) > ceilings.UNSPLIT else 1
        machine.now += LAUNCH + (len(x) > 1) * arithmetic / halves + (halves == 2) * waking

    monkeypatch.setattr(torch, "neg", negate)
    assert ceilings._parallel(CPU, torch.float32, 0.1)[0] == pytest.approx(found, abs=1e-12)


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_one_thread_wakes_none():
    assert 0 <= ceilings._on_cpu(CPU, torch.float32, 0.05)[0]["parallel"] < 0.1
    torch.set_num_threads(1)
    assert "parallel" not in ceilings._on_cpu(CPU, torch.float32, 0.01)[0]


@pytest.mark.usefixtures("two_threads")
def test_torch_splits_one_element_more_than_what_it_leaves_alone():
    """What `parallel` is measured by: the profiler sees no thread, but the seconds of the process's threads do."""
    x = torch.rand(ceilings.UNSPLIT + 1)
    out = torch.empty_like(x)

    def helpers_share(elements):
        part, into = x[:elements], out[:elements]
        whole, own = time.process_time(), time.thread_time()
        for _ in range(200):
            torch.digamma(part, out=into)
        return 1 - (time.thread_time() - own) / (time.process_time() - whole)

    helpers_share(ceilings.UNSPLIT + 1)
    assert helpers_share(ceilings.UNSPLIT) < 0.1
    assert helpers_share(ceilings.UNSPLIT + 1) > 0.25


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gpu(dtype):
    found = measure_ceilings(torch.device("cuda"), dtype, seconds=4)
    assert 1e12 < found.flops_per_s < 2e16
    assert [copy.working_set for copy in found.copies][-1] >= 2**31
    assert 1e11 < found.copies[-1].bytes_per_s < 2e13
    assert 1e-7 < found.launch < 1e-5
    assert found.launch < found.graph_replay < 1e-4
    assert found.launch < found.operator < 1e-4
    assert found.parallel is None
    assert math.isfinite(found.copies[0].bytes_per_s)
