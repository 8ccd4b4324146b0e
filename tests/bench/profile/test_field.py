"""Traces after public reports, in which the profiler lost kernels or wrote impossible times, and names of kernels."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from bench.profile.breakdown import LostWorkError, breakdown
from bench.profile.stage_names import stage_named, stages_named

FIELD = Path(__file__).parent / "field"


def events(name: str) -> list[dict[str, Any]]:
    return json.loads((FIELD / f"{name}.json").read_text())["traceEvents"]


def written(folder: Path, spans: list[dict[str, Any]]) -> Path:
    path = folder / "trace.json"
    path.write_text(json.dumps({"traceEvents": spans}))
    return path


def test_calls_that_lost_a_kernel_are_left_out_and_counted() -> None:
    """pytorch/pytorch#192021: the kernels of the first calls are missing."""
    seen = breakdown(FIELD / "trace_dropped_kernels.json")
    assert (seen.calls, seen.dropped) == (7, 3)
    assert seen.busy == pytest.approx(100e-6)
    assert seen.launches == 1


def test_a_trace_that_lost_kernels_of_every_call_is_refused(tmp_path: Path) -> None:
    spans = [span for span in events("trace_dropped_kernels") if span["cat"] != "kernel"]
    with pytest.raises(LostWorkError, match="lacks kernels of every call"):
        breakdown(written(tmp_path, spans))


def test_a_replayed_graph_that_lost_some_of_its_kernels_is_left_out(tmp_path: Path) -> None:
    spans = []
    for call in range(4):
        start = 1000 * call
        shared: dict[str, Any] = {"ph": "X", "pid": 1, "tid": 1}
        spans.append({**shared, "name": "moegap::call", "cat": "user_annotation", "ts": start, "dur": 200, "args": {}})
        launch = {"name": "cudaGraphLaunch", "cat": "cuda_runtime", "ts": start + 1, "dur": 5}
        spans.append({**shared, **launch, "args": {"correlation": 100 - call}})
        for node in range(3):
            if (call, node) not in {(1, 2), (3, 0), (3, 1), (3, 2)}:
                kernel = {"name": "node", "cat": "kernel", "ts": start + 20 + 40 * node, "dur": 30}
                spans.append({**shared, **kernel, "pid": 0, "tid": 7, "args": {"correlation": 100 - call}})
    seen = breakdown(written(tmp_path, spans))
    assert (seen.calls, seen.dropped, seen.launches) == (2, 2, 3)
    assert seen.busy == pytest.approx(90e-6)


def test_the_call_in_the_middle_lost_nothing() -> None:
    seen = breakdown(FIELD / "trace_dropped_kernels.json", middle=True)
    assert (seen.calls, seen.dropped) == (1, 3)
    assert seen.busy == pytest.approx(100e-6)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", ["trace_dropped_kernels", "trace_rocm_dur_overflow"])
def test_the_order_of_events_and_of_ids_changes_nothing(tmp_path: Path, name: str, seed: int) -> None:
    spans = events(name)
    before = breakdown(written(tmp_path, spans))
    generator = random.Random(seed)
    generator.shuffle(spans)
    ids = {span["args"]["correlation"] for span in spans if "correlation" in span["args"]}
    renamed = dict(zip(sorted(ids), generator.sample(range(1, 10_000), len(ids)), strict=True))
    for span in spans:
        if "correlation" in span["args"]:
            span["args"]["correlation"] = renamed[span["args"]["correlation"]]
    after = breakdown(written(tmp_path, spans))
    assert (after.busy, after.seconds, after.launches) == (before.busy, before.seconds, before.launches)
    assert (after.calls, after.dropped) == (before.calls, before.dropped)


def test_a_length_that_overruns_the_next_kernel_is_cut() -> None:
    """AMD-AGI/TraceLens#669: one kernel of 2 s."""
    seen = breakdown(FIELD / "trace_rocm_dur_overflow.json")
    assert seen.busy == pytest.approx(121e-6)  # 120 us, and in one of ten calls 10 us more until the next start
    assert seen.seconds == pytest.approx(200e-6)


def test_a_length_that_overruns_the_last_kernel_of_all_is_cut_at_the_end_of_its_call(tmp_path: Path) -> None:
    spans = events("trace_rocm_dur_overflow")
    last = max((span for span in spans if span["cat"] == "kernel"), key=lambda span: span["ts"])
    first = next(span for span in spans if span.get("dur") == 2_000_000)
    first["dur"], last["dur"] = 30, 2_000_000
    seen = breakdown(written(tmp_path, spans))
    assert seen.busy == pytest.approx(123e-6)
    assert seen.seconds == pytest.approx(200e-6)


@pytest.mark.parametrize("activation", ["swiglu", "relu"])
def test_a_compiled_activation_is_the_experts(activation: str) -> None:
    seen = breakdown(FIELD / f"trace_compiled_{activation}.json")
    assert seen.parts["experts"].seconds == pytest.approx(70e-6)


@pytest.mark.parametrize(
    "name",
    [
        "graph_0_cpp_fused_mul_silu_split_3", "triton_poi_fused_mul_sigmoid_1", "triton_poi_fused_silu_0", "aten::silu",
        "void at::native::vectorized_elementwise_kernel<4, at::native::silu_kernel(at::TensorIteratorBase&)>",
        "void vllm::act_and_mul_kernel<c10::BFloat16>", "_swiglu_kernel", "Erf", "QuickGelu", "aten::gelu", "Silu",
        "triton_poi_fused_gelu_tanh_2", "graph_0_cpp_fused_addmm_tanh_1",
    ],
)  # fmt: skip
def test_the_names_of_activations_are_the_experts(name: str) -> None:
    assert stage_named(name) == "experts"


@pytest.mark.parametrize(
    ("nodes", "stages"),
    [
        ("MatMul Add Sigmoid Mul Mul MatMul Add Mul ScatterND", "e e e e e e c c c"),  # silu(x w1) * value, in one half
        ("MatMul Sigmoid Mul MatMul Mul MatMul Mul ScatterND", "e e e e e e c c"),  # the value has its own product
        ("MatMul Relu MatMul Mul ScatterND GatherND MatMul Relu MatMul Mul ScatterND", "e e e c c d e e e c c"),
        ("MatMul Relu MatMul Mul Add MatMul Relu MatMul Mul Add", "e e e c c e e e c c"),  # no scatter in between
        ("MatMul Div Erf Add Mul Mul MatMul Mul ReduceSum", "e o e e e e e c c"),
        ("Softmax TopK Mul MatMul", "r r c e"),
        ("aten::mm aten::silu MulFunctor Cast aten::mm MulFunctor", "e e e o e c"),
    ],
)
def test_the_gate_times_the_value_is_the_experts_and_weights_are_not(nodes: str, stages: str) -> None:
    letters = {"experts": "e", "combine": "c", "dispatch": "d", "route": "r", "other": "o"}
    assert " ".join(letters[stage] for stage in stages_named(nodes.split())) == stages
