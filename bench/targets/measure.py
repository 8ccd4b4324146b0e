"""Timing a group: every peer on the same rows, checked first, then sampled interleaved in randomly ordered blocks."""

from __future__ import annotations

import gc
import math
import random
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bench.cases.unmeasurable import UnmeasurableError, unmeasurable
from bench.errors import told
from bench.targets.peers import Peer, Prepared
from bench.targets.peers.layers import Tensors, deviation, layer_output, new_tensors, tolerance
from bench.targets.plan import Group
from bench.timing import environment
from bench.timing.clock import synchronise
from bench.timing.disturbance import Disturbances, quiet
from bench.timing.stopwatch import Call, captured, samples
from reports.records.record import Status
from reports.records.timing import Routing, Timing

BLOCKS = 12
MOST_CALLS = 10
"""Samples of one case within one block."""
MARGIN = 5.0
"""Seconds to keep for what follows the last group."""

Progress = Callable[[str, float], None]
"""Called with what is going on and the share of the group that is done, 0 to 1."""


@dataclass(frozen=True)
class _Contest:
    """One peer on one routing: its planned cases, and the rows it computes."""

    peer: Peer
    tensors: Tensors
    cases: list[Timing]


@dataclass
class _Entry:
    """A case ready to be timed, and its samples so far."""

    case: Timing
    calls: list[Call]
    per_block: int = 1
    samples: list[float] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)
    failure: str = ""


def _free_memory(device: torch.device) -> None:
    """Give back what the last group held."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def time_group(
    group: Group, device: torch.device, seconds: float, deadline: float, seed: int, progress: Progress
) -> list[Timing]:
    """Return what became of every case of `group`, with about `seconds` of sampling per case.

    A peer whose preparation is not expected to end before `deadline`, of `time.monotonic`, is left out.
    """
    _free_memory(device)
    shared = {"group_id": uuid.uuid4().hex[:12], "measured_at": datetime.now(UTC).isoformat(timespec="seconds")}
    planned = [case.model_copy(update=shared) for case in group.planned()]
    try:
        by_routing = new_tensors(group.layer, group.rows, group.dtype, device, group.routings)
    except Exception as error:
        why = unmeasurable(error)
        return [case.model_copy(update=why.fields) for case in planned]
    contests = [
        _Contest(peer, by_routing[routing], [case for case in planned if case.contest == (routing, peer.name)])
        for routing, peer in group.contestants
    ]
    expected: dict[Routing, list[Tensor]] = {}
    entries: list[_Entry] = []
    finished: list[Timing] = []
    for number, contest in enumerate(contests):
        progress(f"preparing {contest.peer.name}", 0.7 * number / len(contests))
        ready, unmeasured = _ready(contest, expected, device, deadline)
        entries += ready
        finished += unmeasured
    expected.clear()
    _sample(entries, device, seconds, random.Random(seed), lambda share: progress("sampling", 0.7 + 0.3 * share))
    state = {name: value for name, value in environment.gpu_state(device).items() if name in Timing.model_fields}
    return finished + [_finished(entry, state) for entry in entries]


def _ready(
    contest: _Contest, expected: dict[Routing, list[Tensor]], device: torch.device, deadline: float
) -> tuple[list[_Entry], list[Timing]]:
    """Return the cases of a contest that can be timed, and the others with their reasons."""
    try:
        prepared, fields = _prepare(contest, expected, device, deadline)
    except UnmeasurableError as why:
        return [], [case.model_copy(update=why.fields) for case in contest.cases]
    plain: list[Call] = [_call(prepared, x) for x in contest.tensors.xs]
    graphs: list[Call] | UnmeasurableError | None = None
    entries, unmeasured = [], []
    for case in (case.model_copy(update=fields) for case in contest.cases):
        calls = plain
        if case.clock == "graph" and device.type == "cuda":
            if graphs is None:
                graphs = _graphs(contest, prepared, plain, expected)
            if isinstance(graphs, UnmeasurableError):
                unmeasured.append(case.model_copy(update=graphs.fields))
                continue
            calls = graphs
        entries.append(_Entry(case, calls))
    return entries, unmeasured


def _call(prepared: Prepared, x: Tensor) -> Call:
    def call() -> Tensor | None:
        with torch.inference_mode():
            return prepared.run(x)

    return call


def _prepare(
    contest: _Contest, expected: dict[Routing, list[Tensor]], device: torch.device, deadline: float
) -> tuple[Prepared, dict[str, Any]]:
    """Return a contest's peer, prepared and found right, and what is known of it."""
    peer, tensors = contest.peer, contest.tensors
    reason = peer.unavailable(tensors.layer, tensors.x.dtype, device)
    if reason is not None:
        raise UnmeasurableError(Status.UNAVAILABLE, reason)
    if time.monotonic() + peer.setup > deadline:
        raise UnmeasurableError(Status.SKIPPED, f"no time left for the {peer.setup:.0f} s that preparing it may take")
    start = time.perf_counter()
    try:
        with torch.inference_mode():
            prepared = peer.prepare(tensors)
            _poison(tensors)
            outputs = [prepared.run(x) for x in tensors.xs]
        synchronise(device)
        setup = time.perf_counter() - start
        checked = _check(contest, prepared, outputs, expected)
    except UnmeasurableError:
        raise
    except Exception as error:
        raise unmeasurable(error) from error
    sizes = len(tensors.x), tensors.x.element_size(), tensors.used_experts()
    flops, least_bytes = peer.counts(tensors.layer, *sizes, device)
    fields = {"setup": setup, "runs_on": prepared.runs_on, "flops": flops, "least_bytes": least_bytes, **checked}
    untimeable = peer.untimeable(device)
    if untimeable is not None:
        raise UnmeasurableError(Status.UNAVAILABLE, untimeable, **fields)
    return prepared, fields


def _graphs(
    contest: _Contest, prepared: Prepared, plain: Sequence[Call], expected: dict[Routing, list[Tensor]]
) -> list[Call] | UnmeasurableError:
    """Return a graph of each call, its replay found right over poisoned output, or why there is none."""
    try:
        with torch.inference_mode():
            graphs = [captured(call) for call in plain]
            for graph in graphs:
                if graph.output is not None:
                    graph.output.fill_(math.nan)
            _check(contest, prepared, [graph() for graph in graphs], expected)
    except UnmeasurableError as why:
        return why
    except Exception as error:
        return unmeasurable(error)
    return [graph.replay for graph in graphs]


def _check(
    contest: _Contest, prepared: Prepared, outputs: Sequence[Tensor | None], expected: dict[Routing, list[Tensor]]
) -> dict[str, float]:
    """Return error and tolerance of outputs that are right; raises `UnmeasurableError` for wrong ones."""
    present = [output for output in outputs if output is not None]
    if not present:
        return {}
    tensors = contest.tensors
    if prepared.expected is not None:
        wanted = [prepared.expected(x) for x in tensors.xs]
    else:
        routing = contest.cases[0].routing
        if routing not in expected:
            expected[routing] = [layer_output(tensors, x) for x in tensors.xs]
        wanted = expected[routing]
    error = max(deviation(output, want) for output, want in zip(present, wanted, strict=True))
    allowed = tolerance(tensors.x.dtype)
    if error > allowed:
        found = {"tolerance": allowed, **({"error": error} if math.isfinite(error) else {})}
        raise UnmeasurableError(Status.WRONG, f"deviates by {error:.2g} where {allowed:.2g} is allowed", **found)
    return {"error": error, "tolerance": allowed}


def _poison(tensors: Tensors) -> None:
    """Leave NaN in the free memory that an output is likely to get, so that what is not written shows."""
    for x in tensors.xs:
        x.new_full((len(x), tensors.layer.C), math.nan)


def _sample(
    entries: Sequence[_Entry],
    device: torch.device,
    seconds: float,
    rng: random.Random,
    progress: Callable[[float], None],
) -> None:
    """Fill the samples of every case, block by block in a random order; a disturbed case has failed."""
    for entry in entries:
        _attempt(entry, partial(_warm_up, entry, device, seconds))
    with quiet(), Disturbances() as watch:
        for block in range(BLOCKS):
            order = [entry for entry in entries if not entry.failure]
            rng.shuffle(order)
            for entry in order:
                watch.reset()
                _attempt(entry, partial(_take_block, entry, device, block))
                entry.failure = entry.failure or watch.found()
            progress((block + 1) / BLOCKS)


def _attempt(entry: _Entry, step: Callable[[], None]) -> None:
    """Take a step; what it raises is the failure of the case."""
    try:
        step()
    except Exception as error:
        entry.failure = told(error)


def _warm_up(entry: _Entry, device: torch.device, seconds: float) -> None:
    """Run the case a few times and decide how many samples of it a block takes."""
    quickest = min(samples(entry.calls, entry.case.clock, entry.case.cache, device, len(entry.calls) + 1))
    entry.per_block = max(1, min(MOST_CALLS, int(seconds / BLOCKS / max(quickest, 1e-6))))


def _take_block(entry: _Entry, device: torch.device, block: int) -> None:
    case = entry.case
    if case.clock == "call":
        entry.calls[0]()  # brings the case's own data and code back into the caches
    entry.samples += samples(entry.calls, case.clock, case.cache, device, entry.per_block)
    entry.blocks += [block] * entry.per_block


def _finished(entry: _Entry, state: dict[str, Any]) -> Timing:
    if entry.failure:
        return entry.case.model_copy(update={"status": Status.FAILED, "reason": entry.failure})
    taken = [float(f"{sample:.5g}") for sample in entry.samples]
    done = {"status": Status.MEASURED, "reason": "", "samples": taken, "blocks": entry.blocks, **state}
    return entry.case.model_copy(update=done)
