"""The kernel of `kernels.ops.specialised`, in Gluon: one warp copies tiles, and two warpgroups multiply them.

It is the second product of `kernels.ops.grouped_gemm`, whose rows lie in slot order, so that both operands arrive as
whole tiles by descriptor. Slots of the next expert that a tile copies are multiplied too, and not stored. A ring of
`stages` tiles lies between copying and multiplying: the copier waits until a place is empty, the multipliers until it
is full, and they go on from one tile to the next without a pause.

E experts; D input width and H output width of this product.
"""

from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from kernels.launch.descriptors import strides_of
from kernels.ops.places import find, place

MULTIPLIER_REGISTERS = gl.constexpr(240)
COPIER_REGISTERS = gl.constexpr(24)
"""Registers of a thread that multiplies, and of one that copies."""


@gluon.jit
def _tile(turn, offsets, tile_starts, E, H, tile_rows: gl.constexpr, columns: gl.constexpr, group: gl.constexpr,
          block_e: gl.constexpr):  # fmt: skip
    """Return the expert, first slot, slot after the expert's last, and column block of this program's tile `turn`."""
    unit = gl.program_id(0) + turn * gl.num_programs(0)
    _, tile, block = place(unit, gl.load(tile_starts + E), gl.cdiv(H, columns), group)
    e = gl.arange(0, block_e, gl.BlockedLayout([1], [32], [gl.num_warps()], [0]))
    expert, begin, end = find(e, tile, offsets, tile_starts, E, tile_rows)
    return expert, begin, end, block


@gluon.jit
def _next(stage, phase, stages: gl.constexpr):
    """Return the place in the ring after `stage`, and the phase of its barriers."""
    stage += 1
    return gl.where(stage == stages, 0, stage), gl.where(stage == stages, phase ^ 1, phase)


@gluon.jit
def _copy(a, w, a_ring, w_ring, full, empty, offsets, tile_starts, rounds, E, H, D: gl.constexpr,
          tile_rows: gl.constexpr, columns: gl.constexpr, depth: gl.constexpr, stages: gl.constexpr,
          group: gl.constexpr, block_e: gl.constexpr):  # fmt: skip
    """Fill the ring with the tiles of both operands."""
    stage = 0
    phase = 0
    for turn in range(rounds):
        expert, begin, _, block = _tile(turn, offsets, tile_starts, E, H, tile_rows, columns, group, block_e)
        for done in range(0, D, depth):
            mbarrier.wait(empty.index(stage), phase ^ 1)
            mbarrier.expect(full.index(stage), (tile_rows + columns) * depth * 2)
            tma.async_copy_global_to_shared(a, [begin, done], full.index(stage), a_ring.index(stage))
            w_at = [expert, done, block * columns]
            tma.async_copy_global_to_shared(w, w_at, full.index(stage), w_ring.index(stage))
            stage, phase = _next(stage, phase, stages)


@gluon.jit
def _multiply(a_ring, w_ring, full, empty, bias, out, offsets, tile_starts, rounds, stride_be, stride_bh, E, H,
              D: gl.constexpr, tile_rows: gl.constexpr, columns: gl.constexpr, depth: gl.constexpr,
              stages: gl.constexpr, group: gl.constexpr, block_e: gl.constexpr, part: gl.constexpr):  # fmt: skip
    """Empty the ring, and store the sums of one half of each tile's rows."""
    rows: gl.constexpr = tile_rows // 2
    layout: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [gl.num_warps(), 1], [16, columns, 16])
    stage = 0
    phase = 0
    for turn in range(rounds):
        expert, begin, end, block = _tile(turn, offsets, tile_starts, E, H, tile_rows, columns, group, block_e)
        total = gl.zeros((rows, columns), gl.float32, layout)
        last = stage
        for done in range(0, D, depth):
            mbarrier.wait(full.index(stage), phase)
            a_tile = a_ring.index(stage).slice(part * rows, rows)
            w_tile = w_ring.index(stage).reshape([depth, columns])
            total = warpgroup_mma(a_tile, w_tile, total, is_async=True)
            total = warpgroup_mma_wait(1, deps=[total])
            mbarrier.arrive(empty.index(last), pred=done > 0)
            last = stage
            stage, phase = _next(stage, phase, stages)
        total = warpgroup_mma_wait(0, deps=[total])
        mbarrier.arrive(empty.index(last))
        slot = begin + part * rows + gl.arange(0, rows, gl.SliceLayout(1, layout))
        h = block * columns + gl.arange(0, columns, gl.SliceLayout(0, layout))
        if bias is not None:
            bias_at = bias + expert.to(gl.int64) * stride_be + h.to(gl.int64) * stride_bh
            total += gl.load(bias_at, mask=h < H, other=0.0).to(gl.float32)[None, :]
        out_at = out + slot.to(gl.int64)[:, None] * H + h[None, :]
        gl.store(out_at, total.to(out.dtype.element_ty), mask=(slot < end)[:, None] & (h < H)[None, :])


@gluon.jit
def specialised_gemm_kernel(
    a, w, bias, out, offsets, tile_starts, stride_be, stride_bh, H, E,
    D: gl.constexpr, tile_rows: gl.constexpr, columns: gl.constexpr, depth: gl.constexpr, ring: gl.constexpr,
    group: gl.constexpr, block_e: gl.constexpr,
) -> None:  # fmt: skip
    """Run tile after tile: two partitions multiply half the rows of each, and one copies both operands."""
    units = gl.load(tile_starts + E) * gl.cdiv(H, columns)
    rounds = gl.cdiv(units - gl.program_id(0), gl.num_programs(0))
    a_ring = gl.allocate_shared_memory(a.dtype, [ring, tile_rows, depth], a.layout)
    w_ring = gl.allocate_shared_memory(w.dtype, [ring, 1, depth, columns], w.layout)
    full = gl.allocate_shared_memory(gl.int64, [ring, 1], mbarrier.MBarrierLayout())
    empty = gl.allocate_shared_memory(gl.int64, [ring, 1], mbarrier.MBarrierLayout())
    for stage in gl.static_range(ring):
        mbarrier.init(full.index(stage), count=1)
        mbarrier.init(empty.index(stage), count=2)
    gl.warp_specialize(
        [
            (_multiply, (a_ring, w_ring, full, empty, bias, out, offsets, tile_starts, rounds, stride_be, stride_bh,
                         E, H, D, tile_rows, columns, depth, ring, group, block_e, 0)),
            (_multiply, (a_ring, w_ring, full, empty, bias, out, offsets, tile_starts, rounds, stride_be, stride_bh,
                         E, H, D, tile_rows, columns, depth, ring, group, block_e, 1)),
            (_copy, (a, w, a_ring, w_ring, full, empty, offsets, tile_starts, rounds,
                     E, H, D, tile_rows, columns, depth, ring, group, block_e)),
        ],
        [4, 1],
        [MULTIPLIER_REGISTERS, COPIER_REGISTERS],
    )  # fmt: skip


def described(tensor: Tensor, block: list[int]) -> TensorDescriptor:
    """Return the descriptor of a describable tensor of 16-bit values, in tiles whose rows are swizzled in 128 bytes."""
    layout = gl.NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=16, rank=len(block))
    return TensorDescriptor(tensor, list(tensor.shape), strides_of(tensor), block, layout)
