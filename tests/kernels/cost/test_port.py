"""The share of the tensor cores' rate that the port of the shared memory leaves to a tile."""

from dataclasses import replace

import pytest

from kernels.cost.machine import A100, B200, H100, Machine
from kernels.cost.port import share
from kernels.cost.work import LaunchWork

WORK = LaunchWork("experts", "kernel", programs=1, unit="half", warps=8)


def tile(rows: int, columns: int, dots: int = 1, warps: int = 8) -> LaunchWork:
    return replace(WORK, tile=(rows, columns), dots=dots, warps=warps)


def cycles_of_a_step(rows: int, columns: int, dots: int) -> tuple[int, int]:
    """Count, on sm_90 in bf16, the cycles of the tensor core and of the port for 64 of the depth, copy by copy."""
    multiply = port = 0
    for _row in range(0, rows, 64):
        for _dot in range(dots):
            for _depth in range(0, 64, 16):
                multiply += 2 * 64 * columns * 16 // 4096
                port += (64 * 16 + columns * 16) * 2 // 128  # one wgmma reads A and B
    arriving = (rows * 64 + dots * columns * 64) * 2
    return multiply, port + arriving // 128


@pytest.mark.parametrize(
    ("columns", "dots", "cap"), [(64, 2, 0.67), (128, 1, 0.80), (128, 2, 0.89), (256, 1, 1.00), (64, 1, 0.57)]
)
def test_the_caps_of_128_rows_on_sm_90(columns: int, dots: int, cap: float) -> None:
    multiply, port = cycles_of_a_step(128, columns, dots)
    assert share(tile(128, columns, dots), H100) == pytest.approx(min(1, multiply / port))
    assert share(tile(128, columns, dots), H100) == pytest.approx(cap, abs=0.005)
    tf32 = replace(tile(128, columns, dots), unit="tf32")
    assert share(tf32, H100) == pytest.approx(cap, abs=0.005)


def test_warpgroups_side_by_side_read_the_same_rows() -> None:
    assert share(tile(64, 128, warps=8), H100) < share(tile(64, 128, warps=4), H100)


def test_a_transposed_product_uses_wgmma_and_a_narrow_one_does_not() -> None:
    assert share(tile(128, 16), H100) > share(replace(tile(16, 128), warps=4), H100)
    assert share(tile(32, 256), H100) <= 0.63


def test_stored_weights_pass_the_port_on_their_way_to_registers() -> None:
    """Cycles of one wgmma of 64 rows and 16 columns: it reads 16 x 16 activations; weights arrive and are read once."""
    port = (2 * 16 * 16 + 2 * 16 * 16 / 1 + 64 * 16 * 1.1) / 128
    stored = replace(tile(64, 16, warps=4), passing=1.1)
    assert share(stored, H100) == pytest.approx(2 * 64 * 16 * 16 / 4096 / port)
    assert share(stored, H100) > share(replace(stored, passing=3.0), H100) > share(tile(64, 16, warps=4), H100)


@pytest.mark.parametrize("machine", [A100, H100, B200], ids=lambda machine: machine.name)
def test_a_larger_tile_is_never_slower(machine: Machine) -> None:
    sizes = (16, 32, 64, 128, 256)
    for rows in sizes[:4]:
        for columns in sizes:
            assert 0 < share(tile(rows, columns, warps=4), machine) <= 1
    assert share(tile(128, 64), machine) <= share(tile(128, 128), machine) <= share(tile(128, 256), machine)
    assert share(tile(64, 64), machine) <= share(tile(128, 128), machine)


def test_the_port_never_limits_mma_sync_in_large_tiles() -> None:
    assert share(tile(128, 128), A100) == 1
    assert share(tile(128, 256), B200) == pytest.approx(2 / 3, abs=0.01)  # tcgen05 takes half the cycles of wgmma


def test_without_a_dot_or_tensor_cores() -> None:
    assert share(WORK, H100) == 1
    assert share(replace(tile(64, 64), unit="fp32"), H100) == 0.5
