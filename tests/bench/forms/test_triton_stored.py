"""Our kernels with stored weights: held to the rounded weights, with the error and the bytes of these in the record."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import triton

from bench.cases import prepare
from bench.cases.case import Case, Shape
from bench.cases.prepare import UnmeasurableError
from bench.cases.record import case_record
from bench.forms import form
from bench.timing import environment
from kernels.problem.experts import Experts
from kernels.problem.stored import SCHEMES, Stored, stored
from models.heads.cost import least_bytes
from reports.records.record import CaseRecord, Status
from tests.bench import oracle
from tests.bench.cases.test_measure import CPU, run, subject
from tests.kernels.narrow import decoded

WIDTHS = {"features": 64, "hidden": 32}
HEADS = [
    *((scheme, "sparse", {"activation": "swiglu", "standardise": False}) for scheme in SCHEMES),
    ("fp8_channels", "soft", {"activation": "gelu", "experts": 2}),
    ("mxfp4", "sparse", {"policy": "threshold", "threshold": 0.2}),
]
schemes = pytest.mark.parametrize("scheme", SCHEMES)


def rounded(head, scheme):
    """Return the head with weights as stored, by the decoder in NumPy."""
    twin = oracle.new_head(head.config.kind, **head.config.model_dump(exclude={"kind"}))
    twin.load_state_dict(head.state_dict())
    for name in ("w1", "w2"):
        getattr(twin, name).copy_(torch.from_numpy(decoded(stored(getattr(head, name), scheme))))
    return twin


def outputs_deviate(head, x, scheme):
    return oracle.deviation(form(f"triton_{scheme}").prepare(head, x)(x).cpu(), rounded(head, scheme), x.cpu())


@pytest.mark.parametrize(("scheme", "kind", "changes"), HEADS, ids=str)
def test_outputs_are_those_of_the_rounded_weights(scheme, kind, changes):
    head = oracle.new_head(kind, **WIDTHS, **changes)
    assert outputs_deviate(head, oracle.rows(head, 9), scheme) < 2e-5


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(("scheme", "kind", "changes"), HEADS, ids=str)
def test_outputs_on_a_gpu(scheme, kind, changes, dtype):
    head = oracle.new_head(kind, dtype=dtype, **WIDTHS, **changes).to("cuda")
    assert outputs_deviate(head, oracle.rows(head, 33), scheme) < 2.5e-2


def case_of(scheme, rows=5, **changes):
    shape = {name: changes.pop(name) for name in ("dtype", "passes") if name in changes}
    one = subject(**{"features": 32, "hidden": 32, **changes})
    return Case(
        one, f"triton_{scheme}", Shape("head", rows, **{"dtype": torch.float32, "device": CPU, **shape}), "wall"
    )


def record_of(case):
    return run([case])[case.form].record


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("scheme", ["fp8_blocks", "mxfp4"])
def test_the_record_has_the_error_of_the_kernels_and_that_of_storing(scheme, dtype):
    case = case_of(scheme, dtype=dtype)
    record = record_of(case)
    assert record.status is Status.UNAVAILABLE
    assert "never timed" in record.reason
    assert record.error <= record.tolerance
    head = case.subject.on(CPU, dtype).head
    x = prepare.make_input(case.subject, case.shape, 0).features
    exact, narrow = oracle.logits(head, x), oracle.logits(rounded(head, scheme).to(torch.float64), x)
    assert record.storage_error == pytest.approx(np.linalg.norm(narrow - exact) / np.linalg.norm(exact), rel=1e-4)
    assert record.storage_error > 50 * record.error
    assert record.scheme == scheme
    assert CaseRecord.model_validate_json(record.model_dump_json()) == record


def full(w, scheme):
    """Forget to round."""
    return w


def louder(w, scheme):
    """Read one scale 2 % too large, or twice as large in mxfp4."""
    changed = w.scales.clone()
    changed[0, 0] = changed[0, 0] + 1 if scheme == "mxfp4" else changed[0, 0] * 1.02
    return replace(w, scales=changed)


def shifted(w, scheme):
    """Give each expert the scales of the next."""
    return replace(w, scales=w.scales.roll(1, 0))


@pytest.mark.parametrize("mutant", [full, louder, shifted])
@pytest.mark.parametrize("scheme", ["fp8_channels", "mxfp4"])
def test_wrong_scales_are_wrong(scheme, mutant, monkeypatch):
    def wrong(experts, scheme):
        weights = {name: getattr(experts, name) for name in ("w1", "w2")}
        right = {name: w if mutant is full else stored(w, scheme) for name, w in weights.items()}
        return replace(experts, **{name: mutant(w, scheme) for name, w in right.items()})

    monkeypatch.setattr(Experts, "stored", wrong)
    case = case_of(scheme)
    case.subject.head.w1[1] *= 8  # so that experts differ in their powers of two
    record = record_of(case)
    assert (record.status, record.scheme) == (Status.WRONG, scheme)
    assert "outputs deviate" in record.reason


@schemes
@pytest.mark.parametrize("activation", ["gelu", "swiglu"])
def test_least_bytes_are_those_of_the_stored_tensors(scheme, activation):
    case = case_of(scheme, rows=3, features=160, hidden=96, activation=activation, dtype=torch.bfloat16)
    shared = {"group_id": "g", "suite": "s", **environment.snapshot(CPU), "status": Status.SKIPPED}
    record = case_record(case, {**shared, "rows_per_expert": [4, 0, 2, 0]})
    head = case.subject.on(CPU, torch.bfloat16).head
    experts = Experts(head.w1, head.b1, head.w2, head.b2, activation).stored(scheme)
    one = sum(part[0].nbytes for part in experts.parts() if part is not None)
    gate = head.gate.weight.nbytes + head.gate.bias.nbytes
    assert record.least_bytes == 2 * one + gate + 2 * 3 * (160 + 3)
    assert record.flops == case_record(replace(case, form="triton"), {**shared}).flops
    dense = replace(case, form="eager", subject=subject("dense", features=160, hidden=4 * 96, activation=activation))
    assert case_record(dense, shared).least_bytes == least_bytes(dense.subject.head.config, 3, 2)


def test_copies_in_turn_exceed_the_caches_by_what_is_read_of_them(monkeypatch):
    def seen(size, cache):
        sizes.append(size)
        raise UnmeasurableError(Status.SKIPPED, "enough")

    sizes = []
    monkeypatch.setattr(prepare, "copies_beyond", seen)
    case = case_of("mxfp4", features=64, hidden=64)
    for each in (replace(case, form="triton"), case):
        with pytest.raises(UnmeasurableError, match="enough"):
            prepare.copies_of(each, torch.randn(5, 64))
    weights = 4 * (64 * 64 + 64 * 3)
    assert sizes[0] - sizes[1] == 4 * weights - weights // 2 - weights // 32


def test_why_a_head_cannot_run_here(monkeypatch):
    def unavailable(scheme="fp8", device="cuda", **changes):
        config = oracle.new_head(**{"kind": "sparse", **WIDTHS, **changes}).config
        return form(f"triton_{scheme}").unavailable(config, torch.device(device), torch.float32)

    assert unavailable("mxfp4") is None
    assert unavailable("mxfp4", hidden=24) == (
        "in mxfp4 32 weights along a sum share a scale, and 64 or 24 is no multiple of 32"
    )
    assert unavailable("fp8_blocks", hidden=24) is None
    assert "a dense head has none" in unavailable(kind="dense")
    monkeypatch.setattr(triton, "knobs", SimpleNamespace(runtime=SimpleNamespace(interpret=False)))
    assert "need a CUDA device" in unavailable(device="cpu")


@schemes
def test_there_is_no_training(scheme):
    reason = record_of(case_of(scheme, passes="training")).reason
    assert reason == f"the form triton_{scheme} is for inference alone: it has no backward pass here"


def test_what_is_stored_says_so_by_name():
    for scheme in SCHEMES:
        chosen = form(f"triton_{scheme}")
        assert (chosen.default, chosen.stored.scheme) == (False, scheme)
        assert "lower precision" in chosen.summary
        assert isinstance(stored(torch.ones(1, 32, 32), scheme), Stored)
