"""Steps that are programs of their own: tests, hardware counters, a search for races.

None of them changes a setting of the GPU.
"""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec

from kernels.first.log import Log

TESTS = "tests/kernels/test_gpu.py"
"""Its tests stand in the order of their importance."""
SHOWN = 2000
"""Characters of a program's output, from the end, that go into the log."""
LAST_WORDS = 8.0
"""Seconds in which an interrupted program may write what it has."""
SINGLE = (sys.executable, "-m", "kernels.first.single")


def tests(log: Log, seconds: float) -> None:
    """Run the GPU tests of the kernels, side by side if that can be, until the time is over."""
    side_by_side = ["-n", "12"] if log.device.type == "cuda" and find_spec("xdist") else []
    report = f"--junit-xml={log.path.parent / 'tests.xml'}"
    _run(log, [sys.executable, "-m", "pytest", "-q", "-m", "gpu", TESTS, report, *side_by_side], seconds)


def counters(log: Log, seconds: float) -> None:
    """Read the hardware counters of the first product of a large layer."""
    words = ["--set", "full", "--kernel-name", "regex:grouped_gemm", "--launch-count", "1", "--csv"]
    words += ["--log-file", str(log.path.parent / "ncu.csv")]
    _run(log, ["ncu", "--clock-control", "none", *words, *SINGLE, "product"], seconds)


def races(log: Log, seconds: float) -> None:
    """Search the smallest case for races in shared memory."""
    words = ["--tool", "racecheck", "--log-file", str(log.path.parent / "racecheck.log"), "--error-exitcode", "3"]
    _run(log, ["compute-sanitizer", *words, *SINGLE, "smallest"], seconds)


def _run(log: Log, words: Sequence[str], seconds: float) -> None:
    """Run a program, interrupt it when its time is over, log its status and the end of what it said, and pass it on."""
    if shutil.which(words[0]) is None:
        log.write(missing=words[0])
        return
    start, output = time.monotonic(), log.path.parent / f"{log.step}.out"
    with output.open("w+") as file:
        program = subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT)  # noqa: S603 - all fixed
        try:
            program.wait(max(1.0, seconds - LAST_WORDS))
        except subprocess.TimeoutExpired:
            program.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                program.wait(LAST_WORDS - 1)
        finally:
            file.seek(0)
            said = file.read()[-SHOWN:]
            program.kill()
            status = program.wait()
            log.write(status=status, wall_s=round(time.monotonic() - start, 1), said=said)
    output.unlink()
    if status:
        sys.exit(status)
