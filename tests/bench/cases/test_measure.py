"""Measuring a group: the gate before the clock, interleaving, and what becomes of a case that has no time."""

from dataclasses import replace

import pytest
import torch

from bench.cases import counterfactuals, measure, prepare
from bench.cases.measure import measure_group
from bench.errors import BenchError, UnavailableError
from bench.forms import forms
from bench.forms.form import Form, Runner
from bench.subjects.workloads import Case, Shape, Subject
from bench.timing import environment
from bench.timing.sampling import LEAST_BLOCKS
from models.classifier.classifier import Classifier
from models.config import BackboneConfig, InputConfig, ModelConfig, head_config
from models.heads.cost import flops
from reports.records.record import Status

CPU = torch.device("cpu")
IMAGES = InputConfig(shape=(1, 4, 4), mean=(0.0,), std=(1.0,))


def subject(kind="sparse", **changes):
    torch.manual_seed(0)
    sizes = {} if kind == "dense" else {"experts": 4}
    head = head_config(kind, features=16, classes=3, hidden=8, **{**sizes, **changes})
    model = Classifier(ModelConfig(backbone=BackboneConfig(name="identity"), head=head), IMAGES)
    return Subject(kind, model.eval().requires_grad_(False), IMAGES, "initialised")


def group(subjects, names, rows=5, part="head", dtype=torch.float32):
    return [Case(one, name, Shape(part, rows, dtype, CPU), "wall") for one in subjects for name in names]


def run(cases, seconds=0.02, seed=0, **options):
    """Return the whole calls' outcomes by form."""
    measured = measure_group(cases, "demo", seconds, seed, lambda share: None, **{"traces": False, **options})
    return {found.record.form: found for found in measured.outcomes if not found.record.step}


def with_form(monkeypatch, name, run_head, **more):
    """Register a form that runs `run_head(head, x)`."""
    made = Form(
        name, 9, "", lambda *a: None, lambda head, x: Runner(lambda x: run_head(head, x), {"device": "cpu"}), **more
    )
    monkeypatch.setitem(forms(), name, made)


def test_samples_come_in_blocks_of_all_forms():
    found = run(group([subject()], ["loop", "eager", "grouped_mm"]))
    assert {outcome.record.status for outcome in found.values()} == {Status.MEASURED}
    assert len({outcome.record.group_id for outcome in found.values()}) == 1
    for outcome in found.values():
        record = outcome.record
        assert len(outcome.samples) == len(record.blocks)
        assert record.blocks == sorted(record.blocks)
        assert set(record.blocks) == set(range(max(record.blocks) + 1))
        assert max(record.blocks) + 1 >= LEAST_BLOCKS
        assert all(sample > 0 for sample in outcome.samples)
        assert record.error is not None
        assert record.error <= record.tolerance
        assert sum(record.rows_per_expert) == record.rows * record.k
        assert record.cold_start > 0
        assert record.runs_on["device"] == "cpu"


@pytest.mark.parametrize(
    "mutant",
    [
        lambda head, x: head(x).roll(1, dims=0),
        lambda head, x: head(x) * 1.01,
        lambda head, x: head(x)[:-1],
        lambda head, x: torch.where(torch.arange(len(x))[:, None] == 2, torch.nan, head(x)),
        lambda head, x: torch.zeros(len(x), 3),
    ],
)
def test_wrong_logits_get_no_time(monkeypatch, mutant):
    with_form(monkeypatch, "mutant", mutant)
    found = run(group([subject()], ["mutant", "loop"]))
    assert found["mutant"].record.status is Status.WRONG
    assert found["mutant"].samples == ()
    assert "deviate" in found["mutant"].record.reason
    assert found["loop"].record.status is Status.MEASURED


def test_a_form_that_raises_fails_alone(monkeypatch):
    def raising(head, x):
        raise RuntimeError("no such instruction\nlong trace")

    with_form(monkeypatch, "broken", raising)
    found = run(group([subject()], ["broken", "eager"]))
    assert found["broken"].record.status is Status.FAILED
    assert found["broken"].record.reason == "RuntimeError: no such instruction"
    assert found["eager"].record.status is Status.MEASURED


def test_a_form_that_raises_while_timed_has_no_time(monkeypatch):
    calls = []

    def tiring(head, x):
        calls.append(1)
        if len(calls) > 8:
            raise RuntimeError("tired")
        return head(x)

    with_form(monkeypatch, "tiring", tiring)
    found = run(group([subject()], ["tiring", "eager"]))
    assert found["tiring"].record.status is Status.FAILED
    assert found["tiring"].samples == ()


def test_what_cannot_run_or_be_timed_says_why(monkeypatch):
    with_form(monkeypatch, "shown", lambda head, x: head(x), untimeable=lambda device: "for show only")
    found = run([*group([subject()], ["shown"]), *group([subject("dense")], ["loop"])])
    assert found["shown"].record.status is Status.UNAVAILABLE
    assert found["shown"].record.reason == "for show only"
    assert "no experts" in found["loop"].record.reason


def test_too_many_rows_for_the_memory_are_skipped(monkeypatch):
    monkeypatch.setattr(environment, "available_memory", lambda device: 1000)
    record = run(group([subject()], ["eager"], rows=4096))["eager"].record
    assert record.status is Status.SKIPPED
    assert "4,096 rows" in record.reason


def test_a_recompilation_while_timed_fails_the_case(monkeypatch):
    compiled = torch.compile(lambda x: x * 2, dynamic=False, backend="eager")
    sizes = iter(range(2, 1000))

    def recompiling(head, x):
        compiled(torch.ones(next(sizes)))
        return head(x)

    with_form(monkeypatch, "recompiling", recompiling)
    found = run(group([subject()], ["recompiling", "eager"]))
    assert found["recompiling"].record.status is Status.FAILED
    assert "compiled again" in found["recompiling"].record.reason
    assert found["eager"].record.status is Status.MEASURED


def test_the_whole_classifier_counts_its_backbone():
    found = run(group([subject()], ["eager"], part="classifier"))["eager"].record
    assert found.status is Status.MEASURED
    assert found.part == "classifier"
    assert found.least_bytes is None
    assert found.routing == "noise"


def test_steps_are_timed_in_the_blocks_of_their_case():
    measured = measure_group(group([subject()], ["loop", "eager"]), "demo", 0.05, 0, lambda share: None, traces=False)
    by_form = {}
    for outcome in measured.outcomes:
        by_form.setdefault(outcome.record.form, {})[outcome.record.step] = outcome.record
    for steps in by_form.values():
        assert list(steps) == ["", "balanced", "products", "dispatched", "gated", "routed", "combined"]
        assert len({tuple(sorted(set(record.blocks))) for record in steps.values()}) == 1
        assert [steps["combined"].operators, steps["products"].operators] == [
            steps[""].operators, steps["balanced"].operators,
        ]  # fmt: skip
        assert steps["products"].operators < steps["dispatched"].operators < steps["routed"].operators
    assert measured.group.group_id == measured.outcomes[0].record.group_id
    assert 0 < measured.group.sampling < measured.group.wall


def test_a_form_whose_steps_or_trace_fail_is_still_measured(monkeypatch):
    def no_steps(head, x):
        raise RuntimeError("no steps today")

    with_form(monkeypatch, "whole", lambda head, x: head(x), steps=no_steps)
    monkeypatch.setattr(counterfactuals, "stage_times", lambda *a: no_steps(None, None))
    record = run(group([subject()], ["whole"]), traces=True)["whole"].record
    assert record.status is Status.MEASURED
    assert "no steps today" in record.runs_on["steps"]
    assert "no steps today" in record.runs_on["trace"]


def test_cold_caches_are_another_case_and_a_buffer_left_warm_fails_it(monkeypatch):
    cold = [replace(case, shape=replace(case.shape, cache="cold")) for case in group([subject()], ["eager"])]
    found = run(cold)["eager"].record
    assert (found.status, found.cache) == (Status.MEASURED, "cold")
    assert "cold" in found.case_id
    monkeypatch.setattr(measure.ColdCaches, "evict", lambda self: None)
    monkeypatch.setattr(measure.ColdCaches, "check", lambda self: (_ for _ in ()).throw(BenchError("left warm")))
    assert run(cold)["eager"].record.reason == "left warm"


def test_made_rows_are_recorded_with_their_histogram():
    cases = [replace(case, shape=replace(case.shape, skew="one")) for case in group([subject()], ["loop"], rows=50)]
    found = run(cases)["loop"].record
    assert (found.routing, found.rows_per_expert, found.distinct_experts) == ("one", [50, 50, 0, 0], 2)
    assert found.load_cv == pytest.approx(1.0)
    other = [
        replace(case, shape=replace(case.shape, skew="one")) for case in group([subject(policy="top_p")], ["loop"])
    ]
    refused = run(other)["loop"].record
    assert refused.status is Status.UNAVAILABLE
    assert "top_p" in refused.reason


def test_a_reference_that_would_take_minutes_checks_a_sample_of_rows(monkeypatch):
    monkeypatch.setattr(prepare, "REFERENCE_FLOPS", 0)
    cases = group([subject()], ["loop"], rows=200)
    assert run(cases)["loop"].record.checked_rows == prepare.LEAST_CHECKED
    with_form(monkeypatch, "mutant", lambda head, x: head(x) * 1.01)
    assert run(group([subject()], ["mutant"], rows=200))["mutant"].record.status is Status.WRONG
    coupled = run(group([subject(policy="expert_choice")], ["loop"], rows=200))["loop"].record
    assert coupled.checked_rows is None


@pytest.mark.parametrize(
    ("changes", "most"),
    [
        ({}, 2),
        ({"policy": "capacity", "capacity_factor": 0.5}, 2),
        ({"policy": "top_p"}, 4),
        ({"policy": "threshold", "k": 3}, 3),
        ({"policy": "expert_choice"}, 4),
    ],
)
def test_the_record_counts_what_the_policy_assigns(changes, most):
    one = subject(**changes)
    found = run(group([one], ["loop", "eager", "grouped_mm"], rows=50), seconds=0.001)
    for record in (outcome.record for outcome in found.values()):
        assert record.status is Status.MEASURED
        assert (record.policy, record.k) == (changes.get("policy", "top_k"), most)
        assert record.assignments == sum(record.rows_per_expert)
        assert record.flops == flops(one.head.config, 50, record.assignments).total
    assert (record.assignments == 100) == (record.policy in ("top_k", "expert_choice"))


def test_a_head_without_policy_records_none():
    dense, soft = (run(group([subject(kind)], ["eager"]))["eager"].record for kind in ("dense", "soft"))
    assert (dense.policy, dense.assignments) == ("", None)
    assert (soft.policy, soft.assignments) == ("", 20)


def test_the_same_seed_gives_the_same_rows():
    first, second = (run(group([subject()], ["eager"], rows=50), seed=4)["eager"].record for _ in range(2))
    assert first.rows_per_expert == second.rows_per_expert


def test_what_shows_only_in_preparing_makes_a_form_unavailable(monkeypatch):
    def refusing(head, x):
        raise UnavailableError("this head has biases")

    monkeypatch.setitem(forms(), "refusing", Form("refusing", 9, "", lambda *a: None, refusing))
    record = run(group([subject()], ["refusing"]))["refusing"].record
    assert (record.status, record.reason) == (Status.UNAVAILABLE, "this head has biases")


@pytest.mark.parametrize("reusable", [True, False])
def test_a_runner_bound_to_its_rows_is_prepared_again(monkeypatch, reusable):
    prepared = []

    def preparing(head, x):
        prepared.append(x)
        return Runner(head, {"device": "cpu"})

    made = Form("counted", 9, "", lambda *a: None, preparing, reusable=reusable)
    monkeypatch.setitem(forms(), "counted", made)
    one = subject()
    for seed in (0, 1):
        run(group([one], ["counted"]), seed=seed)
    assert len(prepared) == (1 if reusable else 2)
