"""ONNX Runtime's fused operator on stored weights: held to those that a decoder in NumPy reads from the bytes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from bench.cases.case import Case, Shape
from bench.cases.record import case_record
from bench.errors import UnavailableError
from bench.forms import form
from bench.forms.packages import onnx_graphs, onnxruntime_stored
from bench.forms.packages.integers import SCHEMES, Integers, rounded
from bench.timing import environment
from models.heads.cost import least_bytes
from reports.records.record import Status
from tests.bench import oracle
from tests.bench.cases.test_measure import CPU, run, subject
from tests.bench.forms.test_forms import TIES, extreme_rows, tied_head

WIDTHS = {"features": 64, "hidden": 32}
HEADS = [
    {},
    {"activation": "silu", "experts": 7, "k": 3, "temperature": 0.5},
    {"activation": "swiglu", "standardise": False, "classes": 64, "k": 4},
    {"experts": 1, "k": 1},
]
NAMES = {scheme.name: scheme for scheme in SCHEMES}
schemes = pytest.mark.parametrize("name", NAMES)


def decoded(packed, bits):
    """Return the weights (E, D, W) that bytes and scales hold, one by one."""
    values, scales = (each.numpy() for each in packed)
    E, W, size = values.shape
    D = size * 8 // bits
    weights = np.zeros((E, D, W), np.float32)
    for e, w, d in np.ndindex(E, W, D):
        code = values[e, w, d] if bits == 8 else values[e, w, d // 2] >> (4 * (d % 2)) & 15
        scale = scales[e, w] if scales.ndim == 2 else scales[e, w, d // 32]
        weights[e, d, w] = np.float32(int(code) - 2 ** (bits - 1)) * scale
    return weights


def twin(head, scheme):
    """Return the head with the weights that the operator's bytes hold."""
    twin = oracle.new_head(head.config.kind, **head.config.model_dump(exclude={"kind"}))
    twin.load_state_dict(head.state_dict())
    for name in ("w1", "w2"):
        getattr(twin, name).copy_(torch.from_numpy(decoded(rounded(getattr(head, name), scheme).packed(), scheme.bits)))
    return twin


def case_of(name, rows=5, **changes):
    shape = Shape(
        "head", rows, torch.float32, CPU, **{each: changes.pop(each) for each in ("passes",) & changes.keys()}
    )
    return Case(subject(**{**WIDTHS, **changes}), f"onnxruntime_{name}", shape, "wall")


def record_of(case):
    return run([case])[case.form].record


@schemes
def test_a_weight_is_the_nearest_of_its_scale(name):
    scheme = NAMES[name]
    w = torch.randn(3, 64, 10, generator=torch.Generator().manual_seed(0))
    w[1, :, 2] = 0
    w[2, 5, 3] = 100
    stored = rounded(w, scheme)
    values = decoded(stored.packed(), scheme.bits)
    assert np.array_equal(values, stored.dequantised().numpy())
    largest = w.unflatten(1, (scheme.scales(64), -1)).abs().amax(2)  # (E, S, W)
    steps = (largest / (2 ** (scheme.bits - 1) - 1)).repeat_interleave(64 // scheme.scales(64), dim=1)
    assert np.all(np.abs(values - w.numpy()) <= 0.5001 * steps.numpy())
    assert values[2, 5, 3] == pytest.approx(100)
    assert sum(each.nbytes for each in stored.packed()) == 3 * scheme.matrix_bytes(64, 10)


@schemes
@pytest.mark.parametrize("changes", HEADS, ids=str)
def test_outputs_are_those_of_the_rounded_weights(name, changes):
    head = oracle.new_head("sparse", **WIDTHS, **changes)
    held = twin(head, NAMES[name])
    call = form(f"onnxruntime_{name}").prepare(head, oracle.rows(head, 7))
    for x in (*(oracle.rows(head, count) for count in (0, 1, 7, 65)), oracle.rows(head, 18)[::2], extreme_rows(head)):
        assert oracle.deviation(call(x), held, x) < 2e-5, len(x)


@schemes
def test_equal_scores_go_to_the_lowest_ids(name):
    head = tied_head(TIES[0], **WIDTHS)
    x = oracle.rows(head, 9)
    assert oracle.deviation(form(f"onnxruntime_{name}").prepare(head, x)(x), twin(head, NAMES[name]), x) < 2e-5


@schemes
def test_the_record_has_the_error_of_the_operator_and_that_of_storing(name):
    case = case_of(name)
    record = record_of(case)
    assert record.status is Status.MEASURED
    assert record.scheme == name
    assert record.error < 2e-6
    head = case.subject.head
    x = torch.randn(4096, 64, generator=torch.Generator().manual_seed(0))
    exact, narrow = (each.double().forward(x.double()).numpy() for each in (head, twin(head, NAMES[name])))
    assert record.storage_error == pytest.approx(np.linalg.norm(narrow - exact) / np.linalg.norm(exact), rel=0.5)


def louder(packed):
    """Store one scale 2 % too large."""
    values, scales = packed
    changed = scales.clone()
    changed[0, 0] *= 1.02
    return values, changed


def shifted(packed):
    """Give each expert the scales of the next."""
    values, scales = packed
    return values, scales.roll(1, 0)


def swapped(packed):
    """Pack the halves of a byte in the other order."""
    values, scales = packed
    return values << 4 | values >> 4, scales


def uncentred(packed):
    """Store integers plus one less."""
    values, scales = packed
    return values - (0x11 if scales.ndim == 3 else 1), scales


@pytest.mark.parametrize("mutant", [louder, shifted, swapped, uncentred])
@schemes
def test_wrong_scales_and_packing_are_wrong(name, mutant, monkeypatch):
    right = Integers.packed
    monkeypatch.setattr(Integers, "packed", lambda self: mutant(right(self)))
    case = case_of(name)
    case.subject.head.w1[1] *= 8  # so that the scales of experts differ
    record = record_of(case)
    assert (record.status, record.scheme) == (Status.WRONG, name)
    assert "outputs deviate" in record.reason


@schemes
def test_full_weights_in_the_check_are_wrong(name, monkeypatch):
    monkeypatch.setattr(Integers, "dequantised", lambda self: full.pop(0))
    case = case_of(name)
    full = [case.subject.head.w1, case.subject.head.w2]
    assert record_of(case).status is Status.WRONG


@schemes
@pytest.mark.parametrize("activation", ["relu", "swiglu"])
def test_bytes_are_those_of_the_stored_tensors(name, activation):
    case = case_of(name, rows=3, activation=activation)
    head = case.subject.head
    shared = {"group_id": "g", "suite": "s", **environment.snapshot(CPU), "status": Status.SKIPPED}
    record = case_record(case, {**shared, "rows_per_expert": [4, 0, 2, 0]})
    first, second = (sum(part[0].nbytes for part in rounded(w, NAMES[name]).packed()) for w in (head.w1, head.w2))
    gate = head.gate.weight.nbytes + head.gate.bias.nbytes
    biases = head.b1[0].nbytes + head.b2[0].nbytes
    assert record.least_bytes == 2 * (first + second + biases) + gate + 4 * 3 * (64 + 3)
    assert record.least_bytes < least_bytes(head.config, 3, 4, 2) / 2
    assert record.flops == case_record(replace(case, form="onnxruntime_moe"), shared).flops
    x = oracle.rows(head, 3)
    done = form(case.form).prepare(head, x).work([4, 0, 2, 0])
    W, M = head.w1.shape[2], 6
    padded = 2 * NAMES[name].matrix_bytes(32, 64)
    assert done["requested_bytes"] == 4 * M * (64 + W + 32 + 64) + 2 * first + padded
    assert done["launches"] == form("onnxruntime_moe").prepare(head, x).work([4, 0, 2, 0])["launches"]


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("int8", {"kind": "dense"}, "knows no other gate"),
        ("int4", {"kind": "soft"}, "knows no other gate"),
        ("int8", {"policy": "top_p"}, "knows no other gate"),
        ("int8", {"activation": "gelu"}, "tanh approximation"),
        ("int8", {"classes": 65}, "this head has 65"),
        ("int8", {"dtype": torch.bfloat16}, "float32 and float16 only"),
        ("int8", {"dtype": torch.float16}, "would not be float16"),
        ("int8", {"device": "cuda"}, "CPU provider reads them; on a GPU, triton_mxfp4"),
        ("int4", {"hidden": 24}, "in int4 32 weights along a sum share a scale, and 64 or 24 is no multiple of 32"),
        ("int8", {"hidden": 24}, None),
    ],
)
def test_why_a_head_cannot_run(name, changes, reason):
    place = {"device": torch.device(changes.pop("device", "cpu")), "dtype": changes.pop("dtype", torch.float32)}
    config = oracle.new_head(**{"kind": "sparse", **WIDTHS, **changes}).config
    refusal = form(f"onnxruntime_{name}").unavailable(config, **place)
    assert (refusal is None) if reason is None else (reason in refusal)


@schemes
def test_there_is_no_training(name):
    reason = record_of(case_of(name, passes="training")).reason
    assert reason == f"the form onnxruntime_{name} is for inference alone: it has no backward pass here"


def test_a_layer_too_large_for_the_memory_is_skipped(monkeypatch):
    monkeypatch.setattr(onnxruntime_stored, "available_memory", lambda device: 10_000)
    record = record_of(case_of("int8"))
    assert record.status is Status.SKIPPED
    assert record.reason.startswith("out of memory: the weights in int8 take 0.0 GB at a time")


def test_a_model_larger_than_onnx_allows_says_so(monkeypatch):
    monkeypatch.setattr(onnx_graphs, "LARGEST", 1000)
    with pytest.raises(UnavailableError, match="an ONNX model holds at most 2 GiB"):
        onnx_graphs.fused(oracle.new_head("sparse", **WIDTHS))


def test_what_is_stored_says_so_by_name():
    for name in NAMES:
        chosen = form(f"onnxruntime_{name}")
        assert (chosen.default, chosen.stored.scheme) == (False, name)
        assert "lower precision" in chosen.summary
