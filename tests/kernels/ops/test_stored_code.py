"""The machine code of products with stored weights: wgmma on operands from registers, without spills."""

import json

import pytest

from tests.kernels.process import run_compiled


def test_weights_are_unpacked_in_registers_for_wgmma() -> None:
    done = run_compiled("-m", "tests.kernels.ops.compile_stored")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert len(rows) == 4
    for row in rows:
        assert row["kernel"] == "_stored_gemm_kernel"
        assert not row["spills"]
        assert 0 < row["full_waits"] < row["wgmmas"]
        assert row["counted"] == pytest.approx(row["step"], rel=0.2)
