"""The product by specialised warps: who runs it, and what Triton 3.6 makes of it; no GPU has run it yet."""

import pytest
import torch

from kernels.ops.dispatch import dispatch_reference
from kernels.ops.grouped_gemm import grouped_gemm
from kernels.ops.specialised import kernel
from kernels.problem.options import Product
from tests.kernels.process import OLDEST, run_compiled

OPTIONS = Product(64, 64, 4, 2, described=True, specialised=True)

SCRIPT = """
from dataclasses import replace
import torch
from kernels.choice.tuning import LANGUAGE
from kernels.cost.machine import A100, H100, assuming
from kernels.compiled.job import specialise
from kernels.compiled.jobs import SPECIALISED, launches
from kernels.compiled.row import inspect
from kernels.paths.grouped import Grouped
from kernels.problem.options import Product, Router

def products(machine, tile_rows=128, layer=LANGUAGE, **changes):
    first = Product(64, 64, 4, 2)
    options = Grouped(tile_rows, Router(16, 32, 4, 3), first, replace(SPECIALISED, **changes))
    with assuming(machine):
        return [launch for launch in launches(replace(layer, N=4096, M=4096 * 8), options) if launch.stage == "experts"]

def second(*args, **changes):
    return products(*args, **changes)[1].kernel.__name__

print("first", products(H100)[0].kernel.__name__)
print("second", second(H100))
print("A100", second(A100))
print("low", second(H100, 64))
print("split", second(H100, splits=2))
print("fp32", second(H100, layer=replace(LANGUAGE, dtype=torch.float32)))
print("not asked", second(H100, specialised=False))
(row,) = inspect([specialise(products(H100)[1], "sm_90")])
print("code", row.good, row.spill_bytes, row.tensor_cores, row.copies, row.wgmmas, row.full_waits, row.products)
"""


def test_the_interpreter_runs_the_plain_kernel() -> None:
    assert kernel() is None
    a, w = torch.randn(300, 64).half(), torch.randn(3, 64, 64).half()
    dispatch = dispatch_reference(torch.arange(300).int() % 3, 3, tile_rows=128, k=1)
    specialised, plain = (
        grouped_gemm(a, w, None, dispatch, gather=False, activation=None, options=options)
        for options in (OPTIONS, Product(64, 64, 4, 2, described=True))
    )
    assert torch.equal(specialised, plain)


@pytest.mark.skipif(not OLDEST.exists(), reason="`make kernels` downloads Triton 3.6.0")
def test_only_products_that_it_suits_are_specialised() -> None:
    done = run_compiled("-c", SCRIPT, before=OLDEST)
    assert done.returncode == 0, done.stderr
    said = dict(line.split(maxsplit=1) for line in done.stdout.replace("not asked", "not_asked").splitlines())
    assert said.pop("code") == "True 0 wgmma tma 8 of 64x256x16 2 True"
    assert said.pop("second") == "specialised_gemm_kernel"
    assert set(said.values()) == {"_grouped_gemm_kernel"}
    assert len(said) == 6
