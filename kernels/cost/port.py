"""The share of the tensor cores' rate that a tile can reach, because its operands pass the port of the shared memory.

Every operand of a product arrives in shared memory once, and each instruction reads it again. Reads and writes of one
multiprocessor share a port of 128 bytes per cycle (32 banks of 4 bytes: CUDA C++ Programming Guide, 5.5 and 16). A tile
of r rows and c columns, computed by instructions of m rows and n columns, takes for each step of depth 1

    multiply   2 r c / FLOPs per cycle
    port       bytes of a value x (r c / m + r c / n + r + c) / 128

cycles, because r c / (m n) instructions read m + n values each, and r + c values arrive. Whichever takes longer counts.
Some of the instructions (PTX ISA, sections on wgmma, mma and tcgen05):

    wgmma      sm_90: 64 rows and at most 256 columns; both operands are read from shared memory
    tcgen05    sm_100: 128 rows and at most 256 columns; with 64 rows half of the tensor core idles
    mma.sync   elsewhere: ldmatrix reads what one warp multiplies, so m and n are the tile of a warp. On sm_90 it
               reaches 0.63 of wgmma's rate (Luo et al., arXiv 2402.13499); for sm_100 half of that is a guess.

If the rows are weights stored in 8 or 4 bits, they reach the instructions by way of registers. Then the port takes

    port       (bytes of a value x (r c / m + c) + r x passing) / 128

for `passing` bytes of a stored weight, written once and read once: 1.1 in mxfp4, and 3 in e4m3, because a thread reads
two of these at a time, and that keeps the port as busy as four.

For 128 rows on sm_90, bf16: 0.67 for two dots of 64 columns, 0.80 for one of 128, 0.89 for two of 128, 1.00 for 256. So
a tile's columns should be one wide dot. In tf32 both terms double, and the shares are the same.
"""

from kernels.cost.machine import Machine
from kernels.cost.work import LaunchWork

PORT = 128
"""Bytes per cycle that one multiprocessor reads from and writes to its shared memory."""

WITHOUT = 0.5
"""The share of the fp32 rate that a product without tensor cores reaches, since loads take as many issue slots."""


def share(work: LaunchWork, machine: Machine) -> float:
    """Return the share of the FLOP rate that the tile of a launch can reach; 1 without a dot."""
    rows, columns = work.tile
    if rows == 0:
        return 1.0
    if work.unit == "fp32":
        return WITHOUT
    size, flops = (2, machine.cycle_flops) if work.unit == "half" else (4, machine.cycle_flops / 2)
    wide = columns * work.dots
    m, n, reached = instruction(work, machine)
    multiply = 2 * rows * wide / flops
    left = work.passing or size * (wide / n + 1)
    port = (size * (rows * wide / m + wide) + rows * left) / PORT
    return multiply / max(multiply / reached, port)


def instruction(work: LaunchWork, machine: Machine) -> tuple[int, int, float]:
    """Return the rows and columns that share one read of their operands, and the share of the rate that they reach."""
    rows, columns = work.tile
    if machine.capability // 10 == 9 and rows >= 64:
        groups = max(1, work.warps // 4 // (rows // 64))  # warpgroups side by side
        return 64, min(256, max(8, columns // groups)), 1.0
    if machine.capability // 10 == 10 and rows >= 64:
        return min(rows, 128), min(256, columns), min(rows, 128) / 128
    tall = max(1, min(rows // 16, work.warps // 2))  # warps above each other
    m, n = max(16, rows // tall), max(8, columns * tall // work.warps)
    return m, n, {9: 0.63, 10: 0.31}.get(machine.capability // 10, 1.0)
