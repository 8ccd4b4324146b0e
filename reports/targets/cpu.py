"""The targets of the native kernel on a CPU, where the wall clock stands for graphs.

Letters: N rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Literal

from reports.reading.load import record_of
from reports.records.record import Cache, CaseRecord
from reports.targets.target import Layers, Pair, Pairs, Target, best, is_head, is_large, ratios

OTHERS = ("eager", "compile", "grouped_mm", "onnxruntime", "onnxruntime_moe")
DENSE = ("native", "eager", "compile", "onnxruntime")


def _over_native(forms: Sequence[str], head: str, rows: int | None = None) -> Pairs:
    """Return the pairs time of the best of `forms` of a head / time of the native sparse one, at `rows` or all."""

    def pairs(layers: Layers, cache: Cache) -> Iterator[Pair]:
        for layer in layers:
            native = layer.get("native", cache)
            if not is_head(layer.record) or native is None or layer.record.rows != (rows or layer.record.rows):
                continue
            other = best(layer, forms, cache, head)
            form = f"{head} {other.record.form}" if other else ""
            yield Pair(f"{layer.name}: {form} / native", other, native, missing="" if other else "no time of a form")

    return pairs


def _dense_native(layers: Layers, cache: Cache) -> Iterator[Pair]:
    for layer in layers:
        native, addmm = layer.get("native", cache, head="dense"), layer.get("eager", cache, head="dense")
        if native is not None and addmm is not None:
            yield Pair(layer.name, addmm, native)


def _share(of: Literal["least_bytes", "flops"], anchor: str, wanted: Callable[[CaseRecord], bool]) -> Pairs:
    """Return the bytes or operations per second of the native form over those of an anchor, for `wanted` layers."""
    measured = ratios(lambda record: is_large(record) and wanted(record), anchor, "native")

    def pairs(layers: Layers, cache: Cache) -> Iterator[Pair]:
        for pair in measured(layers, cache):
            whole, done = (getattr(record_of(entry), of) for entry in (pair.over, pair.under) if entry is not None)
            if whole:
                yield replace(pair, scale=(done or 0) / whole)

    return pairs


def _native_skew(layers: Layers, cache: Cache) -> Iterator[Pair]:
    for layer in layers:
        for routing, name in (("zipf2", "Zipf 2"), ("hot", "one hot expert")):
            skewed = layer.get("native", cache, routing=routing)
            if skewed is not None:
                yield Pair(f"{layer.name}: {name}", skewed, layer.get("native", cache))


_SPEEDUPS = {1: (1.5, 1.9), 32: (2.0, 3.0), 256: (2.5, 3.2), 2048: (2.6, 3.2), 8192: (2.6, 3.2), 65536: (2.4, 3.2)}
"""By rows, how many times as fast as the best dense form the kernel should be; and 0.85 of what is attainable."""

TARGETS = (
    *(
        Target(
            f"paper's head, {rows:,} {'row' if rows == 1 else 'rows'}: best dense / native sparse", "at least",
            reach, beyond, _over_native(DENSE, "dense", rows), caches=("warm",),
        )
        for rows, (reach, beyond) in _SPEEDUPS.items()
    ),
    Target(
        "paper's head: best other sparse form / native", "at least", 1.3, 2.0, _over_native(OTHERS, "sparse"),
        caches=("warm",),
    ),
    Target(
        "large layers, N <= 16: share of the bandwidth of reading", "at least", 0.75, 0.9,
        _share("least_bytes", "read", lambda record: record.rows <= 16), percent=True, caches=("warm",),
    ),
    Target(
        "large layers, N = 1,024: share of the best product", "at least", 0.6, 0.8,
        _share("flops", "peak", lambda record: record.rows == 1024), percent=True, caches=("warm",),
    ),
    Target("paper's head: Zipf 2 or one hot expert / balanced", "at most", 1.25, 1.08, _native_skew, caches=("warm",)),
    Target("paper's head, dense: addmm / native", "at least", 0.95, 1.0, _dense_native, caches=("warm",)),
)  # fmt: skip
