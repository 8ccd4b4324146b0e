"""Tiles of both grouped products beside the chosen ones, and beside dense products of as many operations by cuBLAS.

N rows, D input width, H hidden width of one expert, E experts, k experts per row, C output width, M assignments.
"""

from collections.abc import Collection
from dataclasses import replace
from functools import partial

import torch

from kernels.choice.choice import choose
from kernels.cost.machine import machine_of
from kernels.first.layers import layer
from kernels.first.log import Log
from kernels.first.replays import Call, log_times
from kernels.ops.dispatch import Dispatch, count, dispatch
from kernels.paths.grouped import Grouped
from kernels.paths.grouped_tiles import heights
from kernels.problem.options import Product
from kernels.problem.problem import Problem
from kernels.tune import tensors

LAYERS = ("e128", "olmoe", "mixtral")
ROWS = 8192


def firsts(chosen: Product) -> dict[str, Product]:
    """Return the first products to compare: both widths, one tile or many per program."""
    plain = replace(chosen, persistent=False, stages=3)
    return {
        "chosen": chosen,
        "64 plain": replace(plain, columns=64),
        "128 plain": replace(plain, columns=128),
        "64 persistent": replace(chosen, columns=64, persistent=True, stages=4),
        "128 persistent": replace(chosen, columns=128, persistent=True, stages=3),
    }


def seconds(chosen: Product) -> dict[str, Product]:
    """Return the second products to compare."""
    return {
        "chosen": chosen,
        "128 plain": replace(chosen, columns=128, persistent=False, stages=4),
        "256 plain": replace(chosen, columns=256, persistent=False, stages=3),
        "256 persistent": replace(chosen, columns=256, persistent=True, stages=3),
        "256 specialised": replace(chosen, columns=256, persistent=True, stages=4, specialised=True),
    }


def tiles(log: Log) -> None:
    """Log the time of both products with each tile of one of them, and of two dense products by cuBLAS."""
    for name in LAYERS:
        try:
            problem = layer(name, ROWS, log.device)
            flops = 2 * problem.M * problem.H * (problem.D * problem.halves + problem.C)
            log_times(log, variants(problem, log.device), flops, layer=name, N=problem.N)
        except Exception as error:
            log.failed(error, layer=name)
        if log.device.type == "cuda":
            torch.cuda.empty_cache()


def grouped(problem: Problem, device: torch.device) -> Grouped:
    """Return the grouped options of least estimated time."""
    chosen = choose(problem, machine_of(device))
    return chosen if isinstance(chosen, Grouped) else quickest(problem, device, heights(problem))


def quickest(problem: Problem, device: torch.device, tile_rows: Collection[int]) -> Grouped:
    """Return the grouped options of least estimated time in row tiles of these heights."""
    machine = machine_of(device)
    fitting = (each for each in Grouped.candidates(problem, machine, 1) if each.tile_rows in tile_rows)
    return min(fitting, key=lambda options: options.seconds(problem, machine))


def variants(problem: Problem, device: torch.device) -> dict[str, Call]:
    """Return calls of both products, rows spread evenly over the experts."""
    x, _, experts = tensors(problem, device)
    w1, _, w2, *_ = experts.parts()
    base = grouped(problem, device)
    ids = torch.arange(problem.M, device=device, dtype=torch.int32) % problem.E
    counts, block = count(ids, problem.E)
    rows: Dispatch = dispatch(ids, counts, block, k=problem.k, tile_rows=base.tile_rows)
    options = {f"first {name}": replace(base, first=first) for name, first in firsts(base.first).items()}
    options |= {f"second {name}": replace(base, second=second) for name, second in seconds(base.second).items()}
    stacked = quickest(replace(problem, activation="swiglu"), device, [base.tile_rows])
    sorted_x = x[rows.rows[: problem.M].long()]  # (M, D)
    hidden = torch.randn(problem.M, problem.H, device=device, dtype=problem.dtype)
    return {
        **{name: partial(each.products, x, rows, experts) for name, each in options.items()},
        "first stacked": partial(stacked.products, x, rows, replace(experts, activation="swiglu")),
        "cuBLAS, as many operations": lambda: (torch.mm(sorted_x, w1[0]), torch.mm(hidden, w2[0])),
    }
