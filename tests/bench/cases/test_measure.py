"""Measuring a group: the gate before the clock, interleaving, and what becomes of a case that has no time."""

import time
from dataclasses import replace
from functools import partial
from statistics import median
from types import SimpleNamespace

import pytest
import torch

from bench.cases import counterfactuals, measure, prepare
from bench.cases.case import Case, Shape
from bench.cases.measure import measure_group
from bench.cases.prepare import UnmeasurableError
from bench.errors import BenchError, UnavailableError
from bench.execution.form import Form, Runner
from bench.forms import forms
from bench.subjects import public_layers
from bench.subjects.subject import Subject
from bench.timing import environment
from bench.timing import graphs as graph_module
from bench.timing.clock import Samples
from bench.timing.graphs import Graph
from bench.timing.sampling import LEAST_BLOCKS
from models.classifier.classifier import Classifier
from models.config import BackboneConfig, InputConfig, ModelConfig, head_config
from models.heads.cost import flops, least_bytes
from reports.records.record import Status

CPU = torch.device("cpu")


def subject(kind="sparse", **changes):
    torch.manual_seed(0)
    sizes = {"features": 16, "classes": 3, "hidden": 8, **({} if kind == "dense" else {"experts": 4})}
    head = head_config(kind, **{**sizes, **changes})
    images = InputConfig(shape=(1, 4, head.features // 4), mean=(0.0,), std=(1.0,))
    model = Classifier(ModelConfig(backbone=BackboneConfig(name="identity"), head=head), images)
    return Subject(kind, model.eval().requires_grad_(False), images, "initialised")


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
        lambda head, x: torch.empty(len(x), 3),
    ],
)
def test_wrong_logits_get_no_time(monkeypatch, mutant):
    with_form(monkeypatch, "mutant", mutant)
    found = run(group([subject()], ["mutant", "loop"]))
    assert found["mutant"].record.status is Status.WRONG
    assert found["mutant"].samples == ()
    assert "deviate" in found["mutant"].record.reason
    assert found["loop"].record.status is Status.MEASURED


def test_what_turns_wrong_while_it_is_timed_gets_no_time(monkeypatch):
    calls = []

    def decaying(head, x):
        calls.append(1)
        return head(x) * (1 if len(calls) < 9 else 1.01)

    with_form(monkeypatch, "decaying", decaying)
    found = run(group([subject()], ["decaying", "loop"]))
    assert found["decaying"].record.status is Status.WRONG
    assert found["decaying"].record.reason.startswith("after the timing, outputs deviate")
    assert found["decaying"].samples == ()
    assert found["loop"].record.status is Status.MEASURED


def test_what_is_not_the_heads_output_is_held_to_what_the_form_computes(monkeypatch):
    def doubled(head, x):
        return 2 * head(x).double()

    options = {"computes": "products", "expected": doubled, "work": lambda *a: (12, 34)}
    with_form(monkeypatch, "doubled", lambda head, x: 2 * head(x), **options)
    with_form(monkeypatch, "tripled", lambda head, x: 3 * head(x), **options)
    with_form(monkeypatch, "anchor", lambda head, x: x[:1], computes="nothing")
    found = run(group([subject()], ["doubled", "tripled", "anchor"]))
    record = found["doubled"].record
    assert (record.status, record.computes, record.flops, record.least_bytes) == (Status.MEASURED, "products", 12, 34)
    assert record.error <= record.tolerance
    assert found["tripled"].record.status is Status.WRONG
    anchor = found["anchor"].record
    assert (anchor.status, anchor.computes, anchor.error) == (Status.MEASURED, "nothing", None)


def test_many_values_that_are_not_the_heads_output_are_compared_in_part(monkeypatch):
    monkeypatch.setattr(prepare, "MOST_COMPARED", 12)
    options = {"computes": "products", "expected": lambda head, x: head(x).double()}
    with_form(monkeypatch, "right", lambda head, x: head(x), **options)
    with_form(monkeypatch, "wrong", lambda head, x: head(x) * 1.01, **options)
    found = run(group([subject()], ["right", "wrong"], rows=50))
    assert (found["right"].record.status, found["right"].record.checked_rows) == (Status.MEASURED, 4)
    assert found["wrong"].record.status is Status.WRONG


def test_caches_and_routings_of_a_form_are_sampled_in_the_same_blocks(monkeypatch):
    shape = Shape("head", 5, torch.float32, CPU)
    monkeypatch.setattr(prepare, "last_cache", lambda device: 2**12)
    caches = ("warm", "cold", "rotated")
    shapes = [replace(shape, skew=skew, cache=cache) for skew in ("balanced", "hot") for cache in caches]
    one = subject()
    cases = [Case(one, "loop", each, "wall") for each in shapes]
    measured = measure_group(cases, "demo", 0.01, 0, lambda share: None, steps=False, traces=False)
    records = [outcome.record for outcome in measured.outcomes]
    assert {record.status for record in records} == {Status.MEASURED}
    assert {(record.routing, record.cache) for record in records} == {(each.skew, each.cache) for each in shapes}
    assert len({tuple(sorted(set(record.blocks))) for record in records}) == 1
    assert all(record.rows_per_expert[0] == 5 for record in records if record.routing == "hot")


def test_a_graph_on_a_device_without_graphs_is_unavailable_and_the_other_clock_is_measured():
    cases = group([subject()], ["loop"])
    cases += [replace(case, clock="graph") for case in cases]
    measured = measure_group(cases, "demo", 0.01, 0, lambda share: None, steps=False, traces=False)
    found = {outcome.record.clock: outcome for outcome in measured.outcomes}
    assert found["wall"].record.status is Status.MEASURED
    assert found["graph"].record.status is Status.UNAVAILABLE
    assert found["graph"].samples == ()
    assert "needs a CUDA device" in found["graph"].record.reason


@pytest.fixture
def graphs(monkeypatch):
    """Stand in for a GPU's graphs: a capture that keeps the call's output, and replays that write it again."""

    def captured(call, calls=1):
        for _ in range(calls):
            output = call()
        right = output.clone()
        return Graph(SimpleNamespace(replay=lambda: output.copy_(right)), output)

    monkeypatch.setattr(prepare, "waits_for_device", lambda call: False)
    monkeypatch.setattr(prepare, "captured", captured)
    monkeypatch.setattr(graph_module, "captured", captured)
    monkeypatch.setattr(graph_module, "samples", lambda call, clock, device, number: Samples([1e-6] * number, None))
    return captured


def replayed(form, cache="warm", copies=1):
    """The replays of a case as a GPU would have them, prepared on a CPU."""
    (case,) = group([subject()], [form])
    given = prepare.make_input(case.subject, case.shape, 0)
    ready = prepare.prepare(case, given, memory=False)
    there = replace(case, shape=replace(case.shape, device=torch.device("cuda"), cache=cache), clock="graph")
    calls = [partial(ready.run, given.x)] * copies
    return *prepare.replay_of(there, ready, calls), ready


@pytest.mark.usefixtures("graphs")
def test_a_replay_gives_what_the_call_gives():
    one, longer, ready = replayed("eager")
    assert (longer.calls, longer.further) == (1, 20)
    with torch.inference_mode():
        assert ready.check(one())["error"] < 1e-5
        assert ready.check(longer.replay())["error"] < 1e-5


@pytest.mark.usefixtures("graphs")
def test_after_a_flush_one_call_is_replayed_and_on_copies_a_second_round():
    assert replayed("eager", "cold")[1] is None
    longer = replayed("eager", "rotated", copies=3)[1]
    assert (longer.calls, longer.further) == (3, 3)


def test_long_calls_need_few_further_ones(monkeypatch, graphs):
    for seconds, further in ((1e-5, 20), (2.5e-4, 8), (1.0, 2)):
        monkeypatch.setattr(graph_module, "samples", lambda *arguments, taken=seconds: Samples([taken], None))
        assert graph_module.longer(lambda: torch.ones(1), None, 1, CPU)[1].further == further


def test_copies_in_turn_are_prepared_anew_and_too_many_are_refused(monkeypatch):
    prepared = []

    def run_head(head, x):
        prepared.append((id(head), head.w1.data_ptr(), x.data_ptr()))
        return head(x)

    with_form(monkeypatch, "noted", run_head)
    (case,) = group([subject()], ["noted"])
    x, head = torch.randn(5, 16), case.subject.on(CPU, torch.float32).head
    size = least_bytes(head.config, 5, 4)  # that of the noise is never read
    monkeypatch.setattr(prepare, "last_cache", lambda device: 2 * size)
    rotation = prepare.copies_of(case, x)
    outputs = [call() for call in rotation.calls]
    assert all(torch.equal(output, head(x)) for output in outputs)
    assert len(outputs) == 5
    assert all(len(set(places)) == 5 for places in zip(*prepared, strict=True))
    monkeypatch.setattr(prepare, "last_cache", lambda device: 10**6 * size)
    with pytest.raises(UnmeasurableError, match=r"copies of .* would be needed"):
        prepare.copies_of(case, x)


def test_a_replay_that_does_not_write_its_output_is_wrong(monkeypatch, graphs):
    monkeypatch.setattr(prepare, "captured", lambda *call: replace(graphs(*call), graph=SimpleNamespace(replay=int)))
    with pytest.raises(UnmeasurableError) as error:
        replayed("eager")
    assert error.value.fields["status"] is Status.WRONG


@pytest.mark.usefixtures("graphs")
@pytest.mark.parametrize("change", [{"capturable": False}, {"memory_seen": False}])
def test_a_form_that_no_graph_can_hold_says_so(monkeypatch, change):
    with_form(monkeypatch, "waiting", lambda head, x: head(x), **change)
    with pytest.raises(UnmeasurableError, match="no CUDA graph can hold form waiting") as error:
        replayed("waiting")
    assert error.value.fields["status"] is Status.UNAVAILABLE


@pytest.mark.usefixtures("graphs")
def test_a_call_that_waits_for_the_device_is_unavailable_in_a_graph(monkeypatch):
    monkeypatch.setattr(prepare, "waits_for_device", lambda call: True)
    with pytest.raises(UnmeasurableError, match="its call waits for the device") as error:
        replayed("eager")
    assert error.value.fields["status"] is Status.UNAVAILABLE


def test_a_form_that_would_not_be_ready_in_time_is_left_out(monkeypatch):
    with_form(monkeypatch, "slow", lambda head, x: head(x), setup=1000.0)
    found = run(group([subject()], ["slow", "eager"]), deadline=time.monotonic() + 100)
    assert found["slow"].record.status is Status.SKIPPED
    assert "1000 s" in found["slow"].record.reason
    assert found["eager"].record.status is Status.MEASURED


def test_a_form_that_is_never_timed_is_checked_if_it_is_small(monkeypatch):
    for name, factor in (("shown", 1.0), ("mutant", 1.01)):
        with_form(monkeypatch, name, lambda head, x, by=factor: by * head(x), untimeable=lambda device: "for show only")
    found = run(group([subject()], ["shown", "mutant"]))
    shown = found["shown"].record
    assert (shown.status, shown.reason) == (Status.UNAVAILABLE, "for show only")
    assert shown.error <= shown.tolerance
    assert found["mutant"].record.status is Status.WRONG
    monkeypatch.setattr(prepare, "CHECKED_FLOPS", 0)
    assert run(group([subject()], ["mutant"]))["mutant"].record.reason == "for show only"


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
    monkeypatch.setitem(prepare.REFERENCE_FLOPS, "cpu", 0)
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


@pytest.mark.gpu
def test_a_group_on_a_gpu():
    device = torch.device("cuda")
    sparse, dense = next(public_layers.subjects(device, torch.bfloat16, 1, ["paper"]))
    forms = ("empty", "copy", "triton", "triton_fused", "triton_grouped", "grouped_mm", "masked")
    names = [*((sparse, form) for form in forms), (dense, "eager")]
    shapes = [Shape("head", 256, torch.bfloat16, device, "balanced", cache) for cache in ("warm", "cold")]
    cases = [Case(one, form, shape, "graph") for one, form in names for shape in shapes]
    cases += [Case(one, form, shapes[0], "wall") for one, form in names]
    cases.append(Case(sparse, "loop", shapes[0], "graph"))
    measured = measure_group(cases, "targets", 0.05, 0, lambda share: None, steps=False, traces=False)
    records = [(outcome.record, outcome) for outcome in measured.outcomes]
    found = {(record.form, record.clock, record.cache): outcome for record, outcome in records}
    assert found.pop(("loop", "graph", "warm")).record.status is Status.UNAVAILABLE
    assert {outcome.record.status: outcome.record.reason for outcome in found.values()} == {Status.MEASURED: ""}
    middle = {key: median(outcome.samples) for key, outcome in found.items()}
    assert all(1e-6 < middle[form, "graph", "warm"] < 1e-3 for form in (*forms[2:], "eager"))
    assert middle["empty", "graph", "warm"] < 8e-6
    assert middle["empty", "graph", "warm"] < middle["empty", "wall", "warm"]
    assert middle["eager", "graph", "warm"] < middle["eager", "graph", "cold"]
