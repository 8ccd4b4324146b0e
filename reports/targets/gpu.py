"""The targets of the Triton kernels on a GPU.

Letters: N rows, E experts, k experts per row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from reports.reading.load import MeasuredCase, record_of
from reports.records.record import Cache
from reports.targets.target import LayerCases, Layers, Pair, Target, best, is_head, is_large, ratios, share, skewed

SPARSE = (
    "triton", "triton_fused", "triton_grouped", "grouped_mm", "eager", "masked", "compile_grouped_mm", "compile_max",
)  # fmt: skip
DENSE = ("eager", "compile_max")
ATTAINED = 0.9
"""Reaching this share of the attainable speed-up is beyond what was asked."""


def _best_sparse_to_dense(layers: Layers, cache: Cache) -> Iterator[Pair]:
    for layer in layers:
        if not is_head(layer.record) or layer.get("eager", cache, head="dense") is None:
            continue
        sparse, dense = best(layer, SPARSE, cache, "sparse"), best(layer, DENSE, cache, "dense")
        if sparse is None or dense is None:
            yield Pair(layer.name, None, None, missing="no time of a sparse or of a dense form")
            continue
        attainable = _attainable(layers, layer, dense, cache)
        beyond = None if attainable is None else min(1.0, 1 / (ATTAINED * attainable))
        label = f"{layer.name}: {sparse.record.form} / dense {dense.record.form}"
        yield Pair(label, sparse, dense, beyond=beyond)


def _attainable(layers: Layers, layer: LayerCases, dense: MeasuredCase, cache: Cache) -> float | None:
    """Return floor(dense) / floor(sparse) by the anchors of the run, or None if one was not measured."""
    sparse = layer.get("triton", cache)
    empty, copy, peak = layer.timed("empty", cache), _first(layers, "copy", cache), _first(layers, "peak", cache)
    if sparse is None or empty is None or copy is None or peak is None:
        return None
    if not (copy.record.least_bytes and peak.record.flops):
        return None
    launch = float(np.median(empty.samples))
    bandwidth = copy.record.least_bytes / float(np.median(copy.samples))
    rate = peak.record.flops / float(np.median(peak.samples))
    floors = [
        max(record.flops / rate, (record.least_bytes or 0) / bandwidth) + launch
        for record in (dense.record, record_of(sparse))
    ]
    return floors[0] / floors[1]


def _first(layers: Layers, form: str, cache: Cache) -> MeasuredCase | None:
    """Return the first case of an anchor, which a run has once for all layers."""
    cases = (layer.timed(form, cache) for layer in layers)
    return next((case for case in cases if case is not None), None)


def _besides_products(layers: Layers, cache: Cache) -> Iterator[Pair]:
    many = ratios(lambda record: is_large(record) and record.rows == 8192, "triton_products", "triton")
    for pair in many(layers, cache):
        yield replace(pair, scale=-1.0, shift=1.0)


TARGETS = (
    Target(
        "paper's head, N <= 1024, graph: fused / empty launch", "at most", 3.0, 2.0,
        ratios(lambda record: is_head(record) and record.rows <= 1024, "triton_fused", "empty"),
    ),
    Target("paper's head, N 1 to 65,536, graph: best sparse / best dense", "at most", 1.0, 1.0, _best_sparse_to_dense),
    Target(
        "paper's head, call: per-expert loop / ours", "at least", 10.0, 25.0,
        ratios(is_head, "loop", "triton", "wall"), caches=("warm",),
    ),
    Target(
        "paper's head, graph: grouped_mm pipeline / ours", "at least", 3.0, 6.0, ratios(is_head, "grouped_mm", "triton")
    ),
    Target(
        "large layers, 512 rows per expert or more, graph: cuBLAS at equal operations / grouped products",
        "at least", 0.80, 0.92, ratios(
            lambda record: is_large(record) and record.rows * record.k >= 512 * record.experts,
            "cublas", "triton_products",
        ),
    ),
    Target(
        "large layers, N >= 8192, graph: cuBLAS at equal operations / whole layer", "at least", 0.70, 0.88,
        ratios(lambda record: is_large(record) and record.rows >= 8192, "cublas", "triton"),
    ),
    Target(
        "E 128, D 2048, H 768, k 8, swiglu, call: Liger / ours, routing given", "at least", 1.2, 1.6, ratios(
            lambda record: (record.features, record.hidden, record.experts, record.k) == (2048, 768, 128, 8),
            "liger", "triton_given", "wall",
        ), caches=("warm",),
    ),
    Target(
        "large layers, N <= 256, graph: share of the copy's bandwidth", "at least", 0.65, 0.85,
        share("least_bytes", "copy", "triton", lambda record: record.rows <= 256), percent=True,
    ),
    Target(
        "large layers, graph: Zipf or one hot expert / balanced", "at most", 1.25, 1.08,
        skewed("triton", {"zipf1": "zipf", "hot": "hot"}),
    ),
    Target(
        "large layers, N = 8192, graph: share outside the two products", "at most", 0.15, 0.07, _besides_products,
        percent=True,
    ),
)  # fmt: skip
