"""The validator of traces itself: a sound trace passes, and every way of breaking it is found."""

import gzip
import json
from typing import Any

import pytest

from tests.bench.chrome import problems


def span(name: str, start: float, length: float, thread: int = 1) -> dict[str, Any]:
    return {"ph": "X", "name": name, "cat": "cpu_op", "pid": 1, "tid": thread, "ts": start, "dur": length, "args": {}}


def sound() -> list[dict[str, Any]]:
    """Return events of every kind that traces of torch hold."""
    flow = {"cat": "ac2g", "id": 7, "name": "ac2g", "pid": 1, "tid": 1}
    return [
        {"ph": "M", "name": "process_name", "pid": 1, "tid": 0, "args": {"name": "python"}},
        {"ph": "M", "name": "thread_sort_index", "pid": 1, "tid": 1, "args": {"sort_index": 2}},
        {"ph": "i", "s": "t", "name": "began", "pid": 1, "tid": 1, "ts": 0.0},
        {"ph": "C", "name": "memory", "pid": 1, "ts": 1.0, "args": {"bytes": 3}},
        span("whole", 10.0, 20.0),
        span("first", 10.0, 5.0),
        span("second", 15.0, 15.0),
        span("kernel", 12.0, 30.0, thread=7),
        {**flow, "ph": "s", "ts": 11.0},
        {**flow, "ph": "f", "ts": 12.0, "tid": 7, "bp": "e"},
        {"ph": "B", "name": "outer", "pid": 1, "tid": 2, "ts": 3.0},
        {"ph": "E", "pid": 1, "tid": 2, "ts": 4.0},
    ]


def told(events: Any) -> list[str]:
    return problems(json.dumps({"traceEvents": events}).encode())


def test_a_sound_trace_passes_in_every_form() -> None:
    assert told(sound()) == []
    assert problems(json.dumps(sound()).encode()) == []
    assert problems(gzip.compress(json.dumps(sound()).encode())) == []


@pytest.mark.parametrize("place", range(len(sound())))
def test_every_field_that_a_phase_needs_is_missed(place: int) -> None:
    needed = {"ph", "ts", "pid", "name", "args", "dur", "id", "tid", "cat"} & sound()[place].keys()
    needed -= {"X": {"cat", "args"}, "M": {"tid"}, "i": {"tid"}}.get(sound()[place]["ph"], set())
    for key in needed:
        events = sound()
        del events[place][key]
        assert told(events), key


@pytest.mark.parametrize(
    ("place", "changes"),
    [
        (4, {"ts": -1.0}),
        (4, {"dur": -0.5}),
        (4, {"dur": "5"}),
        (4, {"ts": True}),
        (4, {"tid": 1.5}),
        (4, {"name": 3}),
        (4, {"args": []}),
        (4, {"ph": "Q"}),
        (0, {"name": "process_colour"}),
        (0, {"args": {"name": 5}}),
        (2, {"s": "x"}),
        (3, {"args": {"bytes": "many"}}),
        (5, {"dur": 6.0}),  # runs into its neighbour
        (6, {"dur": 15.001}),  # outlives what holds it by a nanosecond
        (8, {"id": 8}),
        (8, {"ts": 12.5}),
        (10, {"tid": 3}),
        (11, {"ts": 2.0}),
    ],
)
def test_a_spoiled_event_is_found(place: int, changes: dict[str, Any]) -> None:
    events = sound()
    events[place] |= changes
    assert told(events)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b'{"traceEvents": [1]}',
        b'{"traceEvents": [{"ph": "X", "name": "a", "pid": 1, "tid": 1, "dur": 1, "ts": NaN}]}',
        gzip.compress(b"[]")[:-5],
        gzip.compress(json.dumps(sound()).encode()[:-9]),
    ],
    ids=["empty", "no-events", "no-objects", "no-number", "cut-off", "cut-off-json"],
)
def test_what_is_no_trace_is_found(content: bytes) -> None:
    assert problems(content)
