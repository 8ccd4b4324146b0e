"""Learn the most in the first minutes on a GPU: `python -m kernels.first_minutes --out FOLDER`.

Steps run in the order of their importance, each in a process of its own, so that one that fails, hangs or breaks its
context stops no other. Every result is written at once, as a line of FOLDER/first.jsonl. `--rehearse` runs the same
steps on a CPU by Triton's interpreter, with small layers and without times.
"""

import argparse
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import triton
from rich.console import Console

from kernels.first.calibration import calibration
from kernels.first.commands import counters, races, tests
from kernels.first.fused import fused
from kernels.first.imports import imports
from kernels.first.log import Log
from kernels.first.smoke import smoke
from kernels.first.tiles import tiles

SECONDS = 285.0
"""Time for all steps: a little less than five minutes."""


@dataclass(frozen=True)
class Step:
    """A step and the most seconds it gets; a program in it is given them too, to end by itself."""

    run: Callable[..., None]
    seconds: float
    program: bool = False

    @property
    def name(self) -> str:
        """The name of the step in the log."""
        return self.run.__name__


STEPS = (
    Step(imports, 30),
    Step(smoke, 70),
    Step(calibration, 20),
    Step(tiles, 60),
    Step(fused, 30),
    Step(tests, 60, program=True),
    Step(counters, 40, program=True),
    Step(races, 40, program=True),
)


def perform(steps: Sequence[Step], out: Path, device: torch.device, seconds: float) -> list[str]:
    """Run the steps one after the other within `seconds`; return the names of those that did not end well."""
    path, deadline, bad = out / "first.jsonl", time.monotonic() + seconds, []
    for step in steps:
        log, start = Log(path, step.name, device), time.monotonic()
        ended = _ended(step, log, min(step.seconds, deadline - start))
        with path.open("a") as file:  # not by the log, which would ask a GPU that may hang
            file.write(f'{{"step": "{step.name}", "ended": "{ended}", "wall_s": {time.monotonic() - start:.1f}}}\n')
        if ended != "well":
            bad.append(step.name)
    return bad


def _ended(step: Step, log: Log, seconds: float) -> str:
    """Run a step in a new process, which has the modules of this one, and return how it ended."""
    if seconds <= 0:
        return "not begun, no time left"
    process = multiprocessing.get_context("fork").Process(target=_in_group, args=(step, log, seconds))
    process.start()
    process.join(seconds)
    if process.is_alive() and process.pid:
        os.killpg(process.pid, signal.SIGKILL)
        process.join()
        return "stopped, its time was over"
    return "well" if process.exitcode == 0 else f"with status {process.exitcode}"


def _in_group(step: Step, log: Log, seconds: float) -> None:
    """Run a step in a process group, which can be ended as a whole."""
    os.setsid()
    with torch.inference_mode():
        step.run(log, seconds) if step.program else step.run(log)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the steps; return 1 if one did not end well, and 2 if none can run here."""
    parser = argparse.ArgumentParser(prog="python -m kernels.first_minutes", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"), metavar="FOLDER", help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="time for all steps (default: %(default)g)")
    parser.add_argument("--only", nargs="+", metavar="STEP", help="run these steps alone")
    parser.add_argument("--rehearse", action="store_true", help="run on a CPU, small and without times")
    args = parser.parse_args(arguments)
    error = Console(stderr=True).print
    steps = {step.name: step for step in STEPS}
    unknown = [name for name in args.only or () if name not in steps]
    if unknown:
        error(f"No step is called {unknown[0]}; there are {', '.join(steps)}.")
        return 2
    if bool(triton.knobs.runtime.interpret) != args.rehearse:
        error("The first minutes need TRITON_INTERPRET unset on a GPU, and TRITON_INTERPRET=1 in a rehearsal.")
        return 2
    if not args.rehearse and torch.cuda.device_count() == 0:  # asks no device, or no process made from this could
        error("The first minutes need a CUDA device; --rehearse needs none.")
        return 2
    os.environ["TRITON_INTERPRET"] = str(int(args.rehearse))  # for the tests, which are interpreted by default
    args.out.mkdir(parents=True, exist_ok=True)
    device = torch.device("cpu" if args.rehearse else "cuda")
    bad = perform([steps[name] for name in args.only] if args.only else STEPS, args.out, device, args.seconds)
    if bad:
        error(f"These steps did not end well: {', '.join(bad)}.")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
