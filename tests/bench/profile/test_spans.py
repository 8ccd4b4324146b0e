"""Which span each instant belongs to."""

from collections import Counter

import torch

from bench.profile.spans import Span, Timeline


def span(start: int, end: int) -> Span:
    """Return a span of which only the limits matter."""
    return Span("", "", (0, 0), start, end, {})


def test_shares_sum_to_the_union_however_spans_overlap() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        starts, lengths = torch.randint(0, 30, (2, 8), generator=generator).tolist()
        spans = [span(start, start + length) for start, length in zip(starts, lengths, strict=True)]
        covered = {instant for found in spans for instant in range(found.start, found.end)}
        timeline = Timeline(spans)
        owned = Counter(id(timeline.at(instant)) for instant in covered)
        assert sum(timeline.self_times()) == len(covered)
        assert timeline.self_times() == [owned[id(found)] for found in spans]
        for instant in covered:
            last = max(found.start for found in spans if found.start <= instant < found.end)
            owner = timeline.at(instant)
            assert owner is not None
            assert owner.start == last


def test_nothing_runs_outside() -> None:
    timeline = Timeline([span(5, 8), span(10, 12)])
    assert [instant for instant in range(15) if timeline.at(instant)] == [5, 6, 7, 10, 11]
    assert Timeline([]).at(0) is None
