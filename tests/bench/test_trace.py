"""What a profiling pass writes: the layout other tools read, and our breakdown of it against naive sums."""

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch_tb_profiler import consts
from torch_tb_profiler.profiler.data import RunProfileData
from torch_tb_profiler.profiler.run_generator import RunGenerator

from bench.errors import BenchError
from bench.forms import form
from bench.forms.form import Form, torch_runner
from bench.stages import CALL, OTHER, STAGES, stage
from bench.trace import Profile, profile_form
from tests.bench import oracle

STEPS = 3
LOOPED = [name for name in STAGES if name != "fused"]
"""The stages of the loop over experts; only our kernels fuse them into one."""


@pytest.fixture(scope="module")
def looped(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    """The loop over experts, profiled."""
    head = oracle.new_head("sparse")
    return profile_form(
        form("loop"), head, oracle.rows(head, 33), tmp_path_factory.mktemp("log"), name="a", steps=STEPS
    )


def events(path: Path) -> list[dict[str, Any]]:
    """Return the raw events of a trace."""
    found: list[dict[str, Any]] = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    return found


def inside(event: dict[str, Any], other: dict[str, Any]) -> bool:
    """True when `event` is another event of the same thread that `other` encloses."""
    if event is other or event["tid"] != other["tid"]:
        return False
    return bool(other["ts"] <= event["ts"] and event["ts"] + event["dur"] <= other["ts"] + other["dur"])


def test_the_trace_lies_where_tensorboard_looks(looped: Profile) -> None:
    assert looped.trace.parent.name == "a"
    match = consts.WORKER_PATTERN.match(looped.trace.name)
    assert match is not None
    assert match.group(2)


def test_every_active_step_is_a_named_range_around_one_call(looped: Profile) -> None:
    ranges = [found for found in events(looped.trace) if found.get("cat") == "user_annotation"]
    steps = [found for found in ranges if found["name"].startswith("ProfilerStep#")]
    calls = [found for found in ranges if found["name"] == CALL]
    assert len(steps) == len(calls) == STEPS
    for step, call in zip(steps, calls, strict=True):
        assert step["ts"] <= call["ts"]
        assert call["ts"] + call["dur"] <= step["ts"] + step["dur"]


def test_every_event_has_what_perfetto_imports(looped: Profile) -> None:
    kinds: dict[str, dict[str, Any]] = {
        "X": {"name": str, "ts": (int, float), "dur": (int, float), "pid": (int, str), "tid": (int, str)},
        "M": {"name": str, "pid": (int, str), "args": dict},
        "i": {"name": str, "ts": (int, float), "s": str},
    }
    for found in events(looped.trace):
        for key, kind in kinds[found["ph"]].items():
            assert isinstance(found[key], kind), found
        assert found.get("dur", 0) >= 0


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch_tb_profiler")
def test_the_tensorboard_plugin_shows_operators(looped: Profile, tmp_path: Path) -> None:
    data = RunProfileData.parse("worker", "1", str(looped.trace), str(tmp_path))
    shown = RunGenerator("worker", "1", data).generate_run_profile()
    assert consts.OP_VIEW in shown.views
    assert data.steps_names == [str(number) for number in range(4, 4 + STEPS)]
    assert "aten::index_put_" in {row["name"] for row in shown.operation_table_by_name["data"]}


def test_parts_are_the_sums_of_their_ranges(looped: Profile) -> None:
    naive: Counter[str] = Counter()
    for found in events(looped.trace):
        naive[found["name"]] += found.get("dur", 0) * 1e-6 / STEPS
    seen = looped.breakdown
    assert seen.calls == STEPS
    for name in LOOPED:
        assert seen.parts[name].seconds == pytest.approx(naive[f"moegap::{name}"], rel=1e-4)
        assert seen.parts[name].launches > 0
    assert seen.seconds == pytest.approx(naive[CALL], rel=1e-4)
    assert seen.seconds == sum(part.seconds for part in seen.parts.values())


def test_operators_are_those_of_the_profiler(looped: Profile) -> None:
    operators = [found for found in events(looped.trace) if found.get("cat") == "cpu_op"]
    counts = Counter(found["name"] for found in operators)
    seen = looped.breakdown
    assert {operator.name: operator.count * STEPS for operator in seen.operators} == pytest.approx(counts)
    outermost = sum(found["dur"] for found in operators if not any(inside(found, other) for other in operators))
    assert seen.busy == pytest.approx(outermost * 1e-6 / STEPS, rel=1e-4)
    assert seen.gap == pytest.approx(seen.seconds - seen.busy)
    assert 0 < seen.gap < seen.seconds
    own = [operator.seconds for operator in seen.operators]
    assert own == sorted(own, reverse=True)


def test_a_form_without_stages_is_all_other(tmp_path: Path) -> None:
    head = oracle.new_head("dense")
    plain = Form("plain", 0, "", lambda *_: None, lambda head, x: torch_runner(head, x))
    seen = profile_form(plain, head, oracle.rows(head, 8), tmp_path, name="plain", steps=1).breakdown
    assert seen.parts[OTHER].seconds == seen.seconds > 0


def test_nested_stages_own_their_time_once(tmp_path: Path) -> None:
    def run(x: torch.Tensor) -> torch.Tensor:
        with stage("experts"):
            y = x @ x.T
            with stage("route"):
                return y @ y

    nested = Form("nested", 0, "", lambda *_: None, lambda head, x: torch_runner(run, x))
    x = torch.ones(64, 64)
    made = profile_form(nested, oracle.new_head("dense"), x, tmp_path, name="nested", steps=2)
    durations: Counter[str] = Counter()
    for found in events(made.trace):
        durations[found["name"]] += found.get("dur", 0) / 2e6
    parts = made.breakdown.parts
    assert parts["route"].seconds == pytest.approx(durations["moegap::route"], rel=1e-3)
    assert parts["experts"].seconds == pytest.approx(
        durations["moegap::experts"] - durations["moegap::route"], rel=1e-3
    )


def test_onnxruntime_shows_its_nodes_and_their_provider(tmp_path: Path) -> None:
    head = oracle.new_head("dense")
    found = profile_form(form("onnxruntime"), head, oracle.rows(head, 8), tmp_path, name="onnx", steps=2)
    assert found.breakdown.parts[OTHER].seconds == found.breakdown.seconds
    assert {node.where for node in found.nodes} == {"CPUExecutionProvider"}
    assert {node.name: node.count for node in found.nodes} == {"FusedGemm": 1, "Gemm": 1}
    assert all(node.seconds > 0 for node in found.nodes)


def test_what_cannot_run_is_refused(tmp_path: Path) -> None:
    head = oracle.new_head("dense")
    x = oracle.rows(head, 3)
    with pytest.raises(BenchError, match=r"form loop cannot run here: a dense head has no experts"):
        profile_form(form("loop"), head, x, tmp_path, name="a")
    with pytest.raises(BenchError, match="at least one step, not 0"):
        profile_form(form("eager"), head, x, tmp_path, name="a", steps=0)
    assert not list(tmp_path.iterdir())


@pytest.mark.gpu
def test_a_real_device(tmp_path: Path) -> None:
    head = oracle.new_head("sparse").to("cuda")
    found = profile_form(form("loop"), head, oracle.rows(head, 64), tmp_path, name="a", steps=STEPS)
    kernels = [work for work in events(found.trace) if work.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset")]
    seen = found.breakdown
    assert seen.launches * STEPS == pytest.approx(len(kernels))
    assert seen.busy == pytest.approx(sum(work["dur"] for work in kernels) * 1e-6 / STEPS, rel=1e-3)
    assert all(seen.parts[name].seconds > 0 for name in LOOPED)
    assert seen.gap > 0
