"""The self-test: what the sampling says of code whose answer is known, on the machine at hand.

A comparison times two sides interleaved with others, by the sampling of real cases. They are identical code under two
names, or the second takes a known share longer. Raw samples are kept; what the verdicts are worth is told from them
in `reports.noise.self_test`.

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

import torch

from bench.cases.case import Shape
from bench.errors import BenchError
from bench.forms import form
from bench.subjects.subject import Subject, input_rows, load_subjects
from bench.timing import environment
from bench.timing.clock import Call, clocks, synchronise
from bench.timing.precision import exact_float32
from bench.timing.sampling import Progress, Sampled, Timed, sample
from models import zoo
from models.device import device_name
from reports.records.record import ClockName
from reports.records.self_test import SelfComparison, SelfTest

ROWS = (32, 128, 512, 2048)
FORMS = ("loop", "eager", "grouped_mm", "triton", "onnxruntime")
"""Those that need no compiler: preparing shall not take longer than the test."""
SLOWDOWNS = (0.0, 0.05, 0.2, 0.0, 0.05, 0.2, 0.0, 0.02, 0.0, 0.05, 0.2, 0.0)
"""By which share the second side is slower, over and over; 0 is the same code."""
TOGETHER = 12
"""Comparisons of one group: twice as many calls are interleaved, as in a real one."""
DIGITS = 5
"""Significant digits of a sample that is kept."""
BUSY = """
import os
parent = os.getppid()
while os.getppid() == parent:
    for _ in range(1_000_000):
        pass
"""
"""What the neighbour runs: it ends by itself where its parent did not live to end it."""


@dataclass(frozen=True)
class _Code:
    """A prepared form of a head, to be compared with itself."""

    head: str
    form: str
    call: Call


@dataclass(eq=False)
class _Pausing:
    """A call after which the host spins for `share` of the time that the call took, in the timed region or past it.

    Both sides of a comparison spin, since a pause slows the call after it: on two cores beside a busy neighbour by 1 to
    4 % at a share of 0.2. So the side whose pauses are `counted` takes 1 + `share` times as long as the other, and
    everything else is alike. `turn` holds the side that was last to run.
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
        """Pause after the last call if that does not count; where another side ran since, do the work once untimed."""
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
    progress: Progress,
    *,
    busy: bool = False,
    command: str = "",
) -> SelfTest:
    """Return `comparisons` of the zoo's heads with themselves, each side sampled for about `seconds`.

    Five of twelve compare identical code, three each code slowed by 5 and by 20 %, one code slowed by 2 %. With `busy`
    another process spins on one core meanwhile. `command` is the command line that asks. Raises `BenchError` if there
    is nothing to do, and what loading the zoo raises.
    """
    if comparisons < 1 or seconds <= 0:
        raise BenchError("a self-test needs at least one comparison and a sampling time above 0 seconds")
    exact_float32()
    rng = random.Random(seed)
    where = environment.snapshot(device)
    prepared: dict[int, list[_Code]] = {}
    done: list[SelfComparison] = []
    subjects = load_subjects(zoo.checkpoints())
    with _neighbour() if busy else nullcontext():
        for number in range(0, comparisons, TOGETHER):
            rows = ROWS[number // TOGETHER % len(ROWS)]
            if rows not in prepared:
                prepared[rows] = _codes(subjects, Shape("head", rows, torch.float32, device), seed)
            slowdowns = list(islice(cycle(SLOWDOWNS), min(TOGETHER, comparisons - number)))
            group = partial(_advanced, progress, number / comparisons, len(slowdowns) / comparisons)
            done += _compared(prepared[rows], slowdowns, rows, seconds, device, rng, group)
    return SelfTest(
        format=1,
        kind="self-test",
        command=command,
        versions=where.pop("versions"),
        environment={**where, "device": device_name(device)},
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
            refused = chosen.unavailable(head.config, shape.device, shape.dtype) or chosen.untimeable(shape.device)
            if refused is None:
                codes.append(_Code(subject.name, name, partial(chosen.prepare(head, x), x)))
    return codes


def _compared(
    codes: Sequence[_Code],
    slowdowns: Sequence[float],
    rows: int,
    seconds: float,
    device: torch.device,
    rng: random.Random,
    progress: Progress,
) -> list[SelfComparison]:
    """Return one comparison for each of `slowdowns`, of code drawn by `rng`, all sampled interleaved."""
    turn: list[_Pausing] = []
    chosen = [rng.choice(codes) for _ in slowdowns]
    pairs = [
        _slowed(code.call, slowdown, device, turn)
        if slowdown
        else _alike(code.call, rng.choice(clocks(device)), device)
        for code, slowdown in zip(chosen, slowdowns, strict=True)
    ]
    sampled = sample([side for pair in pairs for side in pair], seconds, rng, progress)
    return [
        _comparison(code, slowdown, rows, pair, sampled)
        for code, slowdown, pair in zip(chosen, slowdowns, pairs, strict=True)
    ]


def _alike(call: Call, clock: ClockName, device: torch.device) -> tuple[Timed, Timed]:
    """Return `call` under two names."""
    return Timed(call, clock, device), Timed(call, clock, device)


def _slowed(call: Call, slowdown: float, device: torch.device, turn: list[_Pausing]) -> tuple[Timed, Timed]:
    """Return `call` and `call` slower by `slowdown`, both for the wall clock, which alone sees what the host waits."""
    plain, slowed = (_Pausing(call, device, slowdown, counted, turn) for counted in (False, True))
    return (
        Timed(plain.call, "wall", device, before=plain.before),
        Timed(slowed.call, "wall", device, before=slowed.before),
    )


def _comparison(
    code: _Code, slowdown: float, rows: int, sides: tuple[Timed, Timed], sampled: Sampled
) -> SelfComparison:
    a, b = sides
    return SelfComparison(
        slowdown=slowdown,
        head=code.head,
        form=code.form,
        rows=rows,
        clock=a.clock,
        stopped_by=sampled.stopped_by,
        samples_a=_rounded(a.samples),
        blocks_a=tuple(a.blocks),
        samples_b=_rounded(b.samples),
        blocks_b=tuple(b.blocks),
        failure=a.failure or b.failure,
    )


def _rounded(samples: Sequence[float]) -> tuple[float, ...]:
    return tuple(float(f"{value:.{DIGITS - 1}e}") for value in samples)


def _advanced(progress: Progress, done: float, share: float, of_group: float) -> None:
    progress(done + share * of_group)


@contextmanager
def _neighbour() -> Iterator[None]:
    """Keep one core busy with another process, which is ended whatever happens."""
    process = subprocess.Popen([sys.executable, "-c", BUSY])  # noqa: S603 - our own interpreter on our own text
    try:
        yield
    finally:
        process.kill()
        process.wait()
