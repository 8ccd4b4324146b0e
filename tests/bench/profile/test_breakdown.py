"""The breakdown of traces as CUPTI fills them: the host's ranges, and the device's work on a time line of its own."""

import gzip
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import BenchError
from bench.execution.stages import CALL, OTHER
from bench.profile.breakdown import breakdown
from reports.records.profile import StagePart


def write(path: Path, *spans: dict[str, Any]) -> Path:
    """Write a trace of raw events."""
    path.write_bytes(gzip.compress(json.dumps({"schemaVersion": 1, "traceEvents": spans}).encode()))
    return path


def event(name: str, category: str, start: float, duration: float, thread: int = 1, **args: int) -> dict[str, Any]:
    """Return a raw event; microseconds."""
    shared = {"ph": "X", "cat": category, "name": name, "pid": thread, "tid": thread, "args": args}
    return {**shared, "ts": start, "dur": duration}


def microseconds(parts: dict[str, StagePart]) -> dict[str, float]:
    """Return each part's time where there is any."""
    return {name: round(part.seconds * 1e6, 6) for name, part in parts.items() if part.seconds}


def test_work_belongs_to_the_stage_that_launched_it(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.json.gz",
        event(CALL, "user_annotation", 0, 100),
        event("moegap::route", "user_annotation", 5, 10),
        event("moegap::experts", "user_annotation", 20, 10),
        event("cudaLaunchKernel", "cuda_runtime", 6, 2, correlation=1),
        event("cuLaunchKernelEx", "cuda_driver", 21, 2, correlation=2),
        event("cudaMemsetAsync", "cuda_runtime", 31, 2, correlation=3),
        event("gate", "kernel", 22, 8, thread=7, correlation=1),  # while the host is in `experts`
        event("gemm", "kernel", 30, 40, thread=7, correlation=2),
        event("Memset (Device)", "gpu_memset", 75, 5, thread=7, correlation=3),
    )
    seen = breakdown(path)
    assert microseconds(seen.parts) == {"route": 8, "experts": 40, OTHER: 52}
    assert {name: part.launches for name, part in seen.parts.items() if part.launches} == {
        "route": 1,
        "experts": 1,
        OTHER: 1,
    }
    assert [(operator.name, operator.where) for operator in seen.operators] == [
        ("gemm", "gpu"),
        ("gate", "gpu"),
        ("Memset (Device)", "gpu"),
    ]
    assert (seen.launches, round(seen.busy * 1e6, 6), round(seen.gap * 1e6, 6)) == (3, 53, 47)


def test_the_external_id_stands_in_for_a_missing_launch(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.json.gz",
        event(CALL, "user_annotation", 0, 50, **{"External id": 1}),
        event("moegap::combine", "user_annotation", 10, 10, **{"External id": 2}),
        event("aten::add", "cpu_op", 12, 5, **{"External id": 3}),
        event("add", "kernel", 30, 10, thread=7, correlation=9, **{"External id": 3}),
        event("unknown", "kernel", 41, 4, thread=7, correlation=0),
        event("before", "kernel", -9, 4, thread=7, correlation=0),
    )
    seen = breakdown(path)
    assert microseconds(seen.parts) == {"combine": 10, OTHER: 40}
    assert seen.launches == 2


def test_a_replayed_graph_counts_each_of_its_kernels(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.json.gz",
        event(CALL, "user_annotation", 0, 50),
        event("cudaGraphLaunch", "cuda_runtime", 5, 5, correlation=4),
        *(event("node", "kernel", 20 + 5 * place, 4, thread=7, correlation=4) for place in range(3)),
    )
    seen = breakdown(path)
    assert (microseconds(seen.parts), seen.launches, seen.operators[0].count) == ({OTHER: 50}, 3, 3)


def test_our_own_kernels_tell_their_stage_in_a_replayed_graph(tmp_path: Path) -> None:
    names = ["_route_kernel", "memset", "_count_kernel", "_dispatch_kernel", "_grouped_gemm_kernel", "_combine_kernel"]
    path = write(
        tmp_path / "a.json.gz",
        event(CALL, "user_annotation", 0, 50),
        event("cudaGraphLaunch", "cuda_runtime", 5, 5, correlation=4),
        *(event(name, "kernel", 10 + 5 * place, 4, thread=7, correlation=4) for place, name in enumerate(names)),
    )
    assert microseconds(breakdown(path).parts) == {"route": 4, "dispatch": 8, "experts": 4, "combine": 4, OTHER: 30}


def test_overlapping_kernels_count_once(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.json.gz",
        event(CALL, "user_annotation", 0, 100),
        event("moegap::experts", "user_annotation", 0, 20),
        event("moegap::combine", "user_annotation", 20, 20),
        event("cudaLaunchKernel", "cuda_runtime", 1, 1, correlation=1),
        event("cudaLaunchKernel", "cuda_runtime", 21, 1, correlation=2),
        event("gemm", "kernel", 30, 30, thread=7, correlation=1),
        event("gather", "kernel", 50, 20, thread=8, correlation=2),
    )
    seen = breakdown(path)
    assert round(seen.busy * 1e6, 6) == 40
    assert microseconds(seen.parts) == {"experts": 20, "combine": 20, OTHER: 60}


def test_a_kernel_that_waits_for_the_one_before_it_on_its_stream_does_not_count_yet(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.json.gz",
        event(CALL, "user_annotation", 0, 100),
        event("_combine_kernel", "kernel", 50, 12, thread=7),  # the trace need not be in order
        event("_grouped_gemm_kernel", "kernel", 20, 40, thread=7),
        event("_dispatch_kernel", "kernel", 10, 15, thread=7),
        event("_route_kernel", "kernel", 5, 10, thread=7),
    )
    seen = breakdown(path)
    assert microseconds(seen.parts) == {"route": 10, "dispatch": 10, "experts": 35, "combine": 2, OTHER: 43}
    assert round(seen.busy * 1e6, 6) == 57


def test_a_kernel_that_ends_after_the_call_lengthens_it(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.json.gz",
        event(CALL, "user_annotation", 10, 20),
        event("cudaLaunchKernel", "cuda_runtime", 12, 1, correlation=1),
        event("late", "kernel", 9, 26, thread=7, correlation=1),  # the device's clock is off
    )
    seen = breakdown(path)
    assert (round(seen.seconds * 1e6, 6), round(seen.gap * 1e6, 6)) == (25, 0)


def test_the_host_works_until_its_last_launch_returns(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.json.gz",
        event(CALL, "user_annotation", 0, 100),
        event("cudaLaunchKernel", "cuda_runtime", 10, 5, correlation=1),
        event("cudaLaunchKernel", "cuda_runtime", 40, 10, correlation=2),
        event("cudaDeviceSynchronize", "cuda_runtime", 52, 45, correlation=3),
        event("first", "kernel", 20, 15, thread=7, correlation=1),
        event("second", "kernel", 45, 30, thread=7, correlation=2),
    )
    seen = breakdown(path)
    assert (round(seen.host * 1e6, 6), round(seen.overlap * 1e6, 6)) == (50, 20)


def test_without_a_launch_the_host_is_not_known_to_work(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.json.gz",
        event(CALL, "user_annotation", 0, 50),
        event("node", "kernel", 20, 5, thread=7, correlation=0),
    )
    seen = breakdown(path)
    assert (seen.host, seen.overlap) == (0, 0)


def test_kernels_of_a_replayed_graph_tell_their_stage_by_name(tmp_path: Path) -> None:
    names = ["ampere_sgemm_128x64_tn", "triton_poi_fused_index_relu_0", "unheard_of"]
    path = write(
        tmp_path / "a.json.gz",
        event(CALL, "user_annotation", 0, 50),
        event("cudaGraphLaunch", "cuda_runtime", 5, 5, correlation=4),
        *(event(name, "kernel", 10 + 5 * place, 4, thread=7, correlation=4) for place, name in enumerate(names)),
    )
    seen = breakdown(path)
    assert seen.told_by == "names"
    assert microseconds(seen.parts) == {"experts": 4, "fused": 4, OTHER: 42}
    assert seen.parts["experts"].launches == seen.parts["fused"].launches == seen.parts[OTHER].launches == 1


def test_one_range_of_a_stage_tells_all_of_them(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.json.gz",
        event(CALL, "user_annotation", 0, 50),
        event("moegap::route", "user_annotation", 0, 10),
        event("aten::mm", "cpu_op", 2, 5),
        event("aten::mm", "cpu_op", 20, 10),
    )
    seen = breakdown(path)
    assert (seen.told_by, microseconds(seen.parts)) == ("ranges", {"route": 10, OTHER: 40})


def test_names_of_operators_tell_the_stage_on_a_cpu(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.json.gz",
        event(CALL, "user_annotation", 0, 50),
        event("## Call CompiledFxGraph abc ##", "cpu_op", 0, 45),
        event("aten::linear", "cpu_op", 5, 10),
        event("aten::addmm", "cpu_op", 6, 8),
        event("aten::topk", "cpu_op", 20, 4),
    )
    seen = breakdown(path)
    assert (seen.told_by, microseconds(seen.parts)) == ("names", {"experts": 8, "route": 4, OTHER: 38})
    assert (round(seen.busy * 1e6, 6), round(seen.gap * 1e6, 6), seen.launches) == (14, 36, 2)
    assert {name: part.launches for name, part in seen.parts.items() if part.launches} == {"route": 1, OTHER: 1}


def test_a_node_is_where_its_provider_is(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.json.gz",
        event(CALL, "user_annotation", 0, 50),
        {**event("Gemm", "cpu_op", 5, 10), "args": {"provider": "CPUExecutionProvider"}},
    )
    assert [(node.name, node.where) for node in breakdown(path).operators] == [("Gemm", "CPUExecutionProvider")]


Kernels = list[tuple[int, int, int]]


def cut_at_the_next_start(kernels: Kernels) -> list[tuple[int, int]]:
    """Return start and length of each kernel, shortened if a later one of its stream ends before it."""
    cut = []
    for stream in range(4):
        in_order = sorted((start, start + length) for start, length, own in kernels if own == stream)
        for place, (start, end) in enumerate(in_order):
            later = in_order[place + 1 :]
            overruns = any(other < end for _, other in later)
            cut.append((start, (later[0][0] if overruns else end) - start))
    return cut


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 60), st.integers(0, 3)), min_size=1, max_size=40))
def test_busy_is_the_union_over_all_streams(kernels: Kernels) -> None:
    calls = [(100 * place, 90) for place in range(4)]
    with TemporaryDirectory() as folder:
        path = write(
            Path(folder) / "a.json.gz",
            *(event(CALL, "user_annotation", start, length) for start, length in calls),
            *(
                event("work", "kernel", start, length, thread=7 + stream, correlation=0)
                for start, length, stream in kernels
            ),
        )
        seen = breakdown(path)
    busy = np.zeros((4, 600), dtype=bool)  # by call and microsecond
    ends = np.array([start + length for start, length in calls])
    for start, length in cut_at_the_next_start(kernels):
        for call, (begins, lasts) in enumerate(calls):
            if begins <= start < begins + lasts:
                busy[call, start : start + length] = True
                ends[call] = max(ends[call], start + length)
    assert seen.busy * 4e6 == pytest.approx(busy.sum())
    assert seen.seconds * 4e6 == pytest.approx((ends - np.array(calls)[:, 0]).sum())
    assert seen.gap * 4e6 == pytest.approx(seen.seconds * 4e6 - busy.sum())


def test_calls_are_averaged(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.json.gz",
        *(event(CALL, "user_annotation", start, length) for start, length in ((0, 10), (100, 30))),
        event("cudaLaunchKernel", "cuda_runtime", 101, 1, correlation=1),
        event("gemm", "kernel", 105, 6, thread=7, correlation=1),
    )
    seen = breakdown(path)
    assert (seen.calls, seen.launches) == (2, 0.5)
    assert (round(seen.seconds * 1e6, 6), round(seen.busy * 1e6, 6)) == (20, 3)


def test_the_call_in_the_middle_is_neither_the_quickest_nor_the_slowest(tmp_path: Path) -> None:
    lengths = ((0, 30), (100, 10), (200, 90))
    path = write(tmp_path / "a.json.gz", *(event(CALL, "user_annotation", start, length) for start, length in lengths))
    seen = breakdown(path, middle=True)
    assert (seen.calls, round(seen.seconds * 1e6, 6)) == (1, 30)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "JSONDecodeError"),
        (b"no gzip", "BadGzipFile"),
        (gzip.compress(b"{}")[:-9], "EOFError"),
        (gzip.compress(b'{"traceEvents": [{"ph": "X"'), "JSONDecodeError"),
        (gzip.compress(b'{"events": []}'), "KeyError: 'traceEvents'"),
        (gzip.compress(b'{"traceEvents": [{"ph": "X", "name": "a"}]}'), "KeyError: 'ts'"),
        (gzip.compress(b"[]"), "TypeError"),
    ],
    ids=["empty", "no-gzip", "cut-off", "cut-off-json", "other-json", "no-time", "list"],  # gzip notes the second
)
def test_a_file_that_is_no_trace_is_named(content: bytes, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.pt.trace.json.gz"
    path.write_bytes(content)
    with pytest.raises(BenchError, match=rf"broken\.pt\.trace\.json\.gz is no readable trace \({problem}"):
        breakdown(path)


def test_a_missing_trace_and_one_without_calls_are_named(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="is no readable trace"):
        breakdown(tmp_path / "absent.json.gz")
    with pytest.raises(BenchError, match="holds no moegap::call range"):
        breakdown(write(tmp_path / "a.json.gz", event("aten::add", "cpu_op", 0, 1)))
