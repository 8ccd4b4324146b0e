"""Runs of targets, from results and from older files of timings."""

from pathlib import Path

import pytest

from reports.page import build
from reports.reading.files import read
from reports.reading.inputs import gather
from reports.reading.load import MeasuredCase, Results, record_of
from reports.records.record import Status
from reports.records.timing import Timing, TimingRun
from reports.targets.run import layer_of, runs
from reports.targets.targets import evaluate
from tests.reports.synthetic import benchmark, write
from tests.reports.targets.fabricated import case

PREDICTED = Path(__file__).parents[3] / "reports" / "published" / "nvidia-h100-predicted" / "targets.json"


def results(*entries):
    measured = tuple(entry for entry in entries if isinstance(entry, MeasuredCase))
    others = tuple(entry for entry in entries if not isinstance(entry, MeasuredCase))
    return Results((Path("targets.json"),), measured, others, ())


def test_cases_of_the_suite_are_a_run_on_each_machine():
    here = [case("a", "triton", 1e-6), case("b", "liger"), case("c", "cublas", 1e-5, layer="e128", rows=8192)]
    there = case("a", "triton", 2e-6, device_name="another GPU")
    rehearsed = case("a", "triton", 2e-6, suite="targets-rehearsal")
    first, second, third = runs(results(*here, there, rehearsed, case("z", "loop", 1e-3, suite="demo")))
    assert {record_of(entry).case_id for entry in first.entries} == {record_of(entry).case_id for entry in here}
    assert list(first.groups) == ["paper-n256-bfloat16", "e128-n8192-bfloat16"]
    assert (first.kind, second.kind, third.kind) == ("measured", "measured", "rehearsal")
    assert second.environment["device_name"] == "another GPU"
    assert any(note.startswith("e128-sparse: D 2048, H 768, E 128, k 8") for note in first.notes)


def test_a_result_of_targets_has_the_section_in_a_report(tmp_path):
    measured = (case("a", "triton_fused", 4e-6), case("a", "empty", 3e-6, computes="nothing"))
    skipped = case("a", "liger", reason="not installed")
    write(
        tmp_path / "targets.json",
        [benchmark(entry.record, entry.samples, per_block=3) for entry in measured],
        [skipped],
    )
    shown = build([tmp_path / "targets.json"], tmp_path / "report")
    page = shown.index.read_text(encoding="utf-8")
    assert '<section id="targets"' in page
    assert any("1 beyond" in line for line in shown.headline)
    assert "empty" in shown.summary.read_text(encoding="utf-8")


def older(**changes):
    timing = {
        "group": "e128-n64-float32", "layer": "e128", "rows": 64, "rows_per_expert": 4.0, "dtype": "float32",
        "routing": "zipf", "peer": "ours_products", "clock": "call", "cache": "cold", "status": Status.MEASURED,
        "samples": [1e-6, 2e-6], "blocks": [0, 1], "flops": 5, "least_bytes": 6, "group_id": "one", **changes,
    }  # fmt: skip
    return TimingRun(
        kind="measured", command="moegap targets", environment={"device_name": "a GPU"},
        notes=["e128: D 2048, H 768, E 128, k 8, C 2048, swiglu (a card)"], timings=[Timing(**timing)],
    )  # fmt: skip


def test_an_older_file_is_a_run_of_ordinary_cases():
    (run,) = runs(results(), [older()])
    ((name, (entry,)),) = run.groups.items()
    record = entry.record
    assert (name, layer_of(record), record.rows) == ("e128-n64-float32", "e128", 64)
    assert (record.form, record.head, record.routing, record.clock, record.cache) == (
        "triton_products", "sparse", "zipf1", "wall", "cold",
    )  # fmt: skip
    assert (record.features, record.hidden, record.experts, record.k, record.classes) == (2048, 768, 128, 8, 2048)
    assert (record.flops, record.least_bytes, record.group_id) == (5, 6, "one")
    assert (entry.samples.tolist(), entry.blocks.tolist()) == ([1e-6, 2e-6], [0, 1])


@pytest.mark.parametrize(("peer", "form"), [("dense", "eager"), ("compile_dense", "compile_max")])
def test_an_older_dense_peer_is_a_form_of_the_dense_head(peer, form):
    ((_, (entry,)),) = runs(results(), [older(peer=peer)])[0].groups.items()
    record = record_of(entry)
    assert (record.head, record.form, record.hidden, record.experts) == ("dense", form, 128 * 768, 1)


def test_an_older_case_without_a_time_keeps_its_reason():
    skipped = older(status=Status.SKIPPED, reason="no time left", samples=[], blocks=[])
    ((_, (entry,)),) = runs(results(), [skipped])[0].groups.items()
    assert (entry.status, entry.reason) == (Status.SKIPPED, "no time left")


def test_the_published_predictions_say_what_they_said():
    """Numbers of the table as it was published before its cases became ordinary ones."""
    given = gather(read([PREDICTED]))
    (run,) = runs(given.results, given.targets)
    found = evaluate(run)
    assert run.kind == "predicted"
    assert len(run.entries) == 531
    worst = {
        (each.target.name, each.dtype, each.cache): round(each.worst.value.value, 2) for each in found if each.worst
    }
    best = "paper's head, N 1 to 65,536, graph: best sparse / best dense"
    assert worst[best, "bfloat16", "warm"] == 1.65
    assert worst[best, "float32", "cold"] == 2.44
