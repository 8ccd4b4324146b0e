"""Cases of training: their gradients are those of float64, wrong and stale ones get no time, and keys stay."""

import json
from dataclasses import replace
from functools import partial

import pytest
import torch

from bench.cases.case import Case, Shape
from bench.cases.prepare import UnmeasurableError, make_input
from bench.cases.result import group_name
from bench.execution.form import Form, torch_runner
from bench.forms import forms
from bench.rooms import ROOT
from bench.subjects import public_layers
from models.heads.cost import flops, least_bytes
from reports.records.record import CaseRecord, Status
from tests.bench.cases.test_measure import CPU, run, subject

SHAPE = Shape("head", 33, torch.float32, CPU, passes="training")


def cases(subjects, names, **changes):
    return [Case(one, name, replace(SHAPE, **changes), "wall") for one in subjects for name in names]


def with_training(monkeypatch, name, train):
    """Register a form whose training runs `train(head)` on rows."""
    made = Form(
        name, 9, "", lambda *a: None, lambda head, x: torch_runner(head, x),
        lambda head, x: torch_runner(train(head), x),
    )  # fmt: skip
    monkeypatch.setitem(forms(), name, made)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", ["dense", "soft", "sparse"])
def test_every_form_that_trains_has_the_gradients_of_float64(kind, dtype):
    found = run(cases([subject(kind)], ["loop", "eager", "grouped_mm", "masked", "onnxruntime"], dtype=dtype))
    measured = {name for name, outcome in found.items() if outcome.record.status is Status.MEASURED}
    assert measured == {"dense": {"eager"}, "soft": {"loop", "eager"}}.get(kind, {*found} - {"onnxruntime"})
    for name in measured:
        record = found[name].record
        assert record.passes == "training"
        assert record.error <= record.tolerance
        assert 0 < record.gradient_error <= record.gradient_tolerance


@pytest.mark.parametrize("policy", ["capacity", "top_p", "threshold", "expert_choice"])
def test_every_policy_trains(policy):
    found = run(cases([subject(policy=policy)], ["loop", "eager", "grouped_mm", "masked"]))
    assert {outcome.record.status for outcome in found.values()} == {Status.MEASURED}


def test_a_compiled_form_trains(monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))  # two graphs, and no C++
    found = run(cases([subject()], ["compile"]))["compile"].record
    assert (found.status, found.reason) == (Status.MEASURED, "")


@pytest.mark.parametrize("kind", ["soft", "sparse"])
def test_our_kernels_train_and_are_not_timed_in_an_interpreter(kind):
    found = run(cases([subject(kind, experts=3)], ["triton"], rows=5))["triton"].record
    assert found.status is Status.UNAVAILABLE
    assert "never timed" in found.reason
    assert 0 < found.gradient_error <= 1e-5


def test_a_form_without_a_backward_pass_says_so():
    case = cases([subject()], ["onnxruntime"])[0]
    record = run([case])["onnxruntime"].record
    assert (record.status, record.reason) == (Status.UNAVAILABLE, case.refusal)
    assert "inference alone" in record.reason
    assert replace(case, shape=replace(SHAPE, passes="forward")).refusal is None


class Stale(torch.autograd.Function):
    """A product whose gradients are those of its first backward pass."""

    kept: tuple[torch.Tensor, ...] = ()

    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return x @ w

    @staticmethod
    def backward(ctx, upstream):
        x, w = ctx.saved_tensors
        Stale.kept = Stale.kept or (upstream @ w.T, x.T @ upstream)
        return Stale.kept


def scaled(weight, factor):
    """Return the same values with `factor` times their gradient."""
    return weight * factor + weight.detach() * (1 - factor)


def dense(head, x, w1=None, product=torch.matmul):
    return head.activation(product(x, head.w1 if w1 is None else w1) + head.b1) @ head.w2 + head.b2


MUTANTS = {
    "dW of the first product": (lambda head: lambda x: dense(head, x, w1=scaled(head.w1, 1.01)), "w1"),
    "no gradient of the weights": (lambda head: lambda x: dense(head, x, w1=head.w1.detach()), "w1"),
    "one column of dW": (lambda head: lambda x: dense(head, x, w1=scaled(head.w1, torch.arange(8).clamp(max=1))), "w1"),
    "no gradient of the rows": (lambda head: lambda x: dense(head, x.detach()), "x"),
    "a bias forgotten": (lambda head: lambda x: dense(head, x) - head.b2 + head.b2.detach(), "b2"),
    "stale": (lambda head: lambda x: dense(head, x, product=Stale.apply), ""),
}  # fmt: skip


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_wrong_gradient_gets_no_time(monkeypatch, mutant):
    monkeypatch.setattr(Stale, "kept", ())
    train, name = MUTANTS[mutant]
    with_training(monkeypatch, "mutant", train)
    with_training(monkeypatch, "right", lambda head: lambda x: dense(head, x))
    found = run(cases([subject("dense")], ["mutant", "right"]))
    assert found["mutant"].record.status is Status.WRONG
    assert found["mutant"].record.reason.startswith(f"the gradient of {name}")
    assert found["mutant"].record.error <= found["mutant"].record.tolerance
    assert found["mutant"].samples == ()
    assert found["right"].record.status is Status.MEASURED


def test_gradients_that_turn_wrong_while_they_are_timed_get_no_time(monkeypatch):
    calls = []

    def train(head):
        def forward(x):
            calls.append(1)
            return dense(head, x, w1=scaled(head.w1, 1 if len(calls) < 9 else 1.01))

        return forward

    with_training(monkeypatch, "decaying", train)
    found = run(cases([subject("dense")], ["decaying"]))["decaying"]
    assert found.record.status is Status.WRONG
    assert found.record.reason.startswith("after the timing, the gradient of w1 deviates")


def _expert(head, e, x, w1):
    return head.activation(x @ w1[e] + head.b1[e]) @ head.w2[e] + head.b2[e]


def lost_expert(head):
    """Return the sparse head without the gradient of its last expert's first weights."""
    kept = (torch.arange(head.config.experts) < head.config.experts - 1)[:, None, None]

    def forward(x):
        w1, shares = scaled(head.w1, kept.float()), head.routing(x).matrix()
        return sum(shares[:, e, None] * _expert(head, e, x, w1) for e in range(len(w1)))

    return forward


@pytest.mark.parametrize(
    ("train", "name"),
    [
        (lost_expert, "w1"),
        (lambda head: lambda x: head.mix(x, head.routing(x)._replace(weights=head.routing(x).weights.detach())), ""),
        (lambda head: lambda x: head.mix(x, head.routing(x.detach())), "x"),
    ],
    ids=["an expert without gradient", "a gate without gradient", "the gate's share of dX"],
)
def test_a_mixture_without_a_part_of_its_gradient_gets_no_time(monkeypatch, train, name):
    with_training(monkeypatch, "mutant", train)
    found = run(cases([subject()], ["mutant", "loop"]))
    assert found["mutant"].record.status is Status.WRONG
    assert found["mutant"].record.reason.startswith(f"the gradient of {name}")
    assert found["loop"].record.status is Status.MEASURED


def test_nothing_is_accumulated_and_the_head_of_forward_cases_stays_without_gradients():
    one = subject()
    found = run(cases([one], ["eager"]) + cases([one], ["eager"], passes="forward"))
    assert found["eager"].record.status is Status.MEASURED
    assert all(value.grad is None for value in one.learning(CPU, torch.float32).parameters())
    assert not any(value.requires_grad for value in one.head.parameters())


def test_parameters_that_a_head_does_not_use_have_no_gradient():
    (sparse, _), *_ = public_layers.subjects(CPU, torch.float32, shrink=32, names=["olmoe-1b-7b"])
    learned = {name for name, value in sparse.learning(CPU, torch.float32).named_parameters() if value.requires_grad}
    assert learned == {"w1", "w2", "gate.weight"}
    found = run(cases([sparse], ["loop", "eager", "grouped_mm"]))
    assert {outcome.record.status for outcome in found.values()} == {Status.MEASURED}


def test_cold_caches_can_be_trained_on():
    record = run(cases([subject()], ["eager"], cache="cold"))["eager"].record
    assert (record.status, record.cache, record.passes) == (Status.MEASURED, "cold", "training")


def test_training_counts_three_times_the_operations_and_every_gradient():
    record = run(cases([subject()], ["eager"]))["eager"].record
    config = subject().head.config
    assert record.flops == 3 * flops(config, 33).total
    used = record.distinct_experts
    assert record.least_bytes == least_bytes(config, 33, 4, used) + least_bytes(config, 33, 4, config.experts)


def test_no_reference_takes_forever(monkeypatch):
    monkeypatch.setattr("bench.cases.prepare.REFERENCE_FLOPS", {"cpu": 1.0})
    with pytest.raises(UnmeasurableError, match="would take too long for 33 rows"):
        make_input(subject(), SHAPE, seed=0)
    assert make_input(subject(), replace(SHAPE, passes="forward"), seed=0).backward is None


def test_keys_of_forward_cases_are_as_they_were():
    shape = replace(SHAPE, passes="forward")
    assert str(shape) == "head-n33-float32-cpu"
    assert str(replace(shape, skew="hot", cache="cold")) == "head-n33-float32-cpu-hot-cold"
    assert str(SHAPE) == "head-n33-float32-cpu-training"
    published = sorted((ROOT / "reports" / "published").rglob("*.json"))
    entries = [entry for path in published for entry in json.loads(path.read_text()).get("benchmarks", ())]
    assert entries
    for entry in entries:
        record = CaseRecord.model_validate(entry["extra_info"])
        assert record.passes == "forward"
        assert group_name(record) == entry["group"]
