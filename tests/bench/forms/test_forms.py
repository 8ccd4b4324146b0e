"""Every form of every head against the row-by-row oracle."""

from contextlib import suppress
from functools import partial
from types import SimpleNamespace
from typing import Any

import onnx.parser
import onnxruntime
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from bench.errors import BenchError, UnavailableError
from bench.execution.stages import named_stages
from bench.forms import default_forms, form, forms
from bench.forms.packages import onnx_graphs
from bench.forms.packages import onnxruntime as onnx_form
from models.heads.cost import flops, least_bytes
from models.heads.heads import Head
from tests.bench import oracle

CPU = torch.device("cpu")
CHEAP = ("loop", "eager", "grouped_mm", "masked")
PLAIN = ("loop", "eager", "grouped_mm", "masked", "triton")
WITHIN = {torch.float32: 2e-5, torch.float16: 3e-3, torch.bfloat16: 2.5e-2}
"""Relative deviation that rounding explains, well below the tolerance of the equivalence gate."""

HEADS: list[tuple[str, dict[str, Any]]] = [
    ("dense", {"activation": "silu"}),
    ("soft", {"activation": "gelu", "temperature": 0.5}),
    ("sparse", {}),
    ("sparse", {"activation": "gelu", "temperature": 2.0, "standardise": False}),
    ("sparse", {"activation": "silu", "weights_over": "all", "experts": 7, "k": 3, "features": 23, "hidden": 9}),
    ("sparse", {"k": 1}),
    ("sparse", {"k": 4}),
    ("sparse", {"experts": 1, "k": 1}),
    ("soft", {"experts": 1}),
    ("dense", {"activation": "swiglu", "hidden": 7}),
    ("soft", {"activation": "swiglu", "hidden": 7, "temperature": 0.5}),
    ("sparse", {"activation": "swiglu"}),
    ("sparse", {"activation": "swiglu", "experts": 7, "k": 3, "features": 23, "hidden": 9, "weights_over": "all"}),
    ("sparse", {"activation": "swiglu", "experts": 1, "k": 1, "hidden": 1}),
]
POLICIES: list[tuple[str, dict[str, Any]]] = [
    ("sparse", {"policy": "capacity", "capacity_factor": 0.6}),
    ("sparse", {"policy": "capacity", "overflow": "next", "capacity_factor": 1.1, "bias_correction": True}),
    ("sparse", {"policy": "top_p", "mass": 0.6, "experts": 7, "features": 23, "hidden": 9}),
    ("sparse", {"policy": "threshold", "threshold": 0.2, "k": 3, "standardise": False, "weights_over": "selected"}),
    ("sparse", {"policy": "expert_choice", "capacity_factor": 0.4, "temperature": 0.5}),
    ("sparse", {"bias_correction": True, "activation": "silu"}),
]
"""Every policy, two of them with rows that no expert serves."""
POLICY_EDGES: list[tuple[str, dict[str, Any]]] = [
    ("sparse", {"policy": "capacity", "k": 1, "capacity_factor": 0.1}),
    ("sparse", {"policy": "capacity", "k": 4, "capacity_factor": 5.0, "weights_over": "all"}),
    ("sparse", {"policy": "capacity", "experts": 1, "k": 1, "capacity_factor": 0.5}),
    ("sparse", {"policy": "top_p", "mass": 1.0, "weights_over": "selected"}),
    ("sparse", {"policy": "top_p", "k": 1}),
    ("sparse", {"policy": "threshold", "threshold": 0.0}),
    ("sparse", {"policy": "threshold", "experts": 1}),
    ("sparse", {"policy": "expert_choice", "capacity_factor": 9.0}),
    ("sparse", {"policy": "expert_choice", "k": 1, "capacity_factor": 0.05, "weights_over": "all"}),
    ("sparse", {"policy": "expert_choice", "experts": 1, "k": 1, "capacity_factor": 0.5}),
    ("sparse", {"experts": 1, "k": 1, "bias_correction": True}),
]
KINDS: list[tuple[str, dict[str, Any]]] = [("dense", {}), ("soft", {}), ("sparse", {})]
GATED: list[tuple[str, dict[str, Any]]] = [(kind, {**changes, "activation": "swiglu"}) for kind, changes in KINDS]
TIES = [[1.0, 3.0, 1.0, 1.0], [0.25, 0.25, 0.25, 0.25], [-2.0, 0.5, 0.5, 0.5]]
"""Scores of E = 4 experts with equal ones at the cut."""

interpreted_nan = pytest.mark.filterwarnings(  # NumPy computes for Triton's interpreter; a GPU warns of nothing
    "ignore:invalid value encountered:RuntimeWarning",
    "ignore:overflow encountered:RuntimeWarning",
    "ignore:All-NaN slice encountered:RuntimeWarning",
)


def cases(*heads: tuple[str, dict[str, Any]], dtypes: tuple[torch.dtype, ...] = (torch.float32,)) -> Any:
    """Parametrise over the plain forms and `heads`, as far as a form can run the head here."""
    return pytest.mark.parametrize(
        ("name", "kind", "changes", "dtype"),
        [
            pytest.param(name, kind, changes, dtype, id=f"{name}-{kind}-{changes}-{dtype}")
            for dtype in dtypes
            for kind, changes in heads
            for name in PLAIN
            if form(name).unavailable(oracle.new_head(kind, **changes).config, CPU, dtype) is None
        ],
    )


def runs_as_the_oracle(name: str, head: Head, x: Tensor) -> bool:
    """Prepare a form for x (N, D) and compare what it returns, within rounding."""
    return oracle.deviation(form(name).prepare(head, x)(x), head, x) < WITHIN[x.dtype]


@cases(*HEADS)
def test_logits_are_those_of_the_formula(name: str, kind: str, changes: dict[str, Any], dtype: torch.dtype) -> None:
    head = oracle.new_head(kind, dtype=dtype, **changes)
    for count in (0, 33) if name == "triton" else (0, 1, 7, 257):
        assert runs_as_the_oracle(name, head, oracle.rows(head, count)), count


@cases(*POLICIES, *POLICY_EDGES)
def test_every_policy(name: str, kind: str, changes: dict[str, Any], dtype: torch.dtype) -> None:
    head = oracle.new_head(kind, dtype=dtype, **changes)
    for count in (0, 33) if name == "triton" else (0, 1, 7, 300):
        assert runs_as_the_oracle(name, head, oracle.rows(head, count)), count


@cases(*KINDS, *GATED, *POLICIES, dtypes=(torch.float16, torch.bfloat16))
def test_half_precision(name: str, kind: str, changes: dict[str, Any], dtype: torch.dtype) -> None:
    head = oracle.new_head(kind, dtype=dtype, **changes)
    assert runs_as_the_oracle(name, head, oracle.rows(head, 33))


@interpreted_nan
@cases(*KINDS, *GATED, *POLICIES)
def test_extreme_rows(name: str, kind: str, changes: dict[str, Any], dtype: torch.dtype) -> None:
    head = oracle.new_head(kind, dtype=dtype, **changes)
    assert runs_as_the_oracle(name, head, extreme_rows(head))


@cases(("sparse", {"standardise": True}), ("sparse", {"standardise": False}))
def test_equal_scores_go_to_the_lowest_ids(name: str, kind: str, changes: dict[str, Any], dtype: torch.dtype) -> None:
    for bias in TIES:
        head = tied_head(bias, **changes)
        assert runs_as_the_oracle(name, head, oracle.rows(head, 9)), bias


@cases(*POLICIES)
def test_experts_without_rows_and_equal_rows(name: str, kind: str, changes: dict[str, Any], dtype: torch.dtype) -> None:
    experts = oracle.new_head(kind, **changes).config.experts
    for bias in ([0.0] * experts, [3.0, *[0.0] * (experts - 1)], [*[-1.0] * (experts - 1), 2.0]):
        head = tied_head(bias, **changes)
        assert runs_as_the_oracle(name, head, oracle.rows(head, 9)), bias


@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_random_heads(data: st.DataObject) -> None:
    kind, changes = data.draw(oracle.configurations())
    head = oracle.new_head(kind, seed=data.draw(st.integers(0, 10_000)), **changes)
    x = oracle.rows(head, data.draw(st.integers(0, 40)))
    name = data.draw(st.sampled_from(CHEAP))
    assume(form(name).unavailable(head.config, CPU, x.dtype) is None)
    assume(not len(x) or oracle.decided(head, x).any())
    assert oracle.deviation(form(name).prepare(head, x)(x), head, x) < 1e-4


@pytest.mark.parametrize("name", CHEAP)
@pytest.mark.parametrize("changes", [{}, {"policy": "threshold"}, {"policy": "expert_choice"}], ids=str)
def test_a_prepared_runner_takes_other_shapes_and_strides(name: str, changes: dict[str, Any]) -> None:
    head = oracle.new_head("sparse", **changes)
    x = oracle.rows(head, 257)
    run = form(name).prepare(head, x)
    for other in (x[:1], x[::2], x.T.contiguous().T, x[:1].expand(5, -1)):
        assert oracle.deviation(run(other), head, other) < WITHIN[torch.float32]


@pytest.mark.parametrize("name", CHEAP)
@pytest.mark.parametrize("changes", [{}, {"policy": "capacity"}], ids=str)
def test_named_stages_change_no_logit(name: str, changes: dict[str, Any]) -> None:
    head = oracle.new_head("sparse", **changes)
    x = oracle.rows(head, 33)
    run = form(name).prepare(head, x)
    plain = run(x)
    with named_stages():
        assert torch.equal(run(x), plain)


@pytest.mark.parametrize(
    ("kind", "changes", "count"),
    [
        ("soft", {"activation": "swiglu", "hidden": 7}, 1),
        ("sparse", {"experts": 2, "policy": "threshold", "threshold": 0.4}, 12),
    ],
)
def test_compile_is_one_graph_for_one_number_of_rows(kind: str, changes: dict[str, Any], count: int) -> None:
    head = oracle.new_head(kind, **changes)
    x = oracle.rows(head, count)
    run = form("compile").prepare(head, x)
    before = compiled_graphs()
    for other in (x, extreme_rows(head)[:count], x[:1].expand(count, -1).contiguous(), torch.zeros_like(x)):
        assert oracle.deviation(run(other), head, other) < WITHIN[torch.float32]
    with named_stages():
        run(x)
    assert compiled_graphs() == before
    for other in (oracle.rows(head, count + 1), oracle.rows(head, 2 * count)[::2]):
        with pytest.raises(BenchError, match=f"compiled for {count} rows"):
            run(other)


@pytest.mark.parametrize(("kind", "changes"), [("sparse", {}), *GATED, *POLICIES], ids=str)
def test_compile_captures_every_policy_in_one_graph(
    kind: str, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))  # captures, and compiles no C++
    head = oracle.new_head(kind, **changes)
    x = oracle.rows(head, 9)
    run = form("compile").prepare(head, x)
    before = compiled_graphs()
    for other in (x, oracle.rows(head, 9, seed=2), x[:1].expand(9, -1).contiguous(), torch.zeros_like(x)):
        assert oracle.deviation(run(other), head, other) < WITHIN[torch.float32]
    assert compiled_graphs() == before


@pytest.mark.parametrize("count", [0, 1])
def test_compile_takes_no_rows_and_one(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    head = oracle.new_head("sparse", policy="capacity")
    assert runs_as_the_oracle("compile", head, oracle.rows(head, count))


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("dense", {}),
        ("soft", {"activation": "silu"}),
        ("sparse", {"experts": 3, "activation": "swiglu", "hidden": 7}),
        *(
            (kind, {**changes, "experts": experts})
            for (kind, changes), experts in zip(POLICIES[1:5], (3, 2, 3, 2), strict=True)
        ),
    ],
)
def test_onnxruntime(kind: str, changes: dict[str, Any]) -> None:
    head = oracle.new_head(kind, **changes)
    run = form("onnxruntime").prepare(head, oracle.rows(head, 7))
    assert run.runs_on["provider"] == "CPUExecutionProvider"
    for x in (*(oracle.rows(head, count) for count in (0, 1, 7, 257)), extreme_rows(head)):
        assert oracle.deviation(run(x), head, x) < WITHIN[torch.float32], len(x)


def test_onnxruntime_breaks_ties_as_the_routing_does() -> None:
    head = tied_head(TIES[0], experts=4, k=1, standardise=False, activation="gelu")
    assert runs_as_the_oracle("onnxruntime", head, oracle.rows(head, 9))


WRITTEN: list[tuple[str, dict[str, Any]]] = [
    ("onnxruntime", {}),
    ("onnxruntime", {"activation": "gelu", "temperature": 2.0, "standardise": False, "k": 1}),
    ("onnxruntime", {"activation": "silu", "weights_over": "all", "experts": 7, "k": 3, "features": 23, "hidden": 9}),
    ("onnxruntime", {"activation": "swiglu", "k": 4}),
    ("onnxruntime", {"experts": 1, "k": 1}),
    ("onnxruntime_moe", {}),
    ("onnxruntime_moe", {"activation": "silu", "experts": 7, "k": 3, "features": 23, "hidden": 9, "temperature": 0.5}),
    ("onnxruntime_moe", {"activation": "swiglu", "standardise": False, "classes": 24}),
    ("onnxruntime_moe", {"experts": 1, "k": 1, "weights_over": "selected"}),
]


@pytest.mark.parametrize(("name", "changes"), WRITTEN, ids=str)
def test_onnxruntime_on_graphs_written_node_by_node(name: str, changes: dict[str, Any]) -> None:
    head = oracle.new_head("sparse", **changes)
    run = form(name).prepare(head, oracle.rows(head, 7))
    inputs = [*(oracle.rows(head, count) for count in (0, 1, 7, 257)), oracle.rows(head, 18)[::2], extreme_rows(head)]
    for x in inputs:
        assert oracle.deviation(run(x), head, x) < WITHIN[torch.float32], len(x)


@pytest.mark.parametrize("name", ["onnxruntime", "onnxruntime_moe"])
@pytest.mark.parametrize("standardise", [True, False])
def test_graphs_written_node_by_node_break_ties_as_the_routing_does(name: str, standardise: bool) -> None:
    for bias in TIES:
        head = tied_head(bias, standardise=standardise)
        assert runs_as_the_oracle(name, head, oracle.rows(head, 9)), bias


def test_an_expert_costs_onnxruntime_three_nodes() -> None:
    few, more = (
        len(onnx.load_from_string(onnx_graphs.split(oracle.new_head("sparse", experts=experts))).graph.node)
        for experts in (4, 8)
    )
    assert more - few == 3 * 4
    assert more < 144 / 2


def test_the_fused_operator_counts_the_columns_that_pad_its_outputs() -> None:
    head = oracle.new_head("sparse")
    runner = form("onnxruntime_moe").prepare(head, oracle.rows(head, 9))
    assert runner.work is not None
    done = runner.work([18, 0, 0, 0])
    assert done["executed_flops"] == flops(head.config, 9).total - 2 * 18 * 5 * (1 + 12) + 2 * 18 * 24 * 12


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"policy": "top_p"}, "knows no other gate"),
        ({"weights_over": "all"}, "knows no other gate"),
        ({"bias_correction": True}, "knows no other gate"),
        ({"activation": "gelu"}, "tanh approximation"),
        ({"classes": 25}, "24 outputs as it has inputs, and this head has 25"),
    ],
    ids=str,
)
def test_the_fused_operator_refuses_what_it_cannot_express(changes: dict[str, Any], reason: str) -> None:
    refusal = form("onnxruntime_moe").unavailable(oracle.new_head("sparse", **changes).config, CPU, torch.float32)
    assert refusal is not None
    assert reason in refusal


@pytest.mark.skipif(torch.cuda.is_available(), reason="has the CUDA device whose absence is tested")
@pytest.mark.filterwarnings("ignore:Specified provider 'CUDAExecutionProvider' is not:UserWarning")
def test_onnxruntime_never_falls_back_to_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    head = oracle.new_head("dense")
    identity = (
        '<ir_version: 10, opset_import: ["": 18]> g (float[N, D] x) => (float[N, D] logits) {logits = Identity(x)}'
    )
    model = onnx.parser.parse_model(identity).SerializeToString()
    monkeypatch.setattr(onnx_form, "_exported", lambda head, example: (model, 0.0))
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: SimpleNamespace(cuda_stream=1))
    on_cuda: Any = SimpleNamespace(device=torch.device("cuda"), dtype=torch.float32, shape=(4, 24))
    with pytest.raises(BenchError, match="CUDAExecutionProvider was asked for"):
        form("onnxruntime").prepare(head, on_cuda)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_every_form_on_a_gpu(dtype: torch.dtype) -> None:
    for kind, changes in (*HEADS, *POLICIES):
        head = oracle.new_head(kind, dtype=dtype, **changes).to("cuda")
        x = oracle.rows(head, 257)
        for name, chosen in forms().items():
            tuned = name.startswith("compile_")  # tuning takes a minute a head
            exact = chosen.computes == "head" and not chosen.stored
            if exact and not tuned and chosen.unavailable(head.config, x.device, dtype) is None:
                with suppress(UnavailableError):
                    assert runs_as_the_oracle(name, head, x), (name, kind, changes)


@pytest.mark.parametrize(
    ("name", "kind", "device", "dtype", "reason"),
    [
        ("loop", "dense", "cpu", torch.float32, "no experts to loop over"),
        ("grouped_mm", "dense", "cpu", torch.float32, "no groups of rows"),
        ("grouped_mm", "soft", "cpu", torch.float32, "no groups of rows"),
        ("grouped_mm", "sparse", "cuda", torch.float16, "bfloat16 only"),
        ("grouped_mm", "sparse", "cuda", torch.bfloat16, None),
        ("grouped_mm", "sparse", "cpu", torch.float32, None),
        ("onnxruntime", "sparse", "cpu", torch.bfloat16, "float32 and float16 only"),
        ("onnxruntime", "sparse", "cpu", torch.float16, "would not be float16"),
        ("onnxruntime", "dense", "cpu", torch.float32, None),
        *((name, "sparse", "cpu", torch.float32, None) for name in default_forms()),
        ("masked", "dense", "cpu", torch.float32, "runs all of its experts anyway"),
        ("masked", "soft", "cpu", torch.float32, "runs all of its experts anyway"),
        ("triton", "dense", "cuda", torch.float32, "a dense head has none"),
        ("eager", "dense", "cpu", torch.float32, None),
    ],
)
def test_unavailable_says_why(name: str, kind: str, device: str, dtype: torch.dtype, reason: str | None) -> None:
    found = form(name).unavailable(oracle.new_head(kind).config, torch.device(device), dtype)
    assert (found is None) if reason is None else (found is not None and reason in found)


@pytest.mark.parametrize("policy", ["capacity", "expert_choice"])
def test_onnxruntime_refuses_a_factor_that_overflows(policy: str) -> None:
    config = oracle.new_head("sparse", policy=policy, capacity_factor=4 / 3).config
    reason = form("onnxruntime").unavailable(config, CPU, torch.float32)
    assert reason is not None
    assert "as many digits as 1.3333333333333333 overflows" in reason


@pytest.mark.parametrize("changes", [{"policy": "top_p"}, {"bias_correction": True}], ids=str)
def test_our_kernels_count_no_work_where_torch_routes(changes: dict[str, Any]) -> None:
    head = oracle.new_head("sparse", **changes)
    assert form("triton").prepare(head, oracle.rows(head, 9)).work is None


def test_our_kernels_count_their_work() -> None:
    head = oracle.new_head("sparse")
    x = oracle.rows(head, 9)
    runner = form("triton").prepare(head, x)
    config = head.config
    assert runner.work is not None
    done = runner.work([9 * config.k, *[0] * (config.experts - 1)])  # type: ignore[union-attr]
    assert set(done) == {"launches", "executed_flops", "requested_bytes"}
    assert done["launches"] in (1, 5)
    assert done["executed_flops"] >= flops(config, 9).experts
    assert done["requested_bytes"] > least_bytes(config, 9, 4, distinct_experts=1)


def test_compile_needs_a_compiler_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    reason = form("compile").unavailable(oracle.new_head("dense").config, CPU, torch.float32)
    assert reason is not None
    assert "C++ compiler" in reason


def test_onnxruntime_names_a_missing_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    config = oracle.new_head("dense").config
    reason = form("onnxruntime").unavailable(config, torch.device("cuda"), torch.float32)
    assert reason is not None
    assert "no CUDAExecutionProvider" in reason


def test_an_unknown_form_is_refused_with_those_there_are() -> None:
    with pytest.raises(BenchError, match=f"unknown form 'fast'; choose one of {', '.join(forms())}"):
        form("fast")


def test_the_naive_form_comes_first() -> None:
    assert list(forms())[:2] == ["loop", "eager"]


def tied_head(bias: list[float], **changes: Any) -> Head:
    """Return a sparse head whose scores are `bias` in every row."""
    head = oracle.new_head("sparse", **changes)
    head.gate.weight.zero_()
    head.gate.bias.copy_(torch.tensor(bias))
    return head


def extreme_rows(head: Head) -> Tensor:
    """Return rows (N, D): equal ones, zeros, 1e4 to 1e15 large, 1e-30 small, and two with NaN among them."""
    x = oracle.rows(head, 12)
    x[1] = x[0]
    x[2] = 0
    for row, scale in ((3, 1e4), (4, 1e8), (5, 1e15), (6, 1e-30)):
        x[row] *= scale
    x[7, 0] = torch.nan
    x[8] = torch.nan
    return x


def compiled_graphs() -> int:
    """Return how many graphs torch has compiled in this process."""
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])
