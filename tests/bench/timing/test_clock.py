"""Clocks against a call of known length."""

import time
from statistics import median

import pytest
import torch

from bench.errors import BenchError
from bench.timing import clock
from bench.timing.caches import ColdCaches
from bench.timing.clock import Longer, Samples, clocks, samples, slopes, timed
from bench.timing.graphs import captured, nothing

CPU = torch.device("cpu")


def test_wall_sees_the_whole_call():
    shortest = min(timed(lambda: time.sleep(0.02), "wall", CPU) for _ in range(3))
    assert 0.02 <= shortest < 0.04


def test_a_cpu_has_the_wall_clock_only():
    assert clocks(CPU) == ("wall",)


@pytest.fixture
def events(monkeypatch):
    """Stand in for a GPU: what is sent to it in order, and events that lie one second apart from each to the next."""
    sent = []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            self.at = len(sent)
            sent.append("event")

        def elapsed_time(self, other):
            return 1e3 * (other.at - self.at)

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "_sleep", lambda cycles: sent.append("pause"))
    monkeypatch.setattr(clock, "synchronise", lambda device: sent.append("wait"))
    return sent


def replay(sent):
    def call():
        sent.append("replay")
        return len(sent)

    return call


def test_warm_replays_come_in_a_burst_each_after_one_more_and_a_pause(events):
    found = samples(replay(events), "graph", torch.device("cuda"), 3)
    assert events == ["replay", "pause", "event", "replay", "event"] * 3 + ["wait"]
    assert found == ([2.0] * 3, 14, [])


def test_cold_replays_come_each_after_the_eviction_alone(events):
    found = samples(replay(events), "graph", torch.device("cuda"), 3, lambda: events.append("evict"))
    assert events == ["evict", "event", "replay", "event"] * 3 + ["wait"]
    assert found.seconds == [2.0] * 3


@pytest.mark.parametrize(("calls", "further"), [(1, 20), (1, 2), (7, 7)])
def test_a_slope_is_free_of_what_a_replay_costs(monkeypatch, calls, further):
    per_call, beside = 1.5e-6, 4e-6
    short, long = beside + calls * per_call, beside + (calls + further) * per_call
    disturbed = [short, short, short, short + 1e-3, short]

    def replays(replay, device, number, before):
        return Samples([long] * number if replay == "many" else disturbed[:number], replay)

    monkeypatch.setattr(clock, "_replays", replays)
    result = slopes("one", Longer("many", calls, further), CPU, 5)
    assert result.seconds == pytest.approx([per_call] * 5)
    assert result.offsets == pytest.approx([beside, beside, beside, beside + 1e-3, beside])
    assert result.output == "many"
    long = short
    with pytest.raises(BenchError, match="took no longer"):
        slopes("one", Longer("many", calls, further), CPU, 5)


@pytest.mark.parametrize("name", ["wall", "device"])
def test_other_clocks_wait_for_every_call_and_what_comes_before_is_not_timed(name, monkeypatch):
    order = []
    monkeypatch.setattr(clock, "_device", lambda call, device: (order.append("start"), call(), order.append("end"))[:2])
    monkeypatch.setattr(clock, "_wall", clock._device)
    samples(lambda: order.append("call"), name, CPU, 2, lambda: order.append("before"))
    assert order == ["before", "start", "call", "end"] * 2


@pytest.mark.gpu
def test_both_clocks_see_the_work_on_a_gpu():
    device = torch.device("cuda", 0)
    assert clocks(device) == ("wall", "device")
    x = torch.randn(4096, 4096, device=device)

    def work():
        for _ in range(20):
            torch.mm(x, x)

    timed(work, "wall", device)
    on_device, wall = (min(timed(work, clock, device) for _ in range(5)) for clock in ("device", "wall"))
    assert on_device > 20 * 2 * 4096**3 / 1e15
    assert wall == pytest.approx(on_device, rel=0.1)


@pytest.mark.gpu
def test_a_replay_takes_no_host_time_and_cold_is_slower():
    device = torch.device("cuda", 0)
    one, w = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for size in (1, 1024))
    x = torch.randn(64, 1024, device=device, dtype=torch.bfloat16)
    empty, product = captured(lambda: nothing[(1,)](one)), captured(lambda: torch.mm(x, w))
    caches = ColdCaches(device)

    def middle(call, clock, before=None):
        return median(samples(call, clock, device, 40, before).seconds)

    assert 1e-7 < middle(empty, "graph") < 8e-6
    assert middle(empty, "graph") < middle(empty, "wall")
    assert middle(product, "graph") < middle(product, "graph", caches.evict)
