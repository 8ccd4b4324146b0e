"""What this machine can do: FLOP/s, bytes/s copied and read, and what a launch, an operator and a waking thread take.

Every number is the least time of many. Neighbours, interrupts and lower clocks make a call slower, never faster. So the
least time is closest to what the hardware needs, and a floor built on it is a bound; a median would move with the
neighbours. Calls are timed in turn, round after round, so that a slow spell hits all of them.

Letters: M rows, K inner width, N columns of a product.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from bench.errors import BenchError
from bench.timing import environment
from bench.timing.caches import last_cache
from bench.timing.clock import Call, samples, synchronise, timed
from bench.timing.graphs import captured, nothing
from bench.timing.precision import dtype_name, exact_float32
from reports.records.record import Ceilings, ClockName, Copy

ProductSize = tuple[int, int, int]
PRODUCTS: dict[str, tuple[ProductSize, ...]] = {
    "cpu": (
        (256, 256, 256), (512, 512, 512), (1024, 1024, 1024), (4096, 512, 512), (4096, 1024, 1024), (2048, 2048, 2048),
    ),
    "cuda": ((4096, 4096, 4096), (16384, 4096, 4096), (8192, 8192, 8192)),
}  # fmt: skip
"""(M, K, N), in the order of their operations."""
SMALLEST_SET, SET_STEP = 2**17, 4
"""Bytes of the smallest copy, source and target together, and the factor from each to the next."""
BEYOND_CACHES, BEYOND_ON_GPU = 4, 2**31
"""Least size of the largest copy: in last-level caches, and on a GPU in bytes."""
ROUNDS = 5
"""Least timings of each call."""
MOST_TRIES = 256
"""Most timings of one call in one round."""
MEMORY_SHARE = 0.5
"""Share of the free memory that may be used."""
SMALL = 100
"""Calls per timing of something that takes about a microsecond."""
UNSPLIT = 2**15
"""Elements up to which torch leaves an elementwise operator to the calling thread."""


def measure_ceilings(device: torch.device, dtype: torch.dtype, seconds: float = 4.0) -> Ceilings:
    """Return the ceilings of `device` for `dtype`, measured in about `seconds`.

    FLOP/s are those of the best of several products of random matrices; the second matrix is stored by rows or by
    columns. Bytes/s are those of copies, read and written, minus the time of copying one element. Beside them stand
    those of only reading: the sum of the source of the largest copy. Random values matter: a GPU
    draws less power and runs faster on zeros.

    Raises `BenchError` if the memory is too small for the smallest product or for a copy beyond the caches.
    """
    exact_float32()
    with torch.inference_mode():
        flops_per_s, product, taken = _best_product(device, dtype, 0.5 * seconds)
        copies, read, copied = _traffic(device, 0.35 * seconds)
        small = _on_gpu if device.type == "cuda" else _on_cpu
        overheads, called = small(device, dtype, 0.15 * seconds)
    here = environment.snapshot(device)
    machine = {name: here[name] for name in Ceilings.model_fields if name in here}
    return Ceilings(
        device="cuda" if device.type == "cuda" else "cpu",
        dtype=dtype_name(dtype),  # type: ignore[arg-type] # which pydantic checks
        samples=min(taken, copied, called),
        flops_per_s=flops_per_s,
        product=product,
        copies=copies,
        read=read,
        **machine,
        **overheads,
    )


@dataclass(frozen=True)
class _Batch:
    """A call made `repeats` times in a row, timed as one."""

    call: Call
    repeats: int = 1

    def __call__(self) -> None:
        for _ in range(self.repeats):
            self.call()


def _least(batches: Sequence[_Batch], device: torch.device, seconds: float) -> tuple[list[float], int]:
    """Return the least seconds of one call of each batch, and the number of rounds.

    A short batch is timed more often in a round, because it may fit between two disturbances. On a GPU a batch is
    captured as a graph and timed between events, so that the host's time does not count.
    """
    clock: ClockName = "graph" if device.type == "cuda" else "wall"
    runs: list[Call] = [captured(batch).replay for batch in batches] if clock == "graph" else list(batches)
    quickest, rounds, end = [float("inf")] * len(runs), 0, time.perf_counter() + seconds
    while rounds < ROUNDS or time.perf_counter() < end:
        longest = max(quickest)
        for number, run in enumerate(runs):
            tries = max(1, min(MOST_TRIES, int(longest / quickest[number]))) if rounds else 1
            quickest[number] = min(quickest[number], *samples(run, clock, device, tries).seconds)
        rounds += 1
    return [taken / batch.repeats for taken, batch in zip(quickest, batches, strict=True)], rounds


def _best_product(device: torch.device, dtype: torch.dtype, seconds: float) -> tuple[float, str, int]:
    """Return the FLOP/s of the best product, its sizes in words, and the timings of each."""
    start = time.perf_counter()
    sizes, calls = zip(*_affordable(device, dtype, seconds), strict=True)
    least, rounds = _least([_Batch(call) for call in calls], device, seconds - (time.perf_counter() - start))
    rates = [_flops(size) / taken for size, taken in zip(sizes, least, strict=True)]
    best = max(range(len(rates)), key=rates.__getitem__)
    return rates[best], " x ".join(map(str, sizes[best])), rounds


def _affordable(device: torch.device, dtype: torch.dtype, seconds: float) -> Iterator[tuple[ProductSize, Call]]:
    """Yield products, warmed up, that fit into the memory and can each be timed `ROUNDS` times within `seconds`.

    A product's time is guessed from the last one that stored its second matrix the same way, which can make a tenfold
    difference. The first product is small, so it needs no guess.
    """
    memory = MEMORY_SHARE * environment.available_memory(device)
    needed = 2 * _bytes(PRODUCTS[device.type][0], dtype)
    if needed > memory:
        raise BenchError(
            f"measuring the FLOP/s of {device} needs {needed / MEMORY_SHARE / 2**20:,.0f} MiB; free some of its memory"
        )
    rates, number, end = {False: float("inf"), True: float("inf")}, 0, time.perf_counter() + seconds
    for size in PRODUCTS[device.type]:
        memory -= 2 * _bytes(size, dtype)
        for by_columns, rate in rates.items():
            round_s = (number + 1) * _flops(size) / rate  # shorter products are repeated meanwhile
            if memory < 0 or ROUNDS * round_s > end - time.perf_counter():
                continue
            call = _product(size, by_columns, device, dtype)
            call()
            rates[by_columns] = _flops(size) / timed(call, "wall", device)
            number += 1
            yield size, call


def _product(size: ProductSize, by_columns: bool, device: torch.device, dtype: torch.dtype) -> Call:
    M, K, N = size
    draw = torch.Generator(device).manual_seed(0)
    x = torch.randn(M, K, dtype=dtype, device=device, generator=draw)
    stored = (N, K) if by_columns else (K, N)
    w = torch.randn(stored, dtype=dtype, device=device, generator=draw)
    w = w.T if by_columns else w  # (K, N)
    out = x.new_empty(M, N)
    return lambda: torch.mm(x, w, out=out)


def _flops(size: ProductSize) -> int:
    M, K, N = size
    return 2 * M * K * N


def _bytes(size: ProductSize, dtype: torch.dtype) -> int:
    M, K, N = size
    return (M * K + K * N + M * N) * dtype.itemsize


def working_sets(cache: int, least_largest: int = 0) -> list[int]:
    """Return the bytes of the copies to time: powers, up to the first one far beyond `cache` bytes."""
    largest = max(BEYOND_CACHES * cache, least_largest)
    sets = [SMALLEST_SET]
    while sets[-1] < largest:
        sets.append(sets[-1] * SET_STEP)
    return sets


def _traffic(device: torch.device, seconds: float) -> tuple[list[Copy], float, int]:
    """Return the copy rate of each working set by the fastest way, the rate of reading, and the number of rounds."""
    sets = working_sets(last_cache(device), BEYOND_ON_GPU if device.type == "cuda" else 0)
    free = environment.available_memory(device)
    if sets[-1] > MEMORY_SHARE * free:
        raise BenchError(
            f"measuring copies beyond the caches of {device} needs {sets[-1] / MEMORY_SHARE / 2**30:.1f} GiB "
            f"and {free / 2**30:.1f} GiB are free; free some of its memory"
        )
    draw = torch.Generator(device).manual_seed(0)
    source = torch.randn(sets[-1] // 8, device=device, generator=draw)  # four bytes each: half of the largest set
    target = torch.zeros_like(source)
    element = _Batch(_copy(source[:1], target[:1]), SMALL)
    batches, sizes = [element], [0]
    for size in sets:
        for call in _ways(source[: size // 8], target[: size // 8]):
            batches.append(_Batch(call, max(1, min(SMALL, 2**25 // size))))
            sizes.append(size)
    batches.append(_Batch(_read(source)))
    (bare, *least, read), rounds = _least(batches, device, seconds)
    moved = [max(taken - bare, taken / 2) for taken in least]  # half if a copy takes hardly more than a launch
    best = {size: min(taken for other, taken in zip(sizes[1:], moved, strict=True) if other == size) for size in sets}
    copies = [Copy(working_set=size, bytes_per_s=size / taken) for size, taken in best.items()]
    return copies, sets[-1] / 2 / read, rounds


def _ways(source: torch.Tensor, target: torch.Tensor) -> Iterator[Call]:
    """Yield the ways to copy float32 `source` (n,): by all threads of a CPU together, and by one thread alone.

    A small copy is over before a second thread wakes. torch does not split a copy of few elements, so the single thread
    copies pieces of torch's widest elements, 16 bytes each.
    """
    yield _copy(source, target)
    if source.device.type == "cpu":
        wide = [tensor.view(torch.complex128).split(UNSPLIT) for tensor in (source, target)]
        pieces = [_copy(*pair) for pair in zip(*wide, strict=True)]
        yield lambda: [piece() for piece in pieces]


def _read(source: torch.Tensor) -> Call:
    return lambda: torch.sum(source)


def _copy(source: torch.Tensor, target: torch.Tensor) -> Call:
    return lambda: target.copy_(source)


def _on_cpu(device: torch.device, dtype: torch.dtype, seconds: float) -> tuple[dict[str, Any], int]:
    """Return `launch`, the fastest operator with an output buffer, `operator`, one without, and `parallel`."""
    one, out = torch.ones(1, dtype=dtype), torch.empty(1, dtype=dtype)
    small: list[Call] = [
        lambda: torch.neg(one, out=out),
        lambda: torch.abs(one, out=out),
        lambda: torch.add(one, one, out=out),
        lambda: torch.add(one, one),
    ]
    least, rounds = _least([_Batch(call, SMALL) for call in small], device, seconds / 2)
    overheads: dict[str, Any] = {"launch": min(least[:-1]), "operator": least[-1]}
    if torch.get_num_threads() == 1:
        return overheads, rounds
    parallel, split_rounds = _parallel(device, dtype, seconds / 2)
    return {**overheads, "parallel": parallel}, min(rounds, split_rounds)


def _parallel(device: torch.device, dtype: torch.dtype, seconds: float) -> tuple[float, int]:
    """Return the time of the smallest operator that torch splits, minus its arithmetic: waking threads and waiting.

    Its arithmetic is half that of the largest operator that is not split, one element smaller: torch splits it between
    two threads, however many there are. Calls are timed one by one: in a row they would find the threads still awake.
    """
    x = torch.ones(UNSPLIT + 1, dtype=dtype)
    out = torch.empty_like(x)

    def negate(elements: int) -> _Batch:
        part, into = x[:elements], out[:elements]
        return _Batch(lambda: torch.neg(part, out=into))

    (one, alone, split), rounds = _least([negate(1), negate(UNSPLIT), negate(UNSPLIT + 1)], device, seconds)
    return max(0.0, split - one - (alone - one) / 2), rounds


def _on_gpu(device: torch.device, dtype: torch.dtype, seconds: float) -> tuple[dict[str, Any], int]:
    """Return `launch`, `operator` and `graph_replay`.

    `launch` is what one more empty kernel adds to a graph of them, `operator` the host's time to send one operator,
    without waiting, `graph_replay` the time per replay of many in a row on the device's clock, limited by the slower of
    host and device.
    """
    one = torch.ones(1, dtype=dtype, device=device)

    def launch() -> None:
        nothing[(1,)](one)

    launch()
    (few, many), rounds = _least([_Batch(launch), _Batch(launch, SMALL + 1)], device, seconds / 3)
    replays, sent = _Batch(captured(launch).replay, SMALL), _Batch(lambda: torch.add(one, one), SMALL)
    operator = graph_replay = float("inf")
    turns, end = 0, time.perf_counter() + seconds / 3
    while turns < ROUNDS or time.perf_counter() < end:
        graph_replay = min(graph_replay, timed(replays, "device", device) / SMALL)
        operator = min(operator, _sending(sent, device) / SMALL)
        turns += 1
    more = max(0.0, (SMALL + 1) * many - few) / SMALL
    return {"launch": more, "operator": operator, "graph_replay": graph_replay}, min(rounds, turns)


def _sending(call: Call, device: torch.device) -> float:
    """Return the seconds until `call` returns, whether or not the device is done."""
    synchronise(device)
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
