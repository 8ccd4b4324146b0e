"""After a warm-up no number of rows needs code that is not there yet."""

from dataclasses import replace

import pytest

from kernels.call.arguments import problem_of
from kernels.choice.tuning import options_for
from kernels.launch.launch import recording
from kernels.warm_up import warm_up
from tests.kernels.calls import new_call
from tests.kernels.process import run_compiled

SCRIPT = """
from dataclasses import replace
import torch
from kernels.compiled.job import specialise
from kernels.compiled.jobs import launches
from kernels.cost.machine import H100, assuming
from kernels.problem.problem import Problem
from kernels.choice.tuning import options_for

META = torch.device("meta")
HEAD = Problem(N=3, D=512, H=64, E=8, C=10, k=2, M=6, dtype=torch.bfloat16, described=(True, False))
LAYER = Problem(N=3, D=1024, H=256, E=16, C=1024, k=4, M=12, dtype=torch.bfloat16, activation="swiglu")


def jobs(layer, N, options):
    problem = replace(layer, N=N, M=N * layer.k)
    return {specialise(launch, "sm_90") for launch in launches(problem, options)}


def options(layer, N):
    return options_for(replace(layer, N=N, M=N * layer.k), META)


with assuming(H100):
    for layer in (HEAD, LAYER):
        for routing in ("gate", "top_k", "flat"):
            layer = replace(layer, routing=routing)
            chosen = {options(layer, size) for i in range(17) for size in (2**i, 3 * 2**i)}
            ready = {job for one in chosen for job in jobs(layer, 3, one)}
            assert ready
            for N in (1, 2, 3, 15, 16, 17, 31, 64, 100, 255, 256, 1000, 1024, 4097, 20_000, 65_535, 65_536):
                missing = jobs(layer, N, options(layer, N)) - ready
                assert not missing, (layer, N, missing)
print("ready")
"""
"""Compares the code compiled for an example of three rows with the code that any number of rows needs."""


def test_no_number_of_rows_compiles_again() -> None:
    done = run_compiled("-c", SCRIPT)
    assert done.stdout == "ready\n", done.stderr[-3000:]


def test_runs_the_example_with_every_option() -> None:
    call = new_call(2, 16, 16, 4, 5)
    with recording() as records:
        number = call.run(warm_up, most_rows=64)
    assert number >= 1
    kernels = {launch.kernel.__name__ for launch in records}
    assert kernels
    assert kernels <= {
        *("_route_kernel", "_dispatch_kernel", "_grouped_gemm_kernel", "_combine_kernel"),
        *("_fused_tiles_kernel", "_fused_rows_kernel"),
    }


@pytest.mark.parametrize("kind", ["gate", "top_k", "flat"])
@pytest.mark.parametrize("most_rows", [1, 64, 1000])
def test_every_option_up_to_the_most_rows_is_run(kind: str, most_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    call = new_call(3, 512, 64, 8, 10, kind=kind, k=3)
    ran = set()
    monkeypatch.setattr("kernels.warm_up.moe", lambda *_, options, **__: ran.add(options))
    number = call.run(warm_up, most_rows=most_rows)
    assert number == len(ran)
    example = problem_of(call.x, call.routing, call.experts, "ieee")
    for N in range(1, most_rows + 1):
        for M in range(3 * N - 2, 3 * N + 1) if kind == "flat" else [3 * N]:
            assert options_for(replace(example, N=N, M=M), call.x.device) in ran, (N, M)


def test_an_example_needs_a_row() -> None:
    with pytest.raises(ValueError, match="warm_up needs an example with at least one row"):
        new_call(0, 16, 16, 4, 5).run(warm_up)
