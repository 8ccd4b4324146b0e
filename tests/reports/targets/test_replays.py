"""What a run says of its graphs: replays beside their calls, and two ways to make caches cold."""

import pytest

from reports.output.blocks import Table, Text
from reports.targets.replays import replays
from tests.reports.targets.fabricated import BLOCKS, case, run


def measured(form, seconds, cache, offset=None):
    more = {} if offset is None else {"further_calls": 20, "replay_offsets": [offset] * 3 * BLOCKS}
    return case("g", form, seconds, cache=cache, blocks=[block // 3 for block in range(3 * BLOCKS)], **more)


def test_offsets_and_both_kinds_of_cold_caches_are_shown():
    cases = [
        measured("triton", 5e-6, "warm", 4e-6),
        measured("empty", 1e-6, "warm", 6e-6),
        measured("triton", 1.2e-5, "cold"),
        measured("triton", 6e-6, "rotated", 5e-6),
        measured("eager", 7e-6, "rotated", 5e-6),
    ]
    sentence, table = replays(run(*cases))
    assert isinstance(sentence, Text)
    assert "costs 5.00 µs, the median of 4 cases (4.00 µs to 6.00 µs)" in sentence.words
    assert isinstance(table, Table)
    (row,) = table.rows
    assert row[:3] == ("g", "sparse", "triton")
    assert float(row[5].rstrip("x×")) == pytest.approx(0.5, rel=0.05)


def test_a_run_without_longer_graphs_says_nothing():
    assert replays(run(measured("triton", 5e-6, "warm"), measured("triton", 9e-6, "cold"))) == []
