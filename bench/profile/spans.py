"""The spans of a trace in Chrome's JSON format, and the span that each instant belongs to."""

from __future__ import annotations

import errno
import gzip
import io
import json
import zlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.errors import BenchError
from reports.records.files import LARGEST, read


@dataclass(frozen=True)
class Span:
    """A complete event of a trace, in nanoseconds."""

    name: str
    category: str
    thread: tuple[Any, Any]
    start: int
    end: int
    args: dict[str, Any]

    def holds(self, other: Span) -> bool:
        """True when `other` starts inside this span."""
        return self.start <= other.start < self.end

    def within(self, outer: Span) -> Span:
        """Return this span cut to `outer`; the clock of another device may overstep its limits."""
        start = min(max(self.start, outer.start), outer.end)
        return replace(self, start=start, end=min(max(self.end, start), outer.end))


def read_spans(path: Path) -> list[Span]:
    """Return the complete events of a trace in Chrome's JSON format, gzipped or not.

    Raises `BenchError` for any other file.
    """
    try:
        trace = json.loads(unpacked(path))
        return [_span(event) for event in trace["traceEvents"] if event["ph"] == "X"]
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, RecursionError) as error:
        problem = f"{type(error).__name__}: {error}"
        raise BenchError(f"{path} is no readable trace ({problem}); write it again with `moegap profile`") from None


def unpacked(path: Path, most: int = LARGEST) -> bytes:
    """Return the content of a file, decompressed if it is gzipped; raises `OSError` if it has more than `most` bytes.

    Raises `EOFError` and `zlib.error` for a gzipped file that is cut off or damaged.
    """
    content = read(path, most)
    if path.suffix != ".gz":
        return content
    with gzip.open(io.BytesIO(content)) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it unpacks to more than {most:,} bytes", str(path))
    return content


def _span(event: dict[str, Any]) -> Span:
    start = round(event["ts"] * 1000)
    return Span(
        name=event["name"],
        category=event.get("cat", ""),
        thread=(event["pid"], event["tid"]),
        start=start,
        end=start + round(event["dur"] * 1000),
        args=event.get("args", {}),
    )


def in_turn(spans: Sequence[Span]) -> list[Span]:
    """Return each span without the time for which one before it still runs on its stream: it only waits then.

    Kernels that are launched before the one before has ended do so.
    """
    ends: dict[tuple[Any, Any], int] = {}
    cut = [*spans]
    for place in sorted(range(len(spans)), key=lambda place: (spans[place].start, spans[place].end)):
        span = spans[place]
        start = max(span.start, ends.get(span.thread, span.start))
        cut[place] = replace(span, start=min(start, span.end))
        ends[span.thread] = max(start, span.end)
    return cut


def without_overruns(spans: Sequence[Span]) -> list[Span]:
    """Return the spans in their order, those cut at the next start that last beyond the end of a later one.

    Work of one stream ends in the order in which it began, so such a length is a mistake of the profiler.
    """
    cut = [*spans]
    later: dict[tuple[Any, Any], tuple[int, int]] = {}  # of each stream: the next start, and the earliest end after it
    for place in sorted(range(len(spans)), key=lambda place: (spans[place].start, spans[place].end), reverse=True):
        span = spans[place]
        start, end = later.get(span.thread, (span.end, span.end))
        if span.end > end:
            cut[place] = replace(span, end=start)
        later[span.thread] = span.start, min(spans[place].end, end)
    return cut


class Timeline:
    """The instants in which any of `spans` runs; each belongs to the running span that started last.

    Among nested spans that is the innermost. All self times sum to the length of the union of the spans.
    """

    def __init__(self, spans: Sequence[Span]) -> None:
        self.spans = spans
        self._pieces: list[tuple[int, int, int]] = []  # start, end, place in `spans`
        running: list[int] = []
        now = 0
        for place in sorted(range(len(spans)), key=lambda place: (spans[place].start, -spans[place].end)):
            self._advance(running, now, spans[place].start)
            now = spans[place].start
            running.append(place)
        self._advance(running, now, max((span.end for span in spans), default=0))

    def _advance(self, running: list[int], now: int, until: int) -> None:
        """Give the time from `now` to `until` to the last of `running`, and drop those that end."""
        while running:
            end = self.spans[running[-1]].end
            stop = min(end, until)
            if stop > now:
                self._pieces.append((now, stop, running[-1]))
                now = stop
            if end > until:
                return
            running.pop()

    def self_times(self) -> list[int]:
        """Return the nanoseconds that belong to each span."""
        nanoseconds = [0] * len(self.spans)
        for start, end, place in self._pieces:
            nanoseconds[place] += end - start
        return nanoseconds

    def at(self, instant: int) -> Span | None:
        """Return the span that `instant` belongs to."""
        before = bisect_right(self._pieces, instant, key=lambda piece: piece[0]) - 1
        if before < 0 or instant >= self._pieces[before][1]:
            return None
        return self.spans[self._pieces[before][2]]
