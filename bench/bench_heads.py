"""Every head in every form, as pytest-benchmark tests: `pytest bench --suite demo --benchmark-json result.json`."""

from __future__ import annotations

import pytest

from bench.cases.replay import REPLAY


@pytest.mark.benchmark(timer=REPLAY)
@pytest.mark.usefixtures("replay")
def bench_head(case: str) -> None:
    """Replay the samples of one case; its name holds checkpoint, head, form, part, rows, dtype, device and clock."""
