"""Combine: the weighted sum of each row's expert outputs, read from their slots without atomics.

N rows, k experts per row, M assignments, C output width, S parts whose sum is an output.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.cost.work import LaunchWork
from kernels.launch.chain import follow
from kernels.launch.checks import FLOATS, bind_shapes, remembered, require_dtype
from kernels.launch.integers import cdiv, next_power_of_2
from kernels.launch.launch import launch, require_device
from kernels.problem.problem import Problem

TILE = 1024
"""Outputs of one program: 16 bytes a thread in a 16-bit dtype."""


@triton.jit
def _load_assignment(weights, slots, m, used):
    """Return the weights and slots of the assignments m that are `used`; without one they are 0 and negative."""
    slot = tl.load(slots + m, mask=used, other=-1).to(tl.int64)
    weight = tl.load(weights + m, mask=used, other=0.0).to(tl.float32)
    return tl.where(slot >= 0, weight, 0.0), slot


@triton.jit
def _load_output(y, slot, c, M, C, stride_ym, stride_yc, S: tl.constexpr):
    """Return the outputs of the slots (block_n, block_c), 0 for a negative slot."""
    y += slot[:, None] * stride_ym + c.to(tl.int64)[None, :] * stride_yc
    inside = (slot >= 0)[:, None] & (c < C)[None, :]
    total = tl.load(y, mask=inside, other=0.0).to(tl.float32)
    for s in tl.static_range(1, S):
        total += tl.load(y + tl.cast(s, tl.int64) * M * stride_ym, mask=inside, other=0.0).to(tl.float32)
    return total


@triton.jit(do_not_specialize=["N", "M"])
def _combine_kernel(
    y, weights, slots, starts, order, out,
    stride_ym, stride_yc,
    N, M, C,
    S: tl.constexpr, k: tl.constexpr, unroll: tl.constexpr, block_n: tl.constexpr, block_c: tl.constexpr,
    chained: tl.constexpr,
):  # fmt: skip
    follow(chained)
    n = tl.program_id(0).to(tl.int64) * block_n + tl.arange(0, block_n)
    c = tl.program_id(1) * block_c + tl.arange(0, block_c)
    used = n < N
    total = tl.zeros((block_n, block_c), tl.float32)
    if starts is None:
        end = tl.where(used, n * k + k, 0)
        for first in range(0, k, unroll):
            loaded: tl.tuple = ()  # first ask for all slots, then for the outputs
            for j in tl.static_range(unroll):
                m = n * k + first + j
                loaded += (_load_assignment(weights, slots, m, m < end),)
            for j in tl.static_range(unroll):
                weight, slot = loaded[j]
                total += weight[:, None] * _load_output(y, slot, c, M, C, stride_ym, stride_yc, S)
    else:
        begin = tl.load(starts + n, mask=used, other=0).to(tl.int64)
        end = tl.load(starts + n + 1, mask=used, other=0).to(tl.int64)
        longest = tl.max(end - begin, axis=0)
        done = tl.zeros_like(longest)
        while done < longest:
            m = begin + done
            here = m < end
            if order is not None:
                m = tl.load(order + m, mask=here, other=0).to(tl.int64)
            weight, slot = _load_assignment(weights, slots, m, here)
            total += weight[:, None] * _load_output(y, slot, c, M, C, stride_ym, stride_yc, S)
            done += 1
    tl.store(out + n[:, None] * C + c[None, :], total.to(out.dtype.element_ty), mask=used[:, None] & (c < C)[None, :])


def combine(
    y: Tensor,
    weights: Tensor,
    slots: Tensor,
    *,
    rows: int,
    k: int | None = None,
    starts: Tensor | None = None,
    order: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
) -> Tensor:
    """Return, for each row, the sum of weights[m] y[slots[m]] over its assignments m, (N, C).

    Args:
        y: Outputs in slot order, (M, C), or (S, M, C) for S parts that are added first. Any strides, but parts that are
            not contiguous are copied.
        weights: (M,), any floating dtype.
        slots: (M,) int32, below M, or negative for no output. Not checked, since that would wait for the device.
        rows: N.
        k: If set, row n has the assignments n k to n k + k - 1.
        starts: Otherwise row n has order[starts[n]] to order[starts[n + 1] - 1]; (N + 1,) int32, see `row_order`.
        order: (M,) int32 or int64; None if the assignments are in the order of their rows already.
        out_dtype: Dtype of the result, by default that of `y`.

    The sum is fp32, in the order of the assignments; a row without any gives 0.

    Raises:
        ValueError: An argument has the wrong shape, dtype or device.
    """
    parts = y.contiguous() if y.ndim == 3 else y[None]
    _check(parts, weights, slots, rows, k, starts, order)
    S, M, C = parts.shape
    out = torch.empty(rows, C, dtype=out_dtype or y.dtype, device=y.device)
    if rows == 0:
        return out
    block_c = min(next_power_of_2(C), TILE // 2)
    block_n = TILE // block_c
    launch(
        "combine",
        _combine_kernel,
        (cdiv(rows, block_n), cdiv(C, block_c)),
        {
            "y": parts,
            "weights": weights.contiguous(),
            "slots": slots.contiguous(),
            "starts": starts,
            "order": order,
            "out": out,
            "stride_ym": parts.stride(1),
            "stride_yc": parts.stride(2),
            "N": rows,
            "M": M,
            "C": C,
            "S": S,
            "k": k,
            "unroll": min(next_power_of_2(k or 1), 8),
            "block_n": block_n,
            "block_c": block_c,
        },
    )
    return out


def row_order(rows: Tensor, N: int, *, ordered: bool) -> tuple[Tensor, Tensor | None]:
    """Return starts (N + 1,) int32 and order (M,) that list the assignments of each row; no order if `ordered`.

    Args:
        rows: Row of each assignment, (M,) int32 or int64, 0 to N - 1.
        N: Number of rows.
        ordered: Whether `rows` never decrease.
    """
    order = None
    if not ordered:
        rows, order = torch.sort(rows, stable=True)
    every = torch.arange(N + 1, dtype=rows.dtype, device=rows.device)
    return torch.searchsorted(rows.contiguous(), every, out_int32=True), order


def combine_work(problem: Problem, splits: int, y_size: int) -> LaunchWork:
    """Return the work of `combine` on `splits` parts whose values have `y_size` bytes."""
    N, C, M = problem.N, problem.C, problem.M
    block_c = min(next_power_of_2(C), TILE // 2)
    wide = cdiv(C, block_c)
    y = splits * M * C * y_size
    written = N * C * problem.element_size
    flat = problem.routing == "flat"
    return LaunchWork(
        stage="combine",
        kernel="_combine_kernel",
        programs=cdiv(N, TILE // block_c) * wide,
        read=y + 4 * M * wide,
        written=written,
        touched=y + 4 * M + written,
        start=4 if flat else 3,
        fillings=2 * problem.k if flat else cdiv(problem.k, 8),
    )


def row_order_work(problem: Problem) -> tuple[LaunchWork, ...]:
    """Return the work of `row_order` on unordered int32 rows: one launch for each torch operator.

    In truth torch needs more than one launch for a large sort.
    """
    M, every = problem.M, problem.N + 1
    search = 4 * every * (1 + (M + 1).bit_length())
    return (
        LaunchWork("combine", "torch.sort", cdiv(M, 1024), read=4 * M, written=12 * M, touched=16 * M, start=8),
        LaunchWork("combine", "torch.arange", cdiv(every, 1024), written=4 * every, touched=4 * every, start=1),
        LaunchWork(
            "combine",
            "torch.searchsorted",
            cdiv(every, 1024),
            read=search,
            written=4 * every,
            touched=4 * (M + 2 * every),
            start=(M + 1).bit_length(),
        ),
    )


def combine_reference(
    y: Tensor,
    weights: Tensor,
    slots: Tensor,
    *,
    rows: int,
    k: int | None = None,
    starts: Tensor | None = None,
    order: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
) -> Tensor:
    """Return what `combine` does; the sum is fp32, or fp64 for fp64 outputs."""
    exact = torch.promote_types(y.dtype, torch.float32)
    sums = y.to(exact).sum(dim=0) if y.ndim == 3 else y.to(exact)  # (M, C)
    every = torch.arange(rows, device=y.device)
    lengths = torch.full_like(every, k or 0) if starts is None else starts.diff()
    row = every.repeat_interleave(lengths)  # row of each assignment in order
    m = torch.arange(len(slots), device=y.device) if order is None else order
    there = slots[m] >= 0
    row, m = row[there], m[there]
    out = torch.zeros(rows, y.shape[-1], dtype=exact, device=y.device)
    return out.index_add(0, row, weights[m, None].to(exact) * sums[slots[m]]).to(out_dtype or y.dtype)


@remembered
def _check(
    parts: Tensor, weights: Tensor, slots: Tensor, rows: int, k: int | None, starts: Tensor | None, order: Tensor | None
) -> None:
    """Raise ValueError unless these can be arguments of `combine`."""
    require_device(y=parts, weights=weights, slots=slots, starts=starts, order=order)
    require_dtype(*FLOATS, y=parts)
    require_dtype(torch.float64, *FLOATS, weights=weights)
    require_dtype(torch.int32, slots=slots)
    M = bind_shapes(slots=(slots, "M"), weights=(weights, "M"), y=(parts, "S M C"))["M"]
    if (k is None) == (starts is None):
        raise ValueError("pass the assignments of a row by k or by starts, and not by both")
    if k is not None and (order is not None or rows * k != M):
        raise ValueError(f"with k there must be N k = {rows * k} assignments, not {M}, and no order")
    if starts is not None:
        require_dtype(torch.int32, starts=starts)
        if starts.shape != (rows + 1,):
            raise ValueError(f"starts must have the shape (N + 1 = {rows + 1}), not {tuple(starts.shape)}")
    if order is not None:
        require_dtype(torch.int32, torch.int64, order=order)
    bind_shapes(slots=(slots, "M"), order=(order, "M"))
