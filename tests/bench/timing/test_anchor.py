"""The anchor: the same work every time, seen through interruptions."""

import time

import numpy as np
import pytest
import torch

from bench.timing import anchor
from bench.timing.anchor import Anchor

CPU = torch.device("cpu")


def test_the_anchor_takes_a_fraction_of_a_millisecond():
    found = Anchor(CPU)
    assert 2e-5 < min(found.time() for _ in range(20)) < 5e-3


def test_two_anchors_do_the_same_work():
    first, second = Anchor(CPU), Anchor(CPU)
    first.time()
    assert torch.equal(first._y, second._y)
    x, w = (tensor.double().numpy() for tensor in (first._x, first._w))
    assert np.allclose(first._y.numpy(), 1 / (1 + np.exp(-(x @ w))), atol=1e-4)


def test_one_interruption_does_not_move_it(monkeypatch):
    calls, interrupted = [], 0

    def work(self):
        calls.append(1)
        time.sleep(0.05 if len(calls) == interrupted else 0.002)

    monkeypatch.setattr(Anchor, "_work", work)
    found = Anchor(CPU)
    for timing in range(anchor.TIMINGS + 1):
        interrupted = len(calls) + 1 + timing
        assert 0.002 <= found.time() < 0.04


def test_a_slower_machine_moves_it(monkeypatch):
    pace = 0.002
    monkeypatch.setattr(Anchor, "_work", lambda self: time.sleep(pace))
    found = Anchor(CPU)
    before = found.time()
    pace = 0.02
    assert found.time() > 3 * before


def test_it_draws_nothing_from_the_shared_generator():
    before = torch.get_rng_state()
    Anchor(CPU)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.gpu
def test_the_anchor_on_a_gpu():
    found = Anchor(torch.device("cuda"))
    times = [found.time() for _ in range(20)]
    assert 1e-4 < min(times) < 5e-3
    assert np.median(times) < 1.2 * min(times)
