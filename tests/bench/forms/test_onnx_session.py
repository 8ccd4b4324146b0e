"""Sessions of ONNX Runtime: options of a GPU's provider, order with torch, the CUDA graph, and the placement."""

import pytest
import torch

from bench.errors import BenchError
from bench.forms import form
from bench.forms.packages import onnx_graphs, onnx_session
from bench.forms.packages.onnx_session import PROVIDERS, placement, profiled, provider_options
from tests.bench import oracle

CUDA = PROVIDERS["cuda"]


class Stream:
    """Stands for a stream of torch's, and writes down what waits for what."""

    cuda_stream = 77

    def __init__(self, name, log):
        self.name, self.log = name, log

    def wait_stream(self, other):
        self.log.append(f"{self.name} waits for {other.name}")


class Session:
    """A session on the CPU that writes down its runs with an option of them; only `working` ones work."""

    def __init__(self, head, log, option, working=1000):
        self.session = onnx_session._session(onnx_graphs.fused(head)[0], PROVIDERS["cpu"], {})
        self.log, self.option, self.working = log, option, working

    def io_binding(self):
        return self.session.io_binding()

    def run_with_iobinding(self, binding, options):
        self.log.append(f"run, {self.option} {options.get_run_config_entry(self.option)}")
        self.working -= 1
        if self.working >= 0:
            self.session.run_with_iobinding(binding)


@pytest.fixture
def log():
    return []


@pytest.fixture
def stream(monkeypatch, log):
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream("torch", log))
    return Stream("session", log)


@pytest.fixture
def head():
    return oracle.new_head("sparse")


def in_order(run):
    return ["session waits for torch", run, "torch waits for session"]


def test_a_session_on_a_gpu_gets_the_stream_and_the_device(stream):
    options = provider_options(torch.device("cuda:1"), stream, graph=False)
    assert options == {"device_id": "1", "user_compute_stream": "77", "use_tf32": "0", "enable_cuda_graph": "0"}
    assert provider_options(torch.device("cuda"), stream, graph=True)["enable_cuda_graph"] == "1"
    assert provider_options(torch.device("cpu"), None, graph=False) == {}


def test_a_call_runs_after_torch_and_before_it_without_waiting_for_the_device(head, stream, log):
    call = onnx_session._bound(
        Session(head, log, "disable_synchronize_execution_providers"), head.config.classes, stream
    )
    x = oracle.rows(head, 7)
    assert oracle.deviation(call(x), head, x) < 2e-5
    assert log == in_order("run, disable_synchronize_execution_providers 1")


def test_a_graph_reads_and_writes_the_same_memory_in_each_call(head, stream, log):
    x = oracle.rows(head, 7)
    call = onnx_session._replayed(Session(head, log, "gpu_graph_id"), x, head.config.classes, stream)
    assert log == in_order("run, gpu_graph_id 1")
    others = [x, oracle.rows(head, 7, seed=3), oracle.rows(head, 14)[::2], -x]
    outputs = set()
    for other in others:
        out = call(other)
        outputs.add(out.data_ptr())
        assert oracle.deviation(out, head, other) < 2e-5
    assert len(outputs) == 1
    with pytest.raises(BenchError, match="captured for 7 rows, not 6"):
        call(x[:6])


def test_a_replay_that_does_nothing_shows(head, stream, log):
    x = oracle.rows(head, 7)
    session = Session(head, log, "gpu_graph_id", working=1)
    assert onnx_session._replayed(session, x, head.config.classes, stream)(x).isnan().all()


def test_only_a_gpu_replays_a_graph(head):
    chosen = form("onnxruntime_moe_graph")
    assert "CUDA device" in chosen.unavailable(head.config, torch.device("cpu"), torch.float32)
    refusal = chosen.unavailable(oracle.new_head("dense").config, torch.device("cuda"), torch.float32)
    assert "knows no other gate" in refusal


@pytest.fixture
def nodes(head):
    """Return the nodes of a call on the CPU."""
    (call,) = profiled(onnx_graphs.split(head), PROVIDERS["cpu"], oracle.rows(head, 40), calls=1)
    return call[1:]


def test_each_node_is_placed(nodes):
    assert placement(nodes, PROVIDERS["cpu"]) == f"{len(nodes)} on CPUExecutionProvider"


def test_a_node_on_another_provider_is_named(nodes):
    first = nodes[0]
    name = first["name"].removesuffix("_kernel_time")
    with pytest.raises(
        BenchError, match=rf"ran the node {name} \({first['args']['op_name']}\) on CPUExecutionProvider"
    ):
        placement(nodes, CUDA)


def test_any_single_node_outside_is_an_error_unless_it_computes_a_shape(nodes):
    allowed = []
    for fallen in nodes:
        moved = [{**node, "args": {**node["args"], "provider": CUDA}} for node in nodes if node is not fallen]
        try:
            counts = placement([*moved, fallen], CUDA)
        except BenchError:
            continue
        assert counts == f"{len(moved)} on {CUDA}, 1 on CPUExecutionProvider"
        allowed.append(fallen["args"])
    assert {node["op_name"] for node in allowed} <= {"Shape", "ReduceSum"}
    assert len(allowed) < len(nodes) / 4


def test_a_float_on_the_host_is_no_shape():
    outside = {"provider": PROVIDERS["cpu"], "op_name": "Mul", "output_type_shape": [{"float": [2]}]}
    with pytest.raises(BenchError, match="the node scale"):
        placement([{"name": "scale_kernel_time", "args": outside}], CUDA)
