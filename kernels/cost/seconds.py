"""From the work of launches to the seconds that they take on a machine.

A call takes the sum, over its launches, of

    launch + the two together: memory = touched x missing / DRAM
                               programs = waves x start x wait + the longest of
                                   asked / L2
                                   rounds x F / (share x FLOP rate of a multiprocessor)
                                   rounds x B / a multiprocessor's rate from L2
                                   rounds x U / 128 x clock
                                   waves x fillings x wait
                               + max(waves x 2 x I, rounds x warps x I / 4) x clock + waves x 30 x barriers x clock

with, for each launch (`kernels.cost.work` says what counts):

    touched    bytes of different values; missing is the share of them that the L2 cache lost since the last call:
               all if cold, else 1 - L2 size / touched bytes of the whole call, at least 0
    asked      bytes that programs read and write
    F, B, U    FLOPs and bytes of one program, and instructions of its threads that unpack stored weights: a
               multiprocessor executes those of 128 threads in a clock
    rounds     programs over multiprocessors, rounded up: a last round takes as long as a full one
    waves      programs over those that shared memory, registers and threads let the device hold at once, rounded up; a
               persistent product has one program per multiprocessor, which counts the tiles only once
    share      of the FLOP rate that the tile can reach, because operands pass the port of the shared memory
               (`kernels.cost.port`)
    wait       seconds of one dependent read, times 1 + missing; half of them are for the steps of the program, so a
               launch whose instructions are counted waits half as long
    I          instructions of one warp: a warp alone executes one in two clocks, and a multiprocessor four in each
    barriers   of one program; 30 clocks each
    clock      its seconds, the same for all machines
    together   the longer of two times a and b if they differ much, and 9 % more than either if they are equal, because
               neither hides wholly behind the other: the 8th root of a^8 + b^8

`kernels.cost.machine` has the rates. `kernels/predicted_h200.md` holds the model against published times of others.
"""

import math
from collections.abc import Sequence

from kernels.cost.machine import Machine
from kernels.cost.port import share
from kernels.cost.work import LaunchWork
from kernels.launch.integers import cdiv

TOGETHER = 8
"""The power of `together` above: the higher, the more of the shorter time hides behind the longer."""

CLOCK_SECONDS = 0.57e-9
"""At 1.75 GHz. That a warp alone takes two clocks for an instruction, and a barrier 30, are estimates."""

THREADS = 128
"""Threads of a multiprocessor that execute an instruction in one cycle."""


def total_seconds(works: Sequence[LaunchWork], machine: Machine, *, cold: bool = False) -> float:
    """Return the seconds of one call in a CUDA graph; `cold` if the L2 cache is empty before."""
    touched = sum(work.touched for work in works)
    missing = 1.0 if cold else max(0.0, 1 - machine.l2_bytes / max(touched, 1))
    return sum(seconds(work, machine, missing) for work in works)


def seconds(work: LaunchWork, machine: Machine, missing: float) -> float:
    """Return the seconds of one launch if the share `missing` of what it touches is not in the L2 cache."""
    asked = work.read + work.written
    rounds = cdiv(work.programs, machine.multiprocessors)
    waves = cdiv(rounds, held_at_once(work, machine))
    wait = machine.wait_seconds * (1 + missing) / (2 if work.instructions else 1)
    reached = share(work, machine) * rate(work, machine) / machine.multiprocessors
    arithmetic = rounds * work.flops / work.programs / reached
    transfer = max(asked / machine.l2_rate, rounds * asked / work.programs / machine.multiprocessor_rate)
    unpacking = rounds * work.unpacked / work.programs / THREADS * CLOCK_SECONDS
    loop = max(arithmetic, transfer, unpacking, waves * work.fillings * wait)
    issued = max(2 * waves, rounds * work.warps / 4) * work.instructions + 30 * waves * work.barriers
    start = (waves * (work.start - work.persistent) + work.persistent) * wait + issued * CLOCK_SECONDS
    memory = work.touched * missing / machine.dram_rate
    together = math.pow(memory**TOGETHER + (loop + start) ** TOGETHER, 1 / TOGETHER)
    return machine.launch_seconds + together


def rate(work: LaunchWork, machine: Machine) -> float:
    """Return the FLOP/s of the unit that multiplies."""
    return {"half": machine.half_rate, "tf32": machine.tf32_rate, "fp32": machine.fp32_rate}[work.unit]


def held_at_once(work: LaunchWork, machine: Machine) -> int:
    """Return how many programs of a launch one multiprocessor holds at once: 64 warps, 65536 registers."""
    registers = (work.held // (32 * work.warps) + 64) * 32 * work.warps
    if work.persistent:
        return 1
    places = min(64 // work.warps, 65536 // registers, machine.shared_bytes // max(work.shared, 1))
    return max(1, min(places, 16))
