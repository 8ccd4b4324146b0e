"""Router: finds the k experts of each row, their weights, and how often each expert was chosen, in one launch.

N rows, D input width, E experts, k experts per row, B blocks of rows.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.cost.work import LaunchWork, unit_of
from kernels.launch.chain import follow
from kernels.launch.integers import cdiv, next_power_of_2
from kernels.launch.launch import launch
from kernels.launch.tickets import counters, take_ticket
from kernels.ops.parts import sum_parts, waits
from kernels.ops.ranking import gate_matrix, standardise, top_k
from kernels.problem.options import Router, least_columns
from kernels.problem.problem import Problem
from kernels.problem.routes import Gate, check_gate


@dataclass(frozen=True)
class Routed:
    """The experts of each row, and how often each occurs in every block of assignments, as `ops.dispatch` needs it.

    Assignment m is place m % k of row m // k.
    """

    ids: Tensor  # (N, k) int32, best first; if k = E, in the order of id
    weights: Tensor  # (N, k) fp32
    counts: Tensor  # (B, E) int32, assignments to e in block b
    block: int  # assignments of a block; the last may be shorter


@triton.jit
def _scores(
    x, weight, n, e, first,
    stride_xn, stride_xd, stride_we, stride_wd,
    D: tl.constexpr, depth: tl.constexpr, steps: tl.constexpr,
):  # fmt: skip
    """Return rows n of x times rows e of weight, (block_n, block_e), over `steps` steps of depth from `first` on."""
    d = first + tl.arange(0, depth)
    x += n[:, None] * stride_xn + d.to(tl.int64)[None, :] * stride_xd
    weight += e.to(tl.int64)[:, None] * stride_we + d.to(tl.int64)[None, :] * stride_wd
    total = tl.zeros((n.shape[0], e.shape[0]), tl.float32)
    for step in range(steps):
        deep = (d < D - step * depth)[None, :]
        w_tile = tl.load(weight, mask=deep, other=0.0)  # (block_e, depth)
        x_tile = tl.load(x, mask=deep, other=0.0).to(w_tile.dtype)  # (block_n, depth)
        total = tl.dot(x_tile, tl.trans(w_tile), total, input_precision="ieee")
        x += tl.cast(stride_xd, tl.int64) * depth
        weight += tl.cast(stride_wd, tl.int64) * depth
    return total


@triton.jit
def _select(
    z, ids, weights, counts, n, used, temperature,
    E: tl.constexpr, k: tl.constexpr, standardised: tl.constexpr, over_all: tl.constexpr, block_k: tl.constexpr,
):  # fmt: skip
    """Store ids, weights and counts of the rows n that are `used`, from their scores (block_n, block_e)."""
    e = tl.arange(0, z.shape[1])
    real = (e < E)[None, :]
    if k == E:
        weight, chosen = gate_matrix(z, e, real, E, k, temperature, standardised, over_all)
        place = n[:, None] * E + e[None, :]
        tl.store(ids + place, tl.broadcast_to(e[None, :], z.shape), mask=used[:, None] & real)
        tl.store(weights + place, weight, mask=used[:, None] & real)
    else:
        if standardised:
            z = standardise(z, real, E)
        scale = tl.div_rn(1.0, temperature)
        largest = tl.max(tl.where(real, z, float("-inf")), axis=1)[:, None] * scale
        total = tl.sum(tl.where(real, tl.exp(z * scale - largest), 0.0), axis=1)
        best, best_z, chosen = top_k(z, e, real, k, block_k)
        j = tl.arange(0, block_k)
        powers = tl.where((j < k)[None, :], tl.exp(best_z * scale - largest), 0.0)  # (block_n, block_k)
        if not over_all:
            total = tl.sum(powers, axis=1)
        place = n[:, None] * k + j[None, :]
        inside = used[:, None] & (j < k)[None, :]
        tl.store(ids + place, best, mask=inside)
        tl.store(weights + place, powers * tl.div_rn(1.0, total)[:, None], mask=inside)
    tl.store(counts + e, tl.sum((chosen & used[:, None]).to(tl.int32), axis=0), mask=e < E)


@triton.jit(do_not_specialize=["N"])
def _route_kernel(
    x, weight, bias, ids, weights, counts, partial, counter,
    stride_xn, stride_xd, stride_we, stride_wd, stride_be,
    temperature, N,
    D: tl.constexpr, E: tl.constexpr, k: tl.constexpr, standardised: tl.constexpr, over_all: tl.constexpr,
    tile_rows: tl.constexpr, depth: tl.constexpr, steps: tl.constexpr, splits: tl.constexpr,
    block_e: tl.constexpr, block_k: tl.constexpr, chained: tl.constexpr,
):  # fmt: skip
    follow(chained)
    tile = tl.program_id(0).to(tl.int64)
    split = tl.program_id(1)
    n = tile * tile_rows + tl.arange(0, tile_rows)
    used = n < N
    row = tl.minimum(n, N - 1)
    e = tl.minimum(tl.arange(0, block_e), E - 1)
    first = split * steps * depth
    z = _scores(x, weight, row, e, first, stride_xn, stride_xd, stride_we, stride_wd, D, depth, steps)
    last = True
    if splits > 1:
        place = tl.arange(0, tile_rows)[:, None] * E + tl.arange(0, block_e)[None, :]
        inside = used[:, None] & (tl.arange(0, block_e) < E)[None, :]
        partial += tile * tile_rows * E
        size = tl.cast(N, tl.int64) * E
        tl.store(partial + split * size + place, z, mask=inside)
        last = take_ticket(counter + tile, splits)
        if last:
            z = sum_parts(partial, size, place, inside, splits)
    if last:
        if bias is not None:
            z += tl.load(bias + e.to(tl.int64) * stride_be).to(tl.float32)[None, :]
        _select(z, ids, weights, counts + tile * E, n, used, temperature, E, k, standardised, over_all, block_k)


def route(x: Tensor, gate: Gate, options: Router) -> Routed:
    """Return the k best of E experts of each row of x (N, D) by the scores of `gate`; any strides.

    Sums are fp32, and so is the product if the gate's weights are fp32.

    Raises:
        ValueError: An argument has the wrong shape, dtype, range or device.
    """
    N, D, E = check_gate(x, gate)
    k = gate.k
    tiles = cdiv(N, options.tile_rows)
    routed = Routed(
        ids=torch.empty(N, k, dtype=torch.int32, device=x.device),
        weights=torch.empty(N, k, dtype=torch.float32, device=x.device),
        counts=torch.empty(tiles, E, dtype=torch.int32, device=x.device),
        block=options.tile_rows * k,
    )
    if N == 0:
        return routed
    split = options.splits > 1
    launch(
        "route",
        _route_kernel,
        (tiles, options.splits),
        {
            "x": x,
            "weight": gate.weight,
            "bias": gate.bias,
            "ids": routed.ids,
            "weights": routed.weights,
            "counts": routed.counts,
            "partial": torch.empty(options.splits, N, E, dtype=torch.float32, device=x.device) if split else None,
            "counter": counters(tiles, x.device) if split else None,
            "stride_xn": x.stride(0),
            "stride_xd": x.stride(1),
            "stride_we": gate.weight.stride(0),
            "stride_wd": gate.weight.stride(1),
            "stride_be": 0 if gate.bias is None else gate.bias.stride(0),
            "temperature": float(gate.temperature),
            "N": N,
            "D": D,
            "E": E,
            "k": k,
            "standardised": gate.standardise,
            "over_all": gate.weights_over == "all",
            "tile_rows": options.tile_rows,
            "depth": options.depth,
            "steps": cdiv(cdiv(D, options.depth), options.splits),
            "splits": options.splits,
            "block_e": max(least_columns(options.tile_rows), next_power_of_2(E)),
            "block_k": next_power_of_2(k),
        },
        warps=options.warps,
        stages=options.stages,
    )
    return routed


def route_work(problem: Problem, options: Router) -> LaunchWork:
    """Return the work of `route`."""
    N, D, E, k, size = problem.N, problem.D, problem.E, problem.k, problem.element_size
    tiles, splits, rows = cdiv(N, options.tile_rows), options.splits, options.tile_rows
    steps = cdiv(cdiv(D, options.depth), splits)
    block_e = max(least_columns(rows), next_power_of_2(E))
    sums = 4 * splits * N * E if splits > 1 else 0
    results = 8 * N * k + 4 * tiles * E
    return LaunchWork(
        stage="route",
        kernel="_route_kernel",
        programs=tiles * splits,
        flops=2 * tiles * splits * steps * options.depth * rows * block_e,
        read=tiles * ((rows + block_e) * D + block_e) * size + sums,
        written=results + sums,
        touched=(N * D + E * D + E) * size + results,
        unit=unit_of(problem.dtype, "ieee"),
        tile=(rows, block_e),
        start=3 + cdiv(k, 4) + waits(splits, rows * block_e),
        fillings=cdiv(steps, options.stages),
        warps=options.warps,
        held=rows * block_e,
        shared=shared_bytes(problem, options),
    )


def shared_bytes(problem: Problem, options: Router) -> int:
    """Return the shared bytes of a program's operands."""
    block_e = max(least_columns(options.tile_rows), next_power_of_2(problem.E))
    return (options.tile_rows + block_e) * options.depth * problem.element_size * options.stages


def route_reference(x: Tensor, gate: Gate) -> tuple[Tensor, Tensor]:
    """Return the ids and weights of `route`; sums and weights are fp32, or fp64 for fp64 features."""
    exact = torch.promote_types(x.dtype, torch.float32)
    z = x.to(exact) @ gate.weight.to(exact).t()  # (N, E)
    if gate.bias is not None:
        z = z + gate.bias.to(exact)
    if gate.standardise:
        z = _standardise_reference(z)
    if gate.k == z.shape[1]:
        ids = torch.arange(gate.k, device=z.device).expand(z.shape)
    else:
        ids = torch.sort(z, dim=1, descending=True, stable=True).indices[:, : gate.k]  # (N, k)
    logits = z / gate.temperature
    if gate.weights_over == "selected":
        weights = torch.softmax(logits.gather(1, ids), dim=1)
    else:
        weights = torch.softmax(logits, dim=1).gather(1, ids)
    return ids.to(torch.int32), weights


def _standardise_reference(z: Tensor) -> Tensor:
    """Return the result of `kernels.ops.ranking.standardise` for z (N, E)."""
    c = z - z.mean(dim=1, keepdim=True)
    largest = c.abs().amax(dim=1, keepdim=True)
    c = c / torch.where(largest > 0, largest, 1)
    variance = c.square().sum(dim=1, keepdim=True) / max(z.shape[1] - 1, 1)
    return c / torch.where(variance == 0, 1, variance.sqrt())
