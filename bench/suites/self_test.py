"""The self-test: comparisons whose true answer is known, on the machine at hand.

A comparison times two sides interleaved with others, sampled like real cases. The sides are identical code under two
names, or the second takes a known share longer. The raw samples are kept; `reports.noise.self_test` counts how often
the verdicts on them are right.

Letters: N rows, D input width.
"""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from time import perf_counter
from typing import NamedTuple

import torch

from bench.cases.case import Shape
from bench.errors import BenchError
from bench.forms import form
from bench.subjects.subject import Subject, input_rows, load_subjects
from bench.timing import environment
from bench.timing.clock import Call, clocks, synchronise
from bench.timing.precision import exact_float32
from bench.timing.sampling import OnProgress, Timed, part_of, rounded, sample
from models import zoo
from models.device import device_name
from reports.records.record import ClockName
from reports.records.self_test import SelfComparison, SelfTest

ROWS = (32, 128, 512, 2048)
FORMS = ("loop", "eager", "grouped_mm", "triton", "onnxruntime")
"""Forms that need no compiler, so that preparing does not take longer than the test."""
SLOWDOWNS = (0.0, 0.05, 0.2, 0.0, 0.05, 0.2, 0.0, 0.02, 0.0, 0.05, 0.2, 0.0)
"""Shares by which the second side is slower, in a cycle; 0 is the same code."""
TOGETHER = 12
"""Comparisons in a group; twice as many calls are interleaved, as in a real group."""
DIGITS = 5
"""Significant digits of a sample that is kept."""
BUSY = """
import os
parent = os.getppid()
while os.getppid() == parent:
    for _ in range(1_000_000):
        pass
"""
"""The program of the busy neighbour; it ends by itself if its parent is gone."""


class _Code(NamedTuple):
    """A prepared form of a head, to be compared with itself."""

    head: str
    form: str
    call: Call


@dataclass(eq=False)
class _Pausing:
    """A call after which the host spins for `share` of the call's time, inside the timed region or after it.

    Both sides of a comparison spin, because a pause slows the next call: by 1 to 4 % at a share of 0.2, on two cores
    beside a busy neighbour. So the side whose pauses are `counted` takes 1 + `share` times as long as the other, and
    nothing else differs. `turn` holds the side that ran last.
    """

    work: Call
    device: torch.device
    share: float
    counted: bool
    turn: list[_Pausing]
    took: float = 0.0

    def call(self) -> None:
        """Do the work, and pause if that counts."""
        self._work()
        if self.counted:
            self._pause()

    def before(self) -> None:
        """Pause for the last call if pauses do not count; if the other side ran since, first do the work untimed."""
        first = self not in self.turn
        self.turn[:] = [self]
        if first:
            self._work()
        if first or not self.counted:
            self._pause()

    def _work(self) -> None:
        start = perf_counter()
        self.work()
        synchronise(self.device)
        self.took = perf_counter() - start

    def _pause(self) -> None:
        end = perf_counter() + self.share * self.took
        while perf_counter() < end:
            pass


def self_test(
    comparisons: int,
    seconds: float,
    device: torch.device,
    seed: int,
    progress: OnProgress,
    *,
    busy: bool = False,
    command: str = "",
) -> SelfTest:
    """Return `comparisons` of the zoo's heads with themselves, each side sampled for about `seconds`.

    Of twelve comparisons five are of identical code, three each of code slowed by 5 and 20 %, one of code slowed by
    2 %. With `busy` another process spins on one core meanwhile. `command` is the command line to record. Raises
    `BenchError` if there is nothing to do, and whatever loading the zoo raises.
    """
    if comparisons < 1 or seconds <= 0:
        raise BenchError("a self-test needs at least one comparison and a sampling time above 0 seconds")
    exact_float32()
    rng = random.Random(seed)
    machine = environment.snapshot(device)
    prepared: dict[int, list[_Code]] = {}
    done: list[SelfComparison] = []
    subjects = load_subjects(zoo.checkpoints())
    with _neighbour() if busy else nullcontext():
        for number in range(0, comparisons, TOGETHER):
            rows = ROWS[number // TOGETHER % len(ROWS)]
            if rows not in prepared:
                prepared[rows] = _codes(subjects, Shape("head", rows, torch.float32, device), seed)
            slowdowns = list(islice(cycle(SLOWDOWNS), min(TOGETHER, comparisons - number)))
            group = part_of(progress, number / comparisons, len(slowdowns) / comparisons)
            done += _compared(prepared[rows], slowdowns, rows, seconds, device, rng, group)
    return SelfTest(
        format=1,
        kind="self-test",
        command=command,
        versions=machine.pop("versions"),
        environment={**machine, "device": device_name(device)},
        neighbour=busy,
        seconds=seconds,
        seed=seed,
        comparisons=tuple(done),
    )


def _codes(subjects: Sequence[Subject], shape: Shape, seed: int) -> list[_Code]:
    """Return every head in every form that can be timed here, on its own rows (N, D)."""
    codes = []
    for subject in subjects:
        head = subject.on(shape.device, shape.dtype).head
        x = input_rows(subject, shape.rows, None, seed).to(shape.device, shape.dtype)
        for name in FORMS:
            chosen = form(name)
            if chosen.refusal(head.config, shape.device, shape.dtype) is None:
                codes.append(_Code(subject.name, name, partial(chosen.prepare(head, x), x)))
    return codes


def _compared(
    codes: Sequence[_Code],
    slowdowns: Sequence[float],
    rows: int,
    seconds: float,
    device: torch.device,
    rng: random.Random,
    progress: OnProgress,
) -> list[SelfComparison]:
    """Return one comparison for each of `slowdowns`, of code drawn by `rng`, all sampled interleaved."""
    turn: list[_Pausing] = []
    chosen = [rng.choice(codes) for _ in slowdowns]
    pairs = [
        _slowed(code.call, slowdown, device, turn)
        if slowdown
        else _same_code(code.call, rng.choice(clocks(device)), device)
        for code, slowdown in zip(chosen, slowdowns, strict=True)
    ]
    sampled = sample([side for pair in pairs for side in pair], seconds, rng, progress)
    return [
        SelfComparison(
            slowdown=slowdown,
            head=code.head,
            form=code.form,
            rows=rows,
            clock=a.clock,
            stopped_by=sampled.stopped_by,
            samples_a=rounded(a.samples, DIGITS),
            blocks_a=tuple(a.blocks),
            samples_b=rounded(b.samples, DIGITS),
            blocks_b=tuple(b.blocks),
            failure=a.failure or b.failure,
        )
        for code, slowdown, (a, b) in zip(chosen, slowdowns, pairs, strict=True)
    ]


def _same_code(call: Call, clock: ClockName, device: torch.device) -> tuple[Timed, Timed]:
    """Return `call` under two names."""
    return Timed(call, clock, device), Timed(call, clock, device)


def _slowed(call: Call, slowdown: float, device: torch.device, turn: list[_Pausing]) -> tuple[Timed, Timed]:
    """Return `call` and `call` slower by `slowdown`, both on the wall clock, the only one that sees the host wait."""
    plain, slowed = (_Pausing(call, device, slowdown, counted, turn) for counted in (False, True))
    return Timed(plain.call, "wall", device, plain.before), Timed(slowed.call, "wall", device, slowed.before)


@contextmanager
def _neighbour() -> Iterator[None]:
    """Keep one core busy with another process, which always ends with this context."""
    process = subprocess.Popen([sys.executable, "-c", BUSY])  # noqa: S603 - our own interpreter on our own text
    try:
        yield
    finally:
        process.kill()
        process.wait()
