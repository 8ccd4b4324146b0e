"""Time the candidates on this GPU and keep the fastest: `python -m kernels.tune [--layers NAME ...] [--minutes 5]`.

For each layer and number of rows it takes the dozen options of least estimated time, checks each against the reference,
replays them as CUDA graphs in blocks of random order, and keeps the one with the least median. It writes the file after
every case, and a later run measures only what is missing. `--list` shows the candidates and their estimates, without a
GPU.

N rows, D input width, H hidden width of one expert, E experts, k experts per row, C output width.
"""

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
import triton
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import Tensor
from triton.errors import TritonError

from kernels.choice.choice import options_of
from kernels.choice.tuning import LANGUAGE, PAPER, VERSION, Entry, LayerKey, Tuned, layer_of, load, path_of, save
from kernels.cost.machine import Machine, machine_of
from kernels.moe import moe, moe_reference
from kernels.paths.options import Options
from kernels.problem.experts import Experts
from kernels.problem.problem import Problem
from kernels.problem.routes import Gate

LAYERS: dict[str, Problem] = {
    "paper": PAPER,
    "paper-fp32": replace(PAPER, dtype=torch.float32),
    "paper-soft": replace(PAPER, k=8),
    "e128": LANGUAGE,
    "olmoe": replace(LANGUAGE, H=1024, E=64),
    "mixtral": replace(LANGUAGE, D=4096, H=14336, E=8, C=4096, k=2),
}
"""The layers timed by default: the paper's head, and language models of many or few experts."""

ROWS = (1, 64, 1024, 16384, 8, 256, 4096, 65536, 4, 16, 32, 128, 512, 2048, 8192, 32768, 2)
"""The N to time, in this order: a coarse ladder first, since the minutes may end before the rest."""

Name = TypeVar("Name")

MOST_BYTES = 16 * 2**30
"""A case whose tensors need more memory is left out."""

CANDIDATES = 12
BLOCKS = 15
CALLS = 20
"""Calls in one graph: enough to hide the start of a replay."""
PAUSE_CYCLES = 80_000
"""About 45 microseconds, in which the host sends a replay to the busy device."""


@dataclass(frozen=True)
class Trial:
    """One layer at one N, with the options to compare, the least estimated time first."""

    name: str
    problem: Problem
    candidates: tuple[Options, ...]


def trials(layers: dict[str, Problem], machine: Machine) -> Iterator[Trial]:
    """Yield the cases of all layers: all layers at one N, then at the next."""
    for N in ROWS:
        for name, layer in layers.items():
            problem = replace(layer, N=N, M=N * layer.k)
            if _bytes(problem) > MOST_BYTES:
                continue
            distinct = dict.fromkeys(options_of(problem, machine, each=2))
            ordered = sorted(distinct, key=lambda options: options.seconds(problem, machine))
            yield Trial(name, problem, tuple(ordered[:CANDIDATES]))


def _bytes(problem: Problem) -> int:
    wide = problem.D * problem.halves * problem.H + problem.H * problem.C
    rows = problem.N * (problem.D + problem.C) + problem.M * (problem.H + problem.C)
    return problem.element_size * (problem.E * wide + rows)


def read_layers(names: Sequence[str]) -> dict[str, Problem]:
    """Return the named layers, or those of a JSON file that maps names to sizes as in `kernels.choice.tuning.LayerKey`.

    Raises:
        ValueError: A name is unknown, or the file is not of that form.
    """
    if len(names) == 1 and names[0].endswith(".json"):
        return {name: _problem(name, values) for name, values in json.loads(Path(names[0]).read_text()).items()}
    unknown = [name for name in names if name not in LAYERS]
    if unknown:
        raise ValueError(f"no layer is called {unknown[0]}; there are {', '.join(LAYERS)}, or the path of a .json file")
    return {name: LAYERS[name] for name in names or LAYERS}


def _problem(name: str, values: dict[str, Any]) -> Problem:
    try:
        layer = LayerKey(**values)
        dtype = getattr(torch, layer.dtype)
    except (TypeError, AttributeError) as error:
        raise ValueError(f"layer {name} needs {', '.join(LayerKey.__annotations__)} ({error})") from error
    return Problem(N=1, M=layer.k, **{**values, "dtype": dtype})


def listing(cases: Iterator[Trial], machine: Machine) -> Table:
    """Return the candidates of every case with their estimated microseconds."""
    table = Table("layer", "N", "us", "options", title=f"Candidates on {machine.name}, estimated")
    for case in cases:
        for options in case.candidates:
            seconds = options.seconds(case.problem, machine)
            table.add_row(case.name, str(case.problem.N), f"{seconds * 1e6:.1f}", options.code)
    return table


def tensors(problem: Problem, device: torch.device) -> tuple[Tensor, Gate, Experts]:
    """Return seeded random arguments of `kernels.moe.moe` whose activations and outputs are of the order of 1."""
    generator = torch.Generator(device).manual_seed(0)
    N, D, H, E, C = problem.N, problem.D, problem.H, problem.E, problem.C

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        return torch.randn(shape, generator=generator, device=device, dtype=problem.dtype).mul_(scale)

    wide = problem.halves * H
    gate = Gate(normal(E, D, scale=D**-0.5), normal(E), problem.k)
    first, second = (normal(E, D, wide, scale=D**-0.5), normal(E, wide)), (normal(E, H, C, scale=H**-0.5), normal(E, C))
    return normal(N, D), gate, Experts(*first, *second, problem.activation)


def measure(case: Trial, device: torch.device, console: Console) -> Entry | None:
    """Return the fastest of the candidates that agree with the reference, or None if none does."""
    problem = case.problem
    arguments = tensors(problem, device)
    expected = moe_reference(*arguments).float()
    replays: dict[Options, Callable[[], None]] = {}
    for options in case.candidates:
        call = partial(moe, *arguments, precision=problem.precision, options=options)
        try:
            good = right(call(), expected, problem)
        except (RuntimeError, TritonError) as error:
            console.print(f"{case.name} with N = {problem.N}: {options.code} does not run ({error})")
            continue
        if good:
            replays[options] = graph(call)
        else:
            console.print(f"{case.name} with N = {problem.N}: {options.code} is WRONG")
    if not replays:
        return None
    seconds = timed(replays, event_seconds)
    best = min(seconds, key=seconds.__getitem__)
    return Entry(layer_of(problem), problem.N, best, seconds[best])


def right(got: Tensor, expected: Tensor, problem: Problem) -> bool:
    """Return whether a result agrees with the reference up to the rounding of its dtype."""
    most = 2e-2 if problem.element_size == 2 else 5e-3 if problem.precision == "tf32" else 1e-4
    return bool((got.float() - expected).norm() <= most * expected.norm())


def graph(call: Callable[[], object], calls: int = CALLS) -> Callable[[], None]:
    """Return a function that replays so many calls as one CUDA graph; `call` must have run before."""
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        for _ in range(calls):
            call()
    return captured.replay


def event_seconds(replay: Callable[[], None], calls: int = CALLS) -> float:
    """Return the device seconds of one of the calls in a replay."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda._sleep(PAUSE_CYCLES)
    start.record()
    replay()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3 / calls


def timed(replays: dict[Name, Callable[[], None]], clock: Callable[[Callable[[], None]], float]) -> dict[Name, float]:
    """Return the median seconds of each replay: each block times all in a new random order, the first only warms up."""
    order = random.Random(0)
    samples: dict[Name, list[float]] = {name: [] for name in replays}
    for block in range(BLOCKS + 1):
        for name in order.sample(list(replays), len(replays)):
            seconds = clock(replays[name])
            if block > 0:
                samples[name].append(seconds)
    return {name: statistics.median(values) for name, values in samples.items()}


def machine_numbers(device: torch.device) -> dict[str, float]:
    """Return the numbers of a `Machine` that are quick to measure: an empty launch, and a copy of 1 GiB."""
    small = torch.zeros(1, device=device)
    source = torch.zeros(2**30, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    seconds = timed({"launch": graph(small.zero_), "copy": graph(partial(target.copy_, source))}, event_seconds)
    return {"launch_seconds": seconds["launch"], "dram_rate": 2 * source.numel() / seconds["copy"]}


def tune(layers: dict[str, Problem], path: Path, minutes: float, console: Console) -> None:
    """Time the cases that `path` does not hold yet until the minutes are over, and keep the results there."""
    device = torch.device("cuda", torch.cuda.current_device())
    name = torch.cuda.get_device_name(device)
    machine = machine_of(device)
    if path.exists():
        contents = load(path, name)
    else:
        date, numbers = datetime.now(UTC).date().isoformat(), machine_numbers(device)
        contents = Tuned(name, VERSION, torch.__version__, date, samples=BLOCKS, machine=numbers)
    done = {(entry.layer, entry.N) for entry in contents.entries}
    missing = [case for case in trials(layers, machine) if (layer_of(case.problem), case.problem.N) not in done]
    deadline = time.monotonic() + 60 * minutes
    with Progress(console=console) as progress:
        task = progress.add_task("cases", total=len(missing))
        for case in missing:
            if time.monotonic() > deadline:
                console.print(f"{minutes:g} minutes are over; run the same command again to continue.")
                return
            progress.update(task, description=f"{case.name}, N = {case.problem.N}")
            entry = measure(case, device, console)
            if entry is None:
                console.print(f"{case.name} with N = {case.problem.N}: no candidate agrees with the reference.")
            else:
                contents = replace(contents, entries=(*contents.entries, entry))
                save(path, contents)
            progress.advance(task)


def main(arguments: Sequence[str] | None = None) -> int:
    """Time or list; return the exit status, which is 2 if nothing can be timed or a name is wrong."""
    parser = argparse.ArgumentParser(prog="python -m kernels.tune", description=__doc__.splitlines()[0])
    parser.add_argument("--layers", nargs="*", default=[], metavar="NAME", help="layers, or a .json file; default: all")
    parser.add_argument("--out", type=Path, metavar="PATH", help="write this file; default: the device's in tuned/")
    parser.add_argument("--minutes", type=float, default=5, help="start no case after this time (default: %(default)s)")
    parser.add_argument("--list", action="store_true", help="only list candidates and estimated times")
    args = parser.parse_args(arguments)
    errors = Console(stderr=True)
    try:
        layers = read_layers(args.layers)
    except (OSError, ValueError) as error:
        errors.print(f"{error}.")
        return 2
    if args.list:
        machine = machine_of(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        Console(width=None if sys.stdout.isatty() else 200).print(listing(trials(layers, machine), machine))
        return 0
    if not torch.cuda.is_available():
        errors.print("kernels.tune times kernels on a GPU, but there is no CUDA device; --list needs none.")
        return 2
    if triton.knobs.runtime.interpret:
        errors.print("kernels.tune times compiled kernels, so run it with TRITON_INTERPRET unset.")
        return 2
    path = args.out or path_of(torch.cuda.get_device_name())
    tune(layers, path, args.minutes, errors)
    return 0


if __name__ == "__main__":
    sys.exit(main())
