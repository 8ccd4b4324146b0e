"""Disturbances: each really provoked is found, and nothing else is."""

import gc
import subprocess
import sys

import pytest
import torch
import triton
import triton.language as tl
from triton.runtime.autotuner import Autotuner

from bench.rooms import ROOT
from bench.timing.disturbance import Disturbances, quiet


@pytest.fixture(autouse=True)
def _no_collection():
    """Whatever the tests before left behind is not collected in the middle of one."""
    with quiet():
        yield


def fill(x, n, B: tl.constexpr):
    rows = tl.arange(0, B)
    tl.store(x + rows, 1.0, mask=rows < n)


def tuned(measure):
    configs = [triton.Config({"B": 16}), triton.Config({"B": 32})]
    return triton.autotune(configs, key=["n"], do_bench=measure)(triton.jit(fill))


def run(kernel, n):
    kernel[(1,)](torch.zeros(16), n)


def test_clean_code_disturbs_nothing():
    compiled = torch.compile(lambda x: x * 2, dynamic=False, backend="eager")
    kernel = tuned(lambda call, quantiles: [1.0, 1.0, 1.0])
    x = torch.ones(3)
    compiled(x)
    run(kernel, 7)
    with Disturbances() as watch:
        for _ in range(50):
            compiled(x)
            run(kernel, 7)
            [[] for _ in range(100)]
        assert watch.message() == ""
    assert watch.message() == ""


def test_a_recompilation_is_found():
    compiled = torch.compile(lambda x: x + 1, dynamic=False, backend="eager")
    compiled(torch.ones(3))
    with Disturbances() as watch:
        compiled(torch.ones(4))
    assert watch.message() == "torch.compile compiled again while the form was timed"


def test_a_choice_among_kernels_is_found():
    with Disturbances() as watch:
        torch._dynamo.utils.counters["inductor"]["select_algorithm_autotune"] += 1
    assert watch.message() == "torch.compile tuned its kernels while the form was timed"


def test_inductors_own_benchmarks_are_found():
    from torch._inductor.runtime.benchmarking import benchmarker

    with Disturbances() as watch:
        benchmarker.benchmark_cpu(lambda: None, warmup=1, rep=1)
    assert watch.message() == "torch.compile tuned its kernels while the form was timed"


def test_a_triton_compilation_is_found_and_the_hook_before_still_called():
    seen = []
    before = triton.knobs.runtime.jit_post_compile_hook
    triton.knobs.runtime.jit_post_compile_hook = lambda **info: seen.append(info) or "said"
    try:
        with Disturbances() as watch:
            assert triton.knobs.runtime.jit_post_compile_hook(key="k", already_compiled=False) == "said"
        assert watch.message() == "Triton compiled a kernel while the form was timed"
        assert seen == [{"key": "k", "already_compiled": False}]
        triton.knobs.runtime.jit_post_compile_hook(key="after")
        assert "Triton" in watch.message()
    finally:
        triton.knobs.runtime.jit_post_compile_hook = before


COMPILING = """
import torch, triton, triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.backends.driver import DriverBase
from triton.runtime.driver import driver
from bench.timing.disturbance import Disturbances

class Fake(DriverBase):
    def is_active(): return True
    def get_current_target(self): return GPUTarget("cuda", 90, 32)
    def get_current_device(self): return 0
    def get_current_stream(self, device): return 0
    def get_active_torch_device(self): return torch.device("cpu")
    def map_python_to_cpp_type(self, ty): return ty
    def get_benchmarker(self): raise NotImplementedError
    def get_device_interface(self): return torch

driver.set_active(Fake())

@triton.jit
def fill(x, B: tl.constexpr):
    tl.store(x + tl.arange(0, B), 1.0)

with Disturbances() as watch:
    fill.warmup(torch.float32, B=16, grid=(1,))
    assert watch.message() == "Triton compiled a kernel while the form was timed", watch.message()
    watch.reset()
    fill.warmup(torch.float32, B=16, grid=(1,))
    assert watch.message() == "", watch.message()
"""


def test_triton_calls_the_hook_when_it_compiles(tmp_path):
    """Triton's own compiler at work, for a GPU that is not there; a kernel kept in the process is not compiled."""
    script = tmp_path / "compiling.py"
    script.write_text(COMPILING)
    environment = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        "TRITON_CACHE_DIR": str(tmp_path),
        "TRITON_DEFAULT_FP_FUSION": "1",
    }
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_tuning_by_triton_is_found_and_left_as_it_was():
    before, benchmarked = Autotuner._bench, []
    kernel = tuned(lambda call, quantiles: benchmarked.append(call()) or [1.0, 1.0, 1.0])
    with Disturbances() as watch:
        run(kernel, 9)
        assert watch.message() == "Triton tuned a kernel while the form was timed"
        assert len(benchmarked) == 2
        watch.reset()
        run(kernel, 9)
        assert watch.message() == ""
    assert Autotuner._bench is before


def test_a_collection_asked_for_is_found():
    with Disturbances() as watch:
        gc.collect()
        assert watch.message() == "Python's garbage collector ran while the form was timed"
        watch.reset()
        assert watch.message() == ""
        gc.collect(0)
        assert "garbage" in watch.message()
    callbacks = len(gc.callbacks)
    with watch:
        pass
    assert watch.message() == ""
    assert len(gc.callbacks) == callbacks


def test_a_collection_by_threshold_is_found():
    thresholds = gc.get_threshold()
    with Disturbances() as watch:
        gc.enable()
        gc.set_threshold(10, 10, 10)
        try:
            kept = [[] for _ in range(100)]
        finally:
            gc.set_threshold(*thresholds)
            gc.disable()
        assert watch.message() == "Python's garbage collector ran while the form was timed"
    assert len(kept) == 100


def test_of_several_the_cause_is_told():
    kernel = tuned(lambda call, quantiles: [1.0, 1.0, 1.0])
    with Disturbances() as watch:
        gc.collect()
        run(kernel, 5)
        gc.collect()
    assert watch.message() == "Triton tuned a kernel while the form was timed"


def test_what_raises_leaves_nothing_behind():
    callbacks, hook = list(gc.callbacks), triton.knobs.runtime.jit_post_compile_hook
    with pytest.raises(ZeroDivisionError), Disturbances():
        raise ZeroDivisionError
    assert gc.callbacks == callbacks
    assert triton.knobs.runtime.jit_post_compile_hook is hook


def test_watches_inside_each_other_both_see():
    kernel = tuned(lambda call, quantiles: [1.0, 1.0, 1.0])
    with Disturbances() as outer:
        with Disturbances() as inner:
            run(kernel, 3)
        assert "Triton tuned" in inner.message()
        assert "Triton tuned" in outer.message()
        outer.reset()
        run(kernel, 4)
        assert "Triton tuned" in outer.message()


def test_quiet_collects_only_what_is_asked_for():
    gc.unfreeze()
    gc.enable()
    with quiet() as collect:
        assert not gc.isenabled()
        with Disturbances() as watch:
            kept = [[] for _ in range(100_000)]
            assert watch.message() == ""
            ring = []
            ring.append(ring)
            del ring
            collect()
            assert "garbage" in watch.message()
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0
    gc.disable()
    with quiet():
        pass
    assert not gc.isenabled()
    assert len(kept) == 100_000
    gc.freeze()


def test_what_was_frozen_before_stays_frozen():
    gc.freeze()
    before = gc.get_freeze_count()
    with quiet():
        pass
    assert gc.get_freeze_count() >= before > 0


def test_collections_within_quiet_look_at_what_is_new_alone():
    kept = [[number] for number in range(300_000)]
    with quiet() as collect:
        new = [[number] for number in range(1_000)]
        collect()
        assert len(new) <= len(gc.get_objects()) < len(kept) / 10
