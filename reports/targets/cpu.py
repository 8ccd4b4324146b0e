"""The targets of the native kernel on a CPU, where the wall clock stands for graphs.

Letters: N rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reports.records.record import Cache
from reports.targets.target import Layers, Pair, Pairs, Target, best, is_head, share, skewed

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
        share("least_bytes", "read", "native", lambda record: record.rows <= 16), percent=True, caches=("warm",),
    ),
    Target(
        "large layers, N = 1,024: share of the best product", "at least", 0.6, 0.8,
        share("flops", "peak", "native", lambda record: record.rows == 1024), percent=True, caches=("warm",),
    ),
    Target(
        "paper's head: Zipf 2 or one hot expert / balanced", "at most", 1.25, 1.08,
        skewed("native", {"zipf2": "Zipf 2", "hot": "one hot expert"}), caches=("warm",),
    ),
    Target("paper's head, dense: addmm / native", "at least", 0.95, 1.0, _dense_native, caches=("warm",)),
)  # fmt: skip
