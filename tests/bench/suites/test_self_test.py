"""The self-test: sides that differ by a known share and in nothing else, a neighbour that ends, a file that is read."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
import torch

from bench.errors import BenchError
from bench.suites import self_test as bench_self_test
from bench.suites.self_test import BUSY, SLOWDOWNS, self_test
from bench.timing.sampling import Timed
from reports.noise import self_test as report
from reports.reading import files, inputs

CPU = torch.device("cpu")


class Machine:
    """A clock that only work and looking at it advance, and a journal of the moments at which work began."""

    def __init__(self, work):
        self.now, self.seconds, self.journal = 0.0, work, []

    def look(self):
        self.now += 1e-6
        return self.now

    def work(self):
        self.journal.append(self.now)
        self.now += self.seconds


def sampled(side, machine, calls):
    """Return what one block of `side` would give, and the time between the beginnings of its calls."""
    machine.journal.clear()
    samples = []
    for _ in range(calls):
        side.before()
        start = machine.now
        side.call()
        samples.append(machine.now - start)
    return samples, [after - before for before, after in zip(machine.journal, machine.journal[1:], strict=False)]


@pytest.mark.parametrize("slowdown", sorted({*SLOWDOWNS} - {0}))
def test_the_slowed_side_takes_the_known_share_longer_and_nothing_else_differs(monkeypatch, slowdown):
    machine = Machine(work=5e-3)
    monkeypatch.setattr(bench_self_test, "perf_counter", machine.look)
    sides = bench_self_test._slowed(machine.work, slowdown, CPU, [])
    (plain, plain_gaps), (slowed, slowed_gaps) = (sampled(side, machine, 5) for side in sides)
    assert [b / a for a, b in zip(plain, slowed, strict=True)] == pytest.approx([1 + slowdown] * 5, rel=1e-3)
    assert len(plain_gaps) == len(slowed_gaps) == 5  # the untimed call that begins a block comes first on both sides
    assert plain_gaps == pytest.approx(slowed_gaps, rel=1e-3)


def test_only_a_side_that_follows_another_begins_with_an_untimed_call():
    calls = []
    first, second = bench_self_test._slowed(lambda: calls.append(1), 0.02, CPU, [])
    counts = []
    for side in (first, first, second, second, first):
        calls.clear()
        side.before()
        side.call()
        counts.append(len(calls))
    assert counts == [2, 1, 2, 1, 2]


def test_identical_code_is_one_call_under_two_names():
    call = object()
    a, b = bench_self_test._same_code(call, "wall", CPU)
    assert a is not b
    assert a == b == Timed(call, "wall", CPU)


def cpu_time(process, least, seconds=300):
    """Return the seconds that `process` has computed, as soon as they are `least`."""
    deadline = time.monotonic() + seconds
    while process.cpu_times().user < least and time.monotonic() < deadline:
        time.sleep(0.02)
    return process.cpu_times().user


def fails_beside_a_neighbour(found):
    before = {child.pid for child in psutil.Process().children()}
    with bench_self_test._neighbour():
        found += [child for child in psutil.Process().children() if child.pid not in before]
        assert cpu_time(found[0], 0.05) >= 0.05
        raise RuntimeError("stop")


def test_the_neighbour_is_busy_and_ends_whatever_happens():
    found = []
    with pytest.raises(RuntimeError, match="stop"):
        fails_beside_a_neighbour(found)
    assert len(found) == 1
    assert not found[0].is_running()


def has_ended(process):
    """Return whether `process` runs no more, waited for or not."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_the_neighbour_of_a_killed_process_ends_by_itself():
    parent = (
        "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', sys.argv[1]]).pid, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent, BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        neighbour = psutil.Process(int(process.stdout.readline()))
        time.sleep(0.5)
        assert not has_ended(neighbour)
        os.kill(process.pid, signal.SIGKILL)
    deadline = time.monotonic() + 300
    while not has_ended(neighbour) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert has_ended(neighbour)


@pytest.fixture(scope="module")
def small():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench_self_test, "FORMS", ("eager", "grouped_mm"))
        patch.setattr(bench_self_test, "TOGETHER", 8)
        done = []
        return self_test(10, 0.1, CPU, 0, done.append, busy=True, command="moegap self-test"), done


def test_a_real_self_test_compares_what_was_asked_and_says_so_in_its_file(small, tmp_path):
    test, done = small
    path = tmp_path / "self-test.json"
    path.write_text(test.text(indent=None))
    (read,) = inputs.gather(files.read([path])).self_tests
    assert read == test
    assert {"torch", "python"} <= read.versions.keys()
    assert {"device", "cpu", "threads", "measured_at"} <= read.environment.keys()
    assert [each.slowdown for each in read.comparisons] == [*SLOWDOWNS[:8], *SLOWDOWNS[:2]]
    assert {each.rows for each in read.comparisons} == {*bench_self_test.ROWS[:2]}
    assert {each.form for each in read.comparisons} <= {"eager", "grouped_mm"}
    assert not any(each.failure for each in read.comparisons)
    assert read.neighbour
    assert read.command == "moegap self-test"
    assert done == sorted(done)
    assert done[-1] == pytest.approx(1)
    assert any(line.startswith("Measured beside a neighbour") for line in report.lines(read))
    assert sum(len(found.verdicts) for found in report.answers(read)) == 10


def test_its_sides_are_sampled_in_the_same_blocks(small):
    for each in small[0].comparisons:
        assert set(each.blocks_a) == set(each.blocks_b)
        assert len(each.samples_a) == len(each.blocks_a)
        assert len(each.samples_b) == len(each.blocks_b)


def test_samples_are_kept_to_a_few_digits(small):
    samples = [each.samples_a + each.samples_b for each in small[0].comparisons]
    assert all(float(f"{value:.4e}") == value for own in samples for value in own)
    assert len(small[0].text(indent=None)) < 18 * sum(map(len, samples)) + 5_000


@pytest.mark.parametrize(("comparisons", "seconds"), [(0, 1.0), (3, 0.0)])
def test_nothing_to_do_is_refused(comparisons, seconds):
    with pytest.raises(BenchError, match="at least one comparison"):
        self_test(comparisons, seconds, CPU, 0, lambda share: None)


@pytest.mark.gpu
def test_a_gpu_is_tested_by_both_clocks():
    found = self_test(24, 0.2, torch.device("cuda"), 0, lambda share: None)
    assert {each.clock for each in found.comparisons if not each.slowdown} == {"wall", "device"}
    assert {each.clock for each in found.comparisons if each.slowdown} == {"wall"}
