"""Timing a group: interleaved blocks of what is right, and a reason for everything else."""

import gc
import math
import time
from dataclasses import replace

import pytest
import torch

from bench.targets import measure as timings
from bench.targets.measure import BLOCKS, time_group
from bench.targets.peers import Peer, Prepared, peers
from bench.targets.peers.layers import E128, PAPER
from bench.targets.peers.peer import always
from bench.targets.plan import Group
from bench.timing.stopwatch import samples
from reports.records.record import Status

CPU = torch.device("cpu")
LAYER = replace(PAPER, name="tiny", D=16, H=8, E=4, C=3)


@pytest.fixture(autouse=True)
def _one_thread():
    """Small operators on a busy machine wait long for a second thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def run(group, *, deadline=math.inf, seconds=0.001, seed=0):
    cases = time_group(group, CPU, seconds, deadline, seed, lambda what, share: None)
    return {(case.routing, case.peer, case.clock, case.cache): case for case in cases}


def group(*names, **more):
    return Group(LAYER, 9, torch.float32, names, **more)


@pytest.fixture
def with_peer(monkeypatch):
    """Register a peer that computes `function(tensors, x)`."""

    def register(name, function, **more):
        made = Peer(name, "", always, lambda tensors: Prepared(lambda x: function(tensors, x)), **more)
        monkeypatch.setitem(peers(), name, made)

    return register


def right(tensors, x):
    with torch.inference_mode():
        return peers()["masked"].prepare(tensors).run(x)


def test_cases_are_sampled_in_the_same_blocks():
    found = run(group("loop", "masked", "dense", skewed=("masked",)))
    assert {case.status for case in found.values()} == {Status.MEASURED}
    assert len({case.group_id for case in found.values()}) == 1
    for case in found.values():
        assert sorted(set(case.blocks)) == list(range(BLOCKS))
        assert len(case.samples) == len(case.blocks)
        assert all(sample > 0 for sample in case.samples)
        assert case.error <= case.tolerance
        assert case.setup > 0
        assert case.flops > 0
    assert {key[0] for key in found} == {"balanced", "zipf", "hot"}
    assert ("balanced", "loop", "graph", "warm") not in found  # it waits for the device, so no graph can hold it
    assert ("balanced", "loop", "call", "warm") in found


def test_the_order_within_blocks_is_shuffled(monkeypatch):
    taken = []
    monkeypatch.setattr(timings, "_take_block", lambda entry, device, block: taken.append((block, entry.case.key)))
    run(group("loop", "masked", "dense"), seed=3)
    orders = [tuple(key for other, key in taken if other == block) for block in range(BLOCKS)]
    assert len(set(orders)) > 1
    assert {frozenset(order) for order in orders} == {frozenset(orders[0])}


@pytest.mark.parametrize(
    "wrong",
    [
        lambda out: out.roll(1, 0),
        lambda out: out * 1.01,
        lambda out: out[:-1],
        lambda out: torch.full_like(out, torch.nan),
        lambda out: torch.empty_like(out),
    ],
)
def test_a_wrong_output_gets_no_time(with_peer, wrong):
    with_peer("mutant", lambda tensors, x: wrong(right(tensors, x)))
    found = run(group("mutant", "masked"))
    mutant = found["balanced", "mutant", "graph", "warm"]
    assert mutant.status is Status.WRONG
    assert mutant.samples == []
    assert "deviates" in mutant.reason
    assert found["balanced", "masked", "graph", "warm"].status is Status.MEASURED


def test_what_raises_fails_alone(with_peer):
    def raising(tensors, x):
        raise RuntimeError("no such instruction\nlong trace")

    with_peer("broken", raising)
    found = run(group("broken", "masked"))
    assert found["balanced", "broken", "call", "warm"].reason == "RuntimeError: no such instruction"
    assert found["balanced", "masked", "call", "warm"].status is Status.MEASURED


def test_what_raises_while_timed_has_no_time(with_peer):
    calls = []

    def tiring(tensors, x):
        calls.append(1)
        if len(calls) > 12:
            raise RuntimeError("tired")
        return right(tensors, x)

    with_peer("tiring", tiring)
    found = run(group("tiring", "masked"))
    assert Status.FAILED in {case.status for case in found.values() if case.peer == "tiring"}
    assert all(case.samples == [] for case in found.values() if case.status is Status.FAILED)


def test_a_compilation_while_timed_fails_the_case(with_peer):
    compiled = torch.compile(lambda x: x * 2, dynamic=False, backend="eager")
    sizes = iter(range(2, 10_000))

    def recompiling(tensors, x):
        compiled(torch.ones(next(sizes)))
        return right(tensors, x)

    with_peer("recompiling", recompiling)
    found = run(group("recompiling", "masked", clocks=(("call", "warm"),)))
    assert found["balanced", "recompiling", "call", "warm"].status is Status.FAILED
    assert "compiled" in found["balanced", "recompiling", "call", "warm"].reason
    assert found["balanced", "masked", "call", "warm"].status is Status.MEASURED


def test_garbage_collected_while_timed_fails_the_case(with_peer):
    calls = []

    def littering(tensors, x):
        calls.append(1)
        if len(calls) > 12:
            gc.collect()
        return right(tensors, x)

    with_peer("littering", littering)
    found = run(group("littering", "masked", clocks=(("call", "warm"),)))
    assert found["balanced", "littering", "call", "warm"].status is Status.FAILED
    assert "garbage" in found["balanced", "littering", "call", "warm"].reason
    assert found["balanced", "masked", "call", "warm"].status is Status.MEASURED


def test_a_peer_that_would_not_be_ready_in_time_is_left_out(with_peer):
    with_peer("slow", right, setup=1000.0)
    found = run(group("slow", "masked"), deadline=time.monotonic() + 100)
    assert found["balanced", "slow", "call", "warm"].status is Status.SKIPPED
    assert "1000 s" in found["balanced", "slow", "call", "warm"].reason
    assert found["balanced", "masked", "call", "warm"].status is Status.MEASURED


def test_a_layer_beyond_the_memory_is_told(monkeypatch):
    def too_large(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate\n...")

    monkeypatch.setattr(timings, "new_tensors", too_large)
    found = run(group("masked"))
    assert {case.status for case in found.values()} == {Status.SKIPPED}
    assert "out of memory" in found["balanced", "masked", "call", "warm"].reason


def test_our_kernels_are_checked_and_never_timed_by_the_interpreter():
    ours = run(group("ours", "masked"))["balanced", "ours", "graph", "warm"]
    assert ours.status is Status.UNAVAILABLE
    assert "interpreter" in ours.reason
    assert ours.error <= ours.tolerance
    assert ours.samples == []


def test_samples_come_from_all_sets_of_rows():
    calls = []
    found = samples([lambda: calls.append(0), lambda: calls.append(1)], "call", "warm", CPU, 5)
    assert (len(found), calls) == (5, [0, 1, 0, 1, 0])
    assert len(samples([lambda: None], "graph", "cold", CPU, 3)) == 3


@pytest.mark.gpu
def test_a_group_on_a_gpu():
    device = torch.device("cuda")
    names = ("empty", "copy", "ours", "ours_fused", "ours_grouped", "loop", "grouped_mm", "masked", "dense")
    head = Group(PAPER, 256, torch.bfloat16, names)
    small = replace(E128, D=256, H=128, E=16, k=4, C=256)
    skewed = Group(small, 512, torch.bfloat16, ("ours", "ours_products", "ours_given", "cublas"), ("ours",))
    for planned in (head, skewed):
        cases = time_group(planned, device, 0.02, math.inf, 0, lambda what, share: None)
        assert {case.status: case.reason for case in cases} == {Status.MEASURED: ""}
    graph = {case.peer: min(case.samples) for case in cases if case.clock == "graph" and case.cache == "warm"}
    assert all(1e-6 < seconds < 1e-3 for seconds in graph.values())


@pytest.mark.gpu
def test_a_replay_takes_no_host_time_and_cold_is_slower():
    found = {}
    for case in time_group(
        Group(PAPER, 64, torch.bfloat16, ("empty", "dense")), torch.device("cuda"), 0.05, math.inf, 0, lambda *a: None
    ):
        found[case.peer, case.clock, case.cache] = sorted(case.samples)[len(case.samples) // 2]
    assert found["empty", "graph", "warm"] < 8e-6
    assert found["empty", "graph", "warm"] < found["empty", "call", "warm"]
    assert found["dense", "graph", "warm"] < found["dense", "graph", "cold"]
