"""The seconds of one launch follow its work."""

from dataclasses import replace

import pytest

from kernels.cost.machine import H100
from kernels.cost.port import share
from kernels.cost.seconds import CLOCK_SECONDS, held_at_once, seconds
from kernels.cost.work import LaunchWork

WORK = LaunchWork(
    "experts", "kernel", programs=132, flops=10**9, read=10**7, written=0, touched=10**7, unit="half", tile=(128, 128)
)


def test_a_launch_takes_whole_rounds() -> None:
    one = seconds(WORK, H100, 0.0)
    more = replace(WORK, programs=133, flops=WORK.flops * 133 // 132, read=WORK.read * 133 // 132)
    assert seconds(more, H100, 0.0) > one + 0.9 * WORK.flops / (share(WORK, H100) * H100.half_rate)


def test_memory_and_programs_hardly_hide_each_other() -> None:
    empty = replace(WORK, flops=0, read=0, touched=0, start=0)
    start = replace(empty, start=10)
    memory = replace(empty, touched=int(seconds(start, H100, 1.0) * H100.dram_rate))
    both = replace(start, touched=memory.touched)
    longest = max(seconds(start, H100, 1.0), seconds(memory, H100, 1.0))
    assert longest < seconds(both, H100, 1.0) < 1.1 * longest
    assert seconds(replace(both, touched=10 * both.touched), H100, 1.0) == pytest.approx(
        seconds(replace(memory, touched=10 * memory.touched), H100, 1.0), rel=1e-6
    )


@pytest.mark.parametrize(
    ("change", "held"),
    [
        ({"shared": 96 * 1024}, 2),
        ({"shared": 200 * 1024}, 1),
        ({"warps": 8, "held": 128 * 128}, 2),
        ({"warps": 8, "held": 128 * 256}, 1),
        ({"warps": 16}, 2),
        ({"persistent": True}, 1),
    ],
)
def test_how_many_programs_a_multiprocessor_holds(change: dict[str, int], held: int) -> None:
    assert held_at_once(replace(WORK, **change), H100) == held  # type: ignore[arg-type]


def test_counted_instructions_take_time_and_halve_the_waits() -> None:
    alone = replace(WORK, flops=0, read=0, start=0)
    counted = replace(alone, instructions=1000, barriers=10)
    clocks = (seconds(counted, H100, 0.0) - seconds(alone, H100, 0.0)) / CLOCK_SECONDS
    assert clocks == pytest.approx(2 * 1000 + 30 * 10)
    crowded = replace(counted, programs=132 * 16)
    clocks = (seconds(crowded, H100, 0.0) - seconds(replace(alone, programs=132 * 16), H100, 0.0)) / CLOCK_SECONDS
    assert clocks >= 16 * 4 * 1000 / 4  # four warps of 16 programs, of which four execute at a time
    waiting = replace(alone, start=10)
    assert seconds(replace(waiting, instructions=1), H100, 0.0) == pytest.approx(
        (seconds(waiting, H100, 0.0) + seconds(alone, H100, 0.0)) / 2, rel=1e-3
    )
