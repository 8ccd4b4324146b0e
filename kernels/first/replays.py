"""Times of calls in CUDA graphs: what one more call takes, and what a replay takes beside its calls."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from kernels.first.log import Log
from kernels.tune import BLOCKS, event_seconds, graph, timed

Call = Callable[[], object]

FURTHER = 20
"""Calls by which the longer of two graphs exceeds the shorter, which holds one."""
LONG = 5e-4
"""Seconds of a call from which on so many are not needed."""
FURTHER_LONG = 3


def log_times(log: Log, calls: Mapping[str, Call], flops: float = 0.0, **values: Any) -> None:
    """Add a line for each call: microseconds per call and per replay beside, samples, and TFLOP/s if it has `flops`.

    A call that fails has a line that says so. Without a GPU each call runs once and has no times.
    """
    good: dict[str, Call] = {}
    for name, call in calls.items():
        try:
            call()
            good[name] = call
        except Exception as error:
            log.failed(error, variant=name, **values)
    if log.device.type == "cuda":
        times = slopes(good)
    for name in good:
        if log.device.type != "cuda":
            log.write(variant=name, us=None, **values)
            continue
        slope, offset = times[name]
        rate = {"tflops": round(flops / slope / 1e12, 1)} if flops else {}
        measured = {"us": _us(slope), "offset_us": _us(offset), **rate, "samples": BLOCKS, "clock": "graph"}
        log.write(variant=name, **measured, **values)


def slopes(calls: Mapping[str, Call]) -> dict[str, tuple[float, float]]:
    """Return the seconds of one more call in a graph, and those of a replay beside its calls."""
    ones = {name: graph(call, 1) for name, call in calls.items()}
    rough = timed(ones, partial(event_seconds, calls=1))
    further = {name: FURTHER_LONG if rough[name] > LONG else FURTHER for name in calls}
    sizes = {(name, size): size for name in calls for size in (1, 1 + further[name])}
    graphs = {key: ones[key[0]] if size == 1 else graph(calls[key[0]], size) for key, size in sizes.items()}
    seconds = timed(graphs, partial(event_seconds, calls=1))
    result = {}
    for name in calls:
        slope = (seconds[name, 1 + further[name]] - seconds[name, 1]) / further[name]
        result[name] = slope, seconds[name, 1] - slope
    return result


def _us(seconds: float) -> float:
    return round(1e6 * seconds, 3)
