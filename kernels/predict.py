"""Predict kernels on a GPU without one: `python -m kernels.predict [--machine H200]` prints Markdown.

Four tables: what the cost model says about kernels of others whose times are published, with their tiles; what it says
about ours on the same layers, and with weights in 8 and 4 bits; and the targets. Nothing in it is measured but the
published times.

N rows, D input width, H hidden width of one expert, E experts, k experts per row, C output width, M assignments.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import torch

from kernels.choice.choice import choose
from kernels.choice.tuning import LANGUAGE, PAPER
from kernels.cost.machine import H100, H200, KNOWN, Machine
from kernels.cost.seconds import total_seconds
from kernels.cost.work import LaunchWork, spread
from kernels.paths.grouped import Grouped
from kernels.paths.options import Options
from kernels.peers import LIGER_HOST, VLLM_HOST, cublas, dense, liger, shared_columns, single, vllm
from kernels.problem.options import Product
from kernels.problem.problem import Problem
from kernels.problem.stored import Scheme

GEMMA = replace(LANGUAGE, D=2816, H=704, C=2816, routing="top_k")
"""The layer of vllm#44818."""

QWEN = replace(LANGUAGE, routing="top_k")
"""The layer of Liger's benchmark, routing given."""

MIXTRAL = replace(LANGUAGE, D=4096, H=7168, E=8, C=4096, k=2, routing="top_k")
"""One of two ranks of Mixtral 8x7B (vllm#24700)."""

LARGE = {
    "e128": LANGUAGE,
    "olmoe": replace(LANGUAGE, H=1024, E=64),
    "mixtral": replace(LANGUAGE, D=4096, H=14336, E=8, C=4096, k=2),
}
"""The large layers of the targets."""

FEW = (1, 4, 16, 64)
"""Rows of the calls that read stored weights."""

Tile = tuple[int, int, int, int, int]
"""Rows, columns, depth, warps and stages."""

VLLM_GEMMA: dict[int, tuple[float, Tile]] = {
    1: (185.1, (16, 256, 128, 8, 2)),
    8: (204.4, (16, 64, 128, 4, 4)),
    16: (264.1, (16, 64, 128, 4, 4)),
    32: (324.9, (16, 64, 128, 4, 4)),
    64: (384.1, (16, 128, 128, 8, 4)),
    128: (396.4, (16, 64, 128, 4, 4)),
    512: (442.3, (64, 128, 64, 4, 3)),
    1024: (528.4, (64, 128, 64, 4, 3)),
    2048: (728.2, (128, 256, 64, 8, 4)),
    4096: (1189.6, (128, 256, 64, 8, 3)),
}
"""vllm#44818 on an H200: microseconds and the tuned tile of each N."""

VLLM_MIXTRAL: dict[int, tuple[float, Tile]] = {
    1: (144.0, (16, 64, 128, 4, 4)),
    64: (483.1, (32, 128, 128, 4, 4)),
    256: (536.8, (64, 128, 128, 4, 4)),
    512: (662.3, (64, 256, 64, 4, 4)),
    1024: (833.7, (128, 256, 64, 8, 4)),
    1536: (1122.9, (128, 256, 64, 8, 4)),
}
"""vllm#24700 on an H100, in CUDA graphs."""

LIGER_QWEN = {128: 589.0, 1024: 671.0, 8192: 2100.0, 32768: 7340.0}
"""Liger 0.8 on an H100, microseconds, cold L2; it tunes columns of 64 or 128 per half, and 64 rows are fixed."""

TILEOPS = {(128, 512): 2908.0, (128, 4096): 6791.0, (256, 512): 5430.0, (256, 4096): 9131.0}
"""TileOPs#2120 on an H200 at 1.5 GHz: microseconds of both products and the activation, by E and N (D 7168, H 2048)."""


@dataclass(frozen=True)
class Published:
    """A published time and the launches that took it.

    Attributes:
        kernel: Whose kernel, and where the time was published.
        machine: The GPU.
        N: Rows.
        seconds: The published time.
        works: The launches, with their tiles.
        tile: The tile, or a word about it.
        host: Seconds in which the device waits for the host: added if `serial`, else the least time of a call.
        serial: Whether the device idles for that long.
        cold: Whether the L2 cache was empty before.
    """

    kernel: str
    machine: Machine
    N: int
    seconds: float
    works: tuple[LaunchWork, ...]
    tile: str
    host: float = 0.0
    serial: bool = False
    cold: bool = False

    @property
    def device(self) -> float:
        """Seconds on the device, as the model says."""
        return total_seconds(self.works, self.machine, cold=self.cold)

    @property
    def predicted(self) -> float:
        """Seconds of a call, as the model says."""
        return self.device + self.host if self.serial else max(self.device, self.host)

    @property
    def waits_for_host(self) -> bool:
        """Whether the published time says nothing about the device."""
        return not self.serial and self.host > self.device

    @property
    def error(self) -> float:
        """The model's time over the published one, less 1."""
        return self.predicted / self.seconds - 1


def at(layer: Problem, N: int) -> Problem:
    """Return the layer at N rows."""
    return replace(layer, N=N, M=N * layer.k)


def published() -> Iterator[Published]:
    """Yield the kernels of others whose layer, tiles and times are public."""
    for N, (us, (rows, columns, depth, warps, stages)) in VLLM_GEMMA.items():
        works = vllm(at(GEMMA, N), rows, Product(columns, depth, warps, stages))
        yield Published("vLLM#44818", H200, N, us / 1e6, works, f"{rows} x {columns} x {depth}", host=VLLM_HOST)
    for N, (us, (rows, columns, depth, warps, stages)) in VLLM_MIXTRAL.items():
        works = vllm(at(MIXTRAL, N), rows, Product(columns, depth, warps, stages))
        yield Published("vLLM#24700", H100, N, us / 1e6, works, f"{rows} x {columns} x {depth}")
    for N, us in LIGER_QWEN.items():
        works = liger(at(QWEN, N), 64, Product(128, 64, 8, 3))
        yield Published("Liger", H100, N, us / 1e6, works, "64 x 128 x 2 halves", LIGER_HOST, serial=True, cold=True)
    for (E, N), us in TILEOPS.items():
        works = tileops(E, N)
        yield Published(f"TileOPs#2120, E {E}", H200, N, us / 1e6, works, "128 x 256, assumed")
    product = Problem(32768, 6144, 4096, 256, 4096, 8, 262144, torch.bfloat16)
    for name, tflops, works in (
        ("Triton, pointers", 469, (single(product, "first", persistent=False),)),
        ("Triton, TMA", 564, (single(product, "first"),)),
        ("DeepGEMM", 658, (shared_columns(single(product, "first")),)),
    ):
        seconds = 2 * product.M * 6144 * 4096 / (tflops * 1e12)
        yield Published(f"{name} (TileOPs#1567)", H200, product.M, seconds, works, "128 x 256, assumed")


def tileops(E: int, N: int) -> tuple[LaunchWork, ...]:
    """Return the launches of TileOPs' expert layer, as far as its notes say: two products, an activation between."""
    layer = at(replace(LANGUAGE, D=7168, H=2048, C=7168, E=E, routing="top_k"), N)
    works = vllm(layer, 128 if layer.M // E >= 64 else 64, Product(256, 64, 8, 4, described=True, persistent=True))
    return works[2:5]


def ours(machine: Machine) -> Iterator[tuple[str, Problem, float]]:
    """Yield the layers with a public time on this kind of machine: name, call, public seconds."""
    for N, (us, _) in VLLM_GEMMA.items():
        yield "vLLM#44818: D 2816, H 704, E 128, k 8", at(GEMMA, N), us / 1e6
    for N, us in LIGER_QWEN.items():
        yield "Liger, on an H100: D 2048, H 768, E 128, k 8", at(QWEN, N), us / 1e6
    for (E, N), us in TILEOPS.items():
        yield f"TileOPs#2120: D 7168, H 2048, E {E}, k 8", at(replace(QWEN, D=7168, H=2048, C=7168, E=E), N), us / 1e6


def described(options: Options) -> str:
    """Return a path and its tiles in a few words: rows x columns of each product."""
    if not isinstance(options, Grouped):
        return type(options).__name__
    parts = (options.first, options.second)
    tiles = [f"{options.tile_rows} x {part.columns}{', persistent' * part.persistent}" for part in parts]
    return "; ".join(tiles)


def in_scheme(problem: Problem, scheme: Scheme) -> Problem:
    """Return the call with both weights stored; columns of blocks cannot interleave (`Experts.interleaved`)."""
    stacked = {"activation": "swiglu"} if scheme == "fp8_blocks" else {}
    return replace(problem, stored=(scheme, scheme), **stacked)  # type: ignore[arg-type]


def narrow(machine: Machine) -> Iterator[tuple[str, Problem, dict[str, float]]]:
    """Yield the large layers at few rows: name, call in bf16, and seconds of each way to store the weights."""
    for name, layer in LARGE.items():
        for N in FEW:
            calls = {"bf16": at(layer, N)}
            calls |= {scheme: in_scheme(calls["bf16"], scheme) for scheme in ("fp8_channels", "fp8_blocks", "mxfp4")}
            seconds = {scheme: choose(call, machine).seconds(call, machine) for scheme, call in calls.items()}
            yield name, calls["bf16"], seconds


@dataclass(frozen=True)
class Target:
    """One target: its name, the worst value predicted and where, and what is to be reached."""

    name: str
    value: float
    where: str
    reach: float
    beyond: float

    @property
    def verdict(self) -> str:
        """The prediction against the target; less is better if `beyond` is less than `reach`."""
        sign = 1 if self.beyond < self.reach else -1
        for word, limit in (("beyond", self.beyond), ("reached", self.reach)):
            if sign * self.value <= sign * limit:
                return word
        return "missed"


def targets(machine: Machine) -> Iterator[Target]:
    """Yield the targets that the model can say something about, each with its worst case."""

    def seconds(problem: Problem) -> float:
        return choose(problem, machine).seconds(problem, machine)

    def worst(values: dict[str, float], name: str, reach: float, beyond: float) -> Target:
        pick = max if beyond < reach else min
        where = pick(values, key=values.__getitem__)
        return Target(name, values[where], where, reach, beyond)

    few, many = (1, 16, 64, 256, 1024), (1, 16, 64, 256, 1024, 4096, 16384, 65536)
    small = {f"N {N}": seconds(at(PAPER, N)) / machine.launch_seconds for N in few}
    yield worst(small, "paper's head, bf16, N <= 1,024: fused / empty launch", 3.0, 2.0)
    ratios = {f"N {N}": seconds(at(PAPER, N)) / total_seconds(dense(at(PAPER, N), machine), machine) for N in many}
    yield worst(ratios, "paper's head, bf16, N 1 to 65,536: best sparse / best dense", 1.0, 0.9)
    calls = {f"{name}, N {N}": at(layer, N) for name, layer in LARGE.items() for N in (8192, 32768)}
    bound = {name: total_seconds(cublas(call), machine) for name, call in calls.items()}
    filled = {name: call for name, call in calls.items() if call.M / call.E >= 512}
    parts = {name: bound[name] / products(call, machine) for name, call in filled.items()}
    yield worst(parts, "512 rows per expert or more: cuBLAS at equal operations / grouped products", 0.80, 0.95)
    whole = {name: bound[name] / seconds(call) for name, call in calls.items()}
    yield worst(whole, "N >= 8,192: cuBLAS at equal operations / whole layer", 0.72, 0.88)
    call = at(QWEN, 32768)
    rate = 2 * call.M * 3 * call.D * call.H / seconds(call) / 1e12
    yield Target("E 128, D 2048, H 768, k 8, 32,768 rows: TFLOP/s", rate, "", 500, 560)
    against = {f"N {N}": 1e6 * seconds(at(GEMMA, N)) / us for N, (us, _) in VLLM_GEMMA.items()}
    yield worst(against, "E 128, D 2816, H 704, k 8, 1 to 4,096 rows: ours / vLLM's tuned table", 1.0, 0.8)
    copies = {f"{name}, N {N}": copy_share(at(layer, N), machine) for name, layer in LARGE.items() for N in (64, 256)}
    yield worst(copies, "weight-bound layers, N <= 256: share of the copy's bandwidth", 0.90, 0.97)

    times = list(narrow(machine))
    for scheme, reach, beyond in (("fp8_blocks", 0.6, 0.53), ("mxfp4", 0.4, 0.3)):
        ratio = {f"{name}, N {call.N}": each[scheme] / each["bf16"] for name, call, each in times}
        yield worst(ratio, f"weights in {scheme}, N <= 64: time / time with bf16", reach, beyond)


def products(problem: Problem, machine: Machine) -> float:
    """Return the seconds of the two products of a layer in the options chosen for it."""
    works = choose(problem, machine).launch_works(problem, spread(problem))
    return total_seconds([work for work in works if work.stage == "experts"], machine)


def copy_share(problem: Problem, machine: Machine) -> float:
    """Return the share of the copy's bandwidth at which a whole layer moves the bytes of its two products."""
    options = choose(problem, machine)
    works = options.launch_works(problem, spread(problem))
    touched = sum(work.touched for work in works if work.stage == "experts")
    return touched / machine.dram_rate / options.seconds(problem, machine)


def markdown(machine: Machine, date: str) -> str:
    """Return the four tables for `machine`, marked as predicted on `date`."""
    checks = [
        f"| {case.kernel} | {case.machine.name} | {case.N:,} | {case.tile} | {1e6 * case.seconds:,.0f} | "
        f"{1e6 * case.device:,.0f} | {1e6 * case.predicted:,.0f} | "
        f"{case.error:+.0%}{' (host)' * case.waits_for_host} |"
        for case in published()
    ]
    rows = []
    for name, call, public in ours(machine):
        options = choose(call, machine)
        time = options.seconds(call, machine)
        rows.append(
            f"| {name} | {call.N:,} | {1e6 * public:,.0f} | {1e6 * time:,.0f} | {time / public:.2f} | "
            f"{2 * call.M * 3 * call.D * call.H / time / 1e12:,.0f} | {described(options)} |"
        )
    stored = [
        f"| {name} | {call.N:,} | {1e6 * times['bf16']:,.0f} | "
        + " | ".join(f"{1e6 * time:,.0f} | {time / times['bf16']:.2f}" for time in list(times.values())[1:])
        + " |"
        for name, call, times in narrow(machine)
    ]
    goals = [
        f"| {goal.name} | {goal.value:,.2f} | {goal.where} | {goal.reach:g} | {goal.beyond:g} | {goal.verdict} |"
        for goal in targets(machine)
    ]
    return TEXT.format(
        machine=machine.name,
        date=date,
        dram=machine.dram_rate / 1e12,
        l2=machine.l2_rate / 1e12,
        half=machine.half_rate / 1e12,
        launch=machine.launch_seconds * 1e6,
        wait=machine.wait_seconds * 1e6,
        vllm=VLLM_HOST * 1e6,
        liger=LIGER_HOST * 1e6,
        checks="\n".join(checks),
        rows="\n".join(rows),
        stored="\n".join(stored),
        goals="\n".join(goals),
    )


TEXT = """\
# Predicted for an {machine}

**Predicted, nothing here was measured** but the published times of others. `python -m kernels.predict --machine
{machine}` wrote this on {date}, from the cost model in `kernels/cost` (port of the shared memory, rows that choose
experts at random), without a GPU. The machine: {half:.0f} TFLOP/s in bf16, {dram:.1f} TB/s from memory, {l2:.1f} TB/s
from L2, {launch:.1f} us from one launch to the next, {wait:.2f} us for a dependent read.

## The model on kernels with published times

Their tiles and their launches, in microseconds; the device's time comes first, then the call's. Constants are the same
for all rows. Two belong to a publication. vLLM#44818 timed calls from the host, which took {vllm:.0f} us at 1, 2 and 4
rows alike: errors marked (host) say nothing about the device. A call of Liger's, timed with an empty L2, reads a number
back in its midst, and the device idles {liger:.0f} us. The L2 rate and the power by which times overlap were set with
vLLM#44818 and Liger in view; vLLM#24700, TileOPs#2120 and TileOPs#1567 were compared afterwards. TileOPs does not say
its tiles, and held its clock at 1.5 GHz. The model does not count what it costs that threads, not TMA, copy operands:
hence the error of "Triton, pointers", and part of that of vLLM's widest tiles.

| kernel | GPU | rows | tile | published | device, predicted | call, predicted | error |
| --- | --- | ---: | --- | ---: | ---: | ---: | ---: |
{checks}

## Ours on the same layers

In a CUDA graph, routing given, bf16, on the {machine}, with the options that the model chooses; microseconds. TileOPs'
times leave out dispatch and combine, and Liger's are from an H100.

| layer | rows | published | predicted | ratio, predicted | TFLOP/s, predicted | tiles of the two products |
| --- | ---: | ---: | ---: | ---: | ---: | --- |
{rows}

## Weights in 8 and 4 bits

Whole calls of the layers of the targets with a gate, in a CUDA graph, in microseconds, and the ratio to bf16. Stored
weights take the grouped path with its five launches; at one row bf16 may take one launch. The model counts stored
bytes, the instructions that unpack a weight, and what they leave of the port of the shared memory.

| layer | rows | bf16 | fp8_channels | ratio | fp8_blocks | ratio | mxfp4 | ratio |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
{stored}

## Targets

The worst case of each. The dense head has as many parameters: two launches, each with a start, its loop and the best of
our tiles. cuBLAS: two products with as many FLOPs in persistent tiles of 128 x 256, two of which share their columns.

| target | predicted | at | reach | beyond | predicted verdict |
| --- | ---: | --- | ---: | ---: | --- |
{goals}
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m kernels.predict", description=__doc__.splitlines()[0])
    machines = {known.name: known for known in KNOWN}
    parser.add_argument("--machine", type=str.upper, choices=machines, default="H200", help="default: %(default)s")
    args = parser.parse_args(arguments)
    sys.stdout.write(markdown(machines[args.machine], datetime.now(UTC).date().isoformat()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
