"""Synthetic results of the suite `scale`: heads of many sizes whose break-even is chosen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from reports.records.record import CaseRecord
from tests.reports.synthetic import benchmark, record, samples, write

Sizes = tuple[int, int, int]  # D, E, k
HIDDEN = 64
TIMES = {("dense", "eager"): 1.5, ("dense", "onnxruntime"): 1.0, ("sparse", "loop"): 3.0, ("sparse", "eager"): 1.0}


def case(sizes: Sizes, rows: int, head: str = "sparse", form: str = "eager", **fields: Any) -> CaseRecord:
    """Return the record of a head of the suite `scale`."""
    features, experts, k = sizes
    sparse = head == "sparse"
    name = f"scale-d{features}-e{experts}"
    defaults: dict[str, Any] = {
        "suite": "scale",
        "checkpoint": f"{name}-k{k}" if sparse else name,
        "weights": "initialised",
        "test_accuracy": None,
        "data": "",
        "head": head,
        "form": form,
        "backbone": "identity",
        "rows": rows,
        "features": features,
        "hidden": HIDDEN if sparse else experts * HIDDEN,
        "experts": experts if sparse else 1,
        "k": k if sparse else 1,
        "routing": "noise",
        "group_id": f"{name}-n{rows}",
        "flops": 2 * rows * features * HIDDEN * (k if sparse else experts),
        "rows_per_expert": [],
    }
    return record(**defaults | fields)


def entries(sizes: Sizes, rows: int, ratio: float, noise: float = 0.01, **fields: Any) -> Iterator[dict[str, Any]]:
    """Yield a dense head and a sparse one, `ratio` times faster, in two forms each."""
    for place, ((head, form), times) in enumerate(TIMES.items()):
        median = 1e-4 * times / (ratio if head == "sparse" else 1)
        yield benchmark(
            case(sizes, rows, head, form, **fields), samples(median, seed=sum(sizes) + 7 * rows + place, noise=noise)
        )


def scale_run(
    path: Path,
    ratios: Mapping[Sizes, Mapping[int, float]],
    unmeasured: Iterable[CaseRecord] = (),
    more: Iterable[dict[str, Any]] = (),
    noise: float = 0.01,
) -> Path:
    """Write a result with a speed-up for each size and number of rows; heads of one layer share their dense head."""
    found = [*more]
    for sizes, by_rows in ratios.items():
        found += [entry for rows, ratio in by_rows.items() for entry in entries(sizes, rows, ratio, noise)]
    return write(path, list({entry["extra_info"]["case_id"]: entry for entry in found}.values()), unmeasured)
