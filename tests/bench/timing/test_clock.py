"""Clocks against a call of known length."""

import time

import pytest
import torch

from bench.timing.clock import clocks, timed

CPU = torch.device("cpu")


def test_wall_sees_the_whole_call():
    shortest = min(timed(lambda: time.sleep(0.02), "wall", CPU) for _ in range(3))
    assert 0.02 <= shortest < 0.04


def test_a_cpu_has_the_wall_clock_only():
    assert clocks(CPU) == ("wall",)


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
