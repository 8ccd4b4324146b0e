"""A validator of the Chrome JSON trace event format, which Perfetto imports, written from the format's description.

It shares no code with what writes or reads traces elsewhere.
"""

import gzip
import json
import math
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Event = dict[str, Any]

PLACED = ("name", "ts", "pid", "tid")
REQUIRED = {  # by phase
    "X": (*PLACED, "dur"),
    "B": PLACED,
    "E": ("ts", "pid", "tid"),
    "i": ("name", "ts", "pid"),
    "C": ("name", "ts", "pid", "args"),
    "M": ("name", "pid", "args"),
    **dict.fromkeys("stf", (*PLACED, "cat", "id")),
    **dict.fromkeys("bne", ("name", "cat", "id", "ts", "pid")),
}
METADATA = {  # what each kind of metadata tells, and as what
    "process_name": ("name", str),
    "process_labels": ("labels", str),
    "process_sort_index": ("sort_index", int),
    "thread_name": ("name", str),
    "thread_sort_index": ("sort_index", int),
}


def problems(content: bytes) -> list[str]:
    """Return what is wrong with a trace, gzipped or not; nothing where it is sound."""
    try:
        text = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
        trace = json.loads(text, parse_constant=lambda constant: {}[constant])
    except (OSError, EOFError, ValueError, KeyError) as error:
        return [f"unreadable: {type(error).__name__}"]
    events = trace.get("traceEvents") if isinstance(trace, dict) else trace
    if not isinstance(events, list) or not all(isinstance(event, dict) for event in events):
        return ["no list of events"]
    found = [problem for event in events for problem in wrong_fields(event)]
    return found or [*unpaired_flows(events), *unpaired_spans(events), *overlaps(events)]


def check(path: Path) -> None:
    """Fail where the trace at `path` is not sound."""
    assert problems(path.read_bytes()) == []


def wrong_fields(event: Event) -> Iterator[str]:
    phase = event.get("ph")
    if phase not in REQUIRED:
        yield f"unknown phase {phase!r}"
        return
    if missing := [key for key in REQUIRED[phase] if key not in event]:
        yield f"{phase} lacks {missing}"
        return
    for key in ("ts", "dur"):
        if key in event and not is_time(event[key]):
            yield f"{phase} has {key} {event[key]!r}"
    for key in ("pid", "tid"):
        if key in event and (not isinstance(event[key], int | str) or isinstance(event[key], bool)):
            yield f"{phase} has {key} {event[key]!r}"
    if not isinstance(event.get("name", ""), str) or not isinstance(event.get("args", {}), dict):
        yield f"{phase} has a name or arguments of a wrong type"
    elif phase == "M":
        yield from wrong_metadata(event)
    elif phase == "i" and event.get("s", "t") not in ("g", "p", "t"):
        yield f"i has scope {event['s']!r}"
    elif phase == "C" and not all(isinstance(value, int | float) for value in event["args"].values()):
        yield "C counts what is no number"


def wrong_metadata(event: Event) -> Iterator[str]:
    key, kind = METADATA.get(event["name"], ("", object))
    if not key:
        yield f"unknown metadata {event['name']!r}"
    elif not isinstance(event["args"].get(key), kind):
        yield f"{event['name']} tells no {key}"


def is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def unpaired_flows(events: list[Event]) -> Iterator[str]:
    """Yield the ends of flows that never began, or only later, and the beginnings that never end."""
    starts, ends = {}, {}
    for event in events:
        if event["ph"] in "sf":
            side = starts if event["ph"] == "s" else ends
            side[event["cat"], event["id"]] = event["ts"]
    for flow in starts.keys() ^ ends.keys():
        yield f"flow {flow} has one end"
    for flow in starts.keys() & ends.keys():
        if ends[flow] < starts[flow]:
            yield f"flow {flow} ends before it begins"


def unpaired_spans(events: list[Event]) -> Iterator[str]:
    """Yield begins without an end and ends without a begin, of threads (B, E) and of asynchronous work (b, e)."""
    open_spans: dict[Any, int] = defaultdict(int)
    for event in sorted((event for event in events if event["ph"] in "BEbe"), key=lambda event: event["ts"]):
        phase = event["ph"]
        place = (event["pid"], event["tid"]) if phase in "BE" else (event["cat"], event["id"], event["name"])
        open_spans[place] += 1 if phase in "Bb" else -1
        if open_spans[place] < 0:
            yield f"{phase} of {place} ends what never began"
            open_spans[place] = 0
    for place, number in open_spans.items():
        if number:
            yield f"{number} spans of {place} never end"


def overlaps(events: list[Event]) -> Iterator[str]:
    """Yield complete events of one thread of which neither holds the other, compared in whole nanoseconds."""
    threads = defaultdict(list)
    for event in events:
        if event["ph"] == "X":
            start = round(1000 * event["ts"])
            threads[event["pid"], event["tid"]].append((start, start + round(1000 * event["dur"]), event["name"]))
    for thread, spans in threads.items():
        holding: list[int] = []
        for start, end, name in sorted(spans, key=lambda span: (span[0], -span[1])):
            while holding and holding[-1] <= start:
                holding.pop()
            if holding and end > holding[-1]:
                yield f"{name} of {thread} outlives what holds it by {end - holding[-1]} ns"
            holding.append(end)
