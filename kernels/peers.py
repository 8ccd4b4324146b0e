"""Kernels of others as launches of the cost model: the same seconds as ours, with their tiles and their launches.

N rows, D input width, H hidden width of one expert, E experts, k experts per row, C output width, M assignments.
"""

from dataclasses import replace

from kernels.cost.machine import Machine
from kernels.cost.seconds import total_seconds
from kernels.cost.work import Histogram, LaunchWork, spread
from kernels.launch.integers import cdiv
from kernels.ops.combine import combine_work
from kernels.ops.grouped_gemm import Which, grouped_gemm_work
from kernels.paths.grouped_tiles import heights, products
from kernels.problem.options import Product
from kernels.problem.problem import Problem

VLLM_HOST = 185e-6
"""Seconds of one call of vLLM's from the host, not in a graph: its published times are the same for 1, 2 and 4 rows."""

LIGER_HOST = 150e-6
"""Seconds that the device idles in a call of Liger's, an estimate: the host starts seven small operations of some 20 us
each, reads the number of tiles back in the midst of them, and only then can start the products."""

CLUSTER = 2 / 3
"""The share of operand bytes that cuBLAS asks of L2: two programs of 128 x 256 read half of their 256 columns each."""


def vllm(layer: Problem, tile_rows: int, part: Product) -> tuple[LaunchWork, ...]:
    """Return the launches of vLLM's fused experts (SwiGLU): both products have the same tiles, both halves one product.

    Top-k, alignment (one program that scans all assignments), product, activation, product, sum.
    """
    size, M, experts = layer.element_size, layer.M, spread(layer)
    wide = replace(layer, H=2 * layer.H, activation="relu")
    return (
        LaunchWork("route", "topk_softmax", cdiv(layer.N, 4), read=4 * layer.N * layer.E, written=12 * M, start=3),
        LaunchWork("dispatch", "moe_align_block_size", 1, read=8 * M, written=8 * M, touched=16 * M, start=20),
        _product(wide, "first", part, experts, tile_rows),
        _elementwise("silu_and_mul", read=2 * M * layer.H * size, written=M * layer.H * size),
        _product(layer, "second", part, experts, tile_rows),
        combine_work(layer, 1, size),
    )


def liger(layer: Problem, tile_rows: int, part: Product) -> tuple[LaunchWork, ...]:
    """Return the launches of Liger's fused experts: three small ones sort, and the first product keeps its sums too.

    Tiles know their expert, so a program makes three dependent reads before its loop, not five.
    """
    M, experts = layer.M, spread(layer)
    first, second = (
        replace(_product(layer, which, part, experts, tile_rows), start=3) for which in ("first", "second")
    )
    sums = 2 * M * layer.H * layer.element_size
    sort = LaunchWork("dispatch", "sort", cdiv(M, 1024), read=4 * M, written=4 * M, touched=8 * M, start=4)
    return (
        *[sort] * 4,
        replace(first, written=first.written + sums, touched=first.touched + sums),
        second,
        combine_work(layer, 1, layer.element_size),
    )


def dense(layer: Problem, machine: Machine) -> tuple[LaunchWork, ...]:
    """Return the two products of a dense head with as many parameters, each with the best of our tiles."""
    head = replace(layer, E=1, k=1, M=layer.N, H=layer.E * layer.H, routing="top_k")

    def best(which: Which) -> LaunchWork:
        tried = [
            replace(_product(head, which, part, ((head.N, 1),), tile_rows), start=2)
            for tile_rows in heights(head)
            for part in products(head, machine, which, tile_rows)
            if part.splits == 1
        ]
        return min(tried, key=lambda work: total_seconds((work,), machine))

    return best("first"), best("second")


def cublas(layer: Problem) -> tuple[LaunchWork, ...]:
    """Return two dense products with as many FLOPs as the experts' have, as cuBLAS runs them on sm_90.

    Tiles of 128 x 256 in persistent programs, two of which share the columns they read.
    """
    wide = replace(layer, E=1, k=1, N=layer.M, H=layer.halves * layer.H, activation="relu")
    narrow = replace(layer, E=1, k=1, N=layer.M, activation="relu")
    return shared_columns(single(wide, "first")), shared_columns(single(narrow, "second"))


def single(problem: Problem, which: Which, *, persistent: bool = True) -> LaunchWork:
    """Return one product of M rows in tiles of 128 x 256 that find the expert of a tile at once."""
    part = Product(256, 64, 8, 4, described=persistent, persistent=persistent)
    rows = ((problem.M // problem.E, problem.E),)
    return replace(_product(problem, which, part, rows, 128), start=2)


def shared_columns(work: LaunchWork) -> LaunchWork:
    """Return a product whose programs share reads of L2 in clusters of two."""
    return replace(work, read=int(work.read * CLUSTER))


def _product(layer: Problem, which: Which, part: Product, experts: Histogram, tile_rows: int) -> LaunchWork:
    size = layer.element_size
    return grouped_gemm_work(layer, which, part, experts, tile_rows=tile_rows, precision=layer.precision, out_size=size)


def _elementwise(kernel: str, *, read: int, written: int) -> LaunchWork:
    programs = cdiv(written, 2048)
    return LaunchWork("experts", kernel, programs, read=read, written=written, touched=read + written, start=1)
