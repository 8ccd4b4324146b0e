"""What a profiling pass writes: the layout other tools read, and our breakdown of it against naive sums."""

import gzip
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from bench.errors import BenchError
from bench.execution.form import Form, torch_runner
from bench.execution.stages import CALL, OTHER, STAGES, stage
from bench.forms import form
from bench.profile.stage_names import KERNELS
from bench.profile.trace import profile_form
from models.heads.heads import Head
from reports.records.profile import Profile
from tests.bench import chrome, oracle

STEPS = 3
LOOPED = [name for name in STAGES if name != "fused"]
"""The stages of the loop over experts; only our kernels fuse them into one."""


class Profiled(NamedTuple):
    """A profile, and the files of its traces."""

    breakdown: Profile
    traces: list[Path]


def profiled(form: Form, head: Head, x: torch.Tensor, folder: Path, **options: Any) -> Profiled:
    """Profile a form into `folder`."""
    made = profile_form(form, head, x, folder, **options)
    return Profiled(made, [folder / trace for trace in made.traces])


@pytest.fixture(scope="module")
def looped(tmp_path_factory: pytest.TempPathFactory) -> Profiled:
    """The loop over experts, profiled."""
    head = oracle.new_head("sparse")
    return profiled(form("loop"), head, oracle.rows(head, 33), tmp_path_factory.mktemp("log"), name="a", steps=STEPS)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Profiled:
    """A compiled head, profiled; a dense one compiles soonest."""
    head = oracle.new_head("dense")
    folder = tmp_path_factory.mktemp("compiled")
    return profiled(form("compile"), head, oracle.rows(head, 33), folder, name="compile", steps=STEPS)


def events(path: Path) -> list[dict[str, Any]]:
    """Return the raw events of a trace."""
    found: list[dict[str, Any]] = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    return found


def inside(event: dict[str, Any], other: dict[str, Any]) -> bool:
    """True when `event` is another event of the same thread that `other` encloses."""
    if event is other or event["tid"] != other["tid"]:
        return False
    return bool(other["ts"] <= event["ts"] and event["ts"] + event["dur"] <= other["ts"] + other["dur"])


@pytest.fixture
def worker_pattern() -> re.Pattern[str]:
    """What TensorBoard's plugin expects of a trace's name; a machine that only measures lacks the plugin."""
    from torch_tb_profiler import consts

    pattern: re.Pattern[str] = consts.WORKER_PATTERN
    return pattern


def test_the_trace_lies_where_tensorboard_looks(looped: Profiled, worker_pattern: re.Pattern[str]) -> None:
    assert looped.traces[0].parent.name == "a"
    match = worker_pattern.match(looped.traces[0].name)
    assert match is not None
    assert match.group(2)


def test_every_active_step_is_a_named_range_around_one_call(looped: Profiled) -> None:
    ranges = [found for found in events(looped.traces[0]) if found.get("cat") == "user_annotation"]
    steps = [found for found in ranges if found["name"].startswith("ProfilerStep#")]
    calls = [found for found in ranges if found["name"] == CALL]
    assert len(steps) == len(calls) == STEPS
    for step, call in zip(steps, calls, strict=True):
        assert step["ts"] <= call["ts"]
        assert call["ts"] + call["dur"] <= step["ts"] + step["dur"]


def test_the_trace_is_one_that_perfetto_imports(looped: Profiled) -> None:
    chrome.check(looped.traces[0])


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch_tb_profiler")
def test_the_tensorboard_plugin_shows_operators(looped: Profiled, tmp_path: Path) -> None:
    from torch_tb_profiler import consts
    from torch_tb_profiler.profiler.data import RunProfileData
    from torch_tb_profiler.profiler.run_generator import RunGenerator

    data = RunProfileData.parse("worker", "1", str(looped.traces[0]), str(tmp_path))
    shown = RunGenerator("worker", "1", data).generate_run_profile()
    assert consts.OP_VIEW in shown.views
    assert data.steps_names == [str(number) for number in range(4, 4 + STEPS)]
    assert "aten::index_put_" in {row["name"] for row in shown.operation_table_by_name["data"]}


def test_parts_are_the_sums_of_their_ranges(looped: Profiled) -> None:
    naive: Counter[str] = Counter()
    for found in events(looped.traces[0]):
        naive[found["name"]] += found.get("dur", 0) * 1e-6 / STEPS
    seen = looped.breakdown
    assert seen.calls == STEPS
    for name in LOOPED:
        assert seen.parts[name].seconds == pytest.approx(naive[f"moegap::{name}"], rel=1e-4)
        assert seen.parts[name].launches > 0
    assert seen.seconds == pytest.approx(naive[CALL], rel=1e-4)
    assert seen.seconds == sum(part.seconds for part in seen.parts.values())


def test_operators_are_those_of_the_profiler(looped: Profiled) -> None:
    operators = [found for found in events(looped.traces[0]) if found.get("cat") == "cpu_op"]
    counts = Counter(found["name"] for found in operators)
    seen = looped.breakdown
    assert {operator.name: operator.count * STEPS for operator in seen.operators} == pytest.approx(counts)
    outermost = sum(found["dur"] for found in operators if not any(inside(found, other) for other in operators))
    assert seen.busy == pytest.approx(outermost * 1e-6 / STEPS, rel=1e-4)
    assert seen.gap == pytest.approx(seen.seconds - seen.busy)
    assert 0 < seen.gap < seen.seconds
    own = [operator.seconds for operator in seen.operators]
    assert own == sorted(own, reverse=True)


def swept(found: list[dict[str, Any]]) -> float:
    """Return the seconds in which any of these events runs: the edges in order, and how many run between them."""
    times = np.array([[event["ts"], event["dur"]] for event in found])
    starts, lengths = np.rint(1000 * times).astype(np.int64).T  # whole nanoseconds
    edges = np.concatenate([starts, starts + lengths])
    steps = np.repeat([1, -1], len(found))
    order = np.lexsort((-steps, edges))
    running = np.cumsum(steps[order])[:-1]
    return float(np.diff(edges[order])[running > 0].sum()) * 1e-9


@pytest.mark.parametrize("name", ["loop", "eager", "compile", "grouped_mm", "onnxruntime"])
def test_busy_is_the_union_of_the_raw_operators(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if name == "compile":
        found = request.getfixturevalue("compiled")
    else:
        head = oracle.new_head("sparse", experts=3)
        found = profiled(form(name), head, oracle.rows(head, 33), tmp_path, name=name, steps=STEPS)
    raw = [event for event in events(found.traces[-1]) if event["ph"] == "X"]
    calls = [event for event in raw if event["name"] == CALL]
    wrapping = ("Torch-Compiled Region", "## Call CompiledFxGraph")  # what torch.compile puts around its kernels
    working = [event for event in raw if event["cat"] == "cpu_op" and not event["name"].startswith(wrapping)]
    working = [event for event in working if any(inside(event, call) for call in calls)]
    seen = found.breakdown
    assert seen.calls == STEPS
    assert seen.busy == pytest.approx(swept(working) / STEPS, rel=1e-12)
    assert seen.busy + seen.gap == pytest.approx(sum(call["dur"] for call in calls) * 1e-6 / STEPS, rel=1e-9)
    assert seen.host == pytest.approx(seen.gap)
    assert seen.gap > 0
    assert seen.overlap == 0
    for trace in found.traces:
        chrome.check(trace)


def test_a_form_without_ranges_is_told_by_the_names_of_its_operators(tmp_path: Path) -> None:
    head = oracle.new_head("dense")
    plain = Form("plain", 0, "", lambda *_: None, lambda head, x: torch_runner(head, x))
    seen = profiled(plain, head, oracle.rows(head, 8), tmp_path, name="plain", steps=1).breakdown
    assert seen.told_by == "names"
    product = sum(operator.seconds for operator in seen.operators if "mm" in operator.name or "relu" in operator.name)
    assert seen.parts["experts"].seconds == pytest.approx(product)
    assert seen.parts[OTHER].seconds >= seen.gap > 0
    assert sum(part.seconds for part in seen.parts.values()) == pytest.approx(seen.busy + seen.gap)


def test_compiled_kernels_are_seen_by_name_on_a_cpu(compiled: Profiled) -> None:
    seen = compiled.breakdown
    assert seen.told_by == "names"
    assert any("cpp_fused" in operator.name for operator in seen.operators)
    assert seen.parts["experts"].seconds > 0
    assert seen.parts["experts"].launches >= 1


def test_nested_stages_own_their_time_once(tmp_path: Path) -> None:
    def run(x: torch.Tensor) -> torch.Tensor:
        with stage("experts"):
            y = x @ x.T
            with stage("route"):
                return y @ y

    nested = Form("nested", 0, "", lambda *_: None, lambda head, x: torch_runner(run, x))
    x = torch.ones(64, 64)
    made = profiled(nested, oracle.new_head("dense"), x, tmp_path, name="nested", steps=2)
    durations: Counter[str] = Counter()
    for found in events(made.traces[0]):
        durations[found["name"]] += found.get("dur", 0) / 2e6
    parts = made.breakdown.parts
    assert parts["route"].seconds == pytest.approx(durations["moegap::route"], rel=1e-3)
    assert parts["experts"].seconds == pytest.approx(
        durations["moegap::experts"] - durations["moegap::route"], rel=1e-3
    )


def test_onnxruntimes_nodes_are_the_operators_of_its_calls(tmp_path: Path, worker_pattern: re.Pattern[str]) -> None:
    head = oracle.new_head("dense")
    found = profiled(form("onnxruntime"), head, oracle.rows(head, 8), tmp_path, name="onnx", steps=2)
    torchs, own = found.traces
    assert worker_pattern.match(torchs.name)
    assert not worker_pattern.match(own.name)
    seen = found.breakdown
    assert (seen.calls, seen.told_by, seen.nodes) == (2, "names", ())
    assert {node.where for node in seen.operators} == {"CPUExecutionProvider"}
    assert {node.name: node.count for node in seen.operators} == {"FusedGemm": 1, "Gemm": 1}
    assert seen.parts["experts"].seconds == pytest.approx(seen.busy)
    assert seen.parts[OTHER].seconds == pytest.approx(seen.gap)
    raw = events(own)
    runs = sum(event["dur"] for event in raw if event.get("name") == CALL)
    nodes = sum(event["dur"] for event in raw if event.get("args", {}).get("provider"))
    assert seen.seconds == pytest.approx(runs * 1e-6 / 2)
    assert seen.busy == pytest.approx(nodes * 1e-6 / 2)
    assert seen.launches == 2


def test_without_rows_an_engine_has_no_trace_of_its_own(tmp_path: Path) -> None:
    head = oracle.new_head("dense")
    found = profiled(form("onnxruntime"), head, oracle.rows(head, 0), tmp_path, name="onnx", steps=1)
    assert len(found.traces) == 1


def test_what_cannot_run_is_refused(tmp_path: Path) -> None:
    head = oracle.new_head("dense")
    x = oracle.rows(head, 3)
    with pytest.raises(BenchError, match=r"form loop cannot run here: a dense head has no experts"):
        profile_form(form("loop"), head, x, tmp_path, name="a")
    with pytest.raises(BenchError, match="at least one step, not 0"):
        profile_form(form("eager"), head, x, tmp_path, name="a", steps=0)
    assert not list(tmp_path.iterdir())
    with pytest.raises(BenchError, match="a CPU has no graph to replay"):
        profile_form(form("eager"), head, x, tmp_path, name="a", graph=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["loop", "eager", "compile", "grouped_mm", "triton", "onnxruntime"])
def test_a_real_device(name: str, tmp_path: Path) -> None:
    head = oracle.new_head("sparse").to("cuda")
    found = profiled(form(name), head, oracle.rows(head, 64), tmp_path, name="a", steps=STEPS)
    work = [event for event in events(found.traces[0]) if event.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset")]
    seen = found.breakdown
    assert seen.launches * STEPS == pytest.approx(len(work))
    assert seen.busy == pytest.approx(swept(work) / STEPS, rel=1e-3)
    assert seen.gap > 0
    assert 0 <= seen.overlap <= min(seen.host, seen.busy)
    assert 0 < seen.host <= seen.seconds
    assert seen.told_by == ("names" if name in ("compile", "onnxruntime") else "ranges")
    assert bool(found.breakdown.nodes) == (name == "onnxruntime")
    if name == "loop":
        assert all(seen.parts[stage].seconds > 0 for stage in LOOPED)
    assert [problem for event in events(found.traces[0]) for problem in chrome.wrong_fields(event)] == []


@pytest.mark.gpu
def test_the_replay_of_a_graph_on_a_real_device(tmp_path: Path) -> None:
    head = oracle.new_head("sparse").to("cuda")
    x = oracle.rows(head, 64)
    found = profiled(form("triton"), head, x, tmp_path, name="a", steps=STEPS, graph=True)
    seen = found.breakdown
    assert seen.told_by == "names"
    assert set(KERNELS.values()) & {name for name, part in seen.parts.items() if part.seconds}
    assert seen.launches > 1
    with pytest.raises(BenchError, match="its call waits for the device"):
        profile_form(form("loop"), head, x, tmp_path, name="b", steps=STEPS, graph=True)
    with pytest.raises(BenchError, match="which runs in another engine"):
        profile_form(form("onnxruntime"), head, x, tmp_path, name="c", steps=STEPS, graph=True)
