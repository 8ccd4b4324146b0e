"""Who is compared with whom, and what comes out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reports.numbers.stats import Verdict
from reports.reading.load import load
from reports.speed import settings
from reports.speed.analysis import Analysis, Head, Setting, Speedup, analyse, labels
from tests.reports.synthetic import benchmark, ceilings, record, samples, write

Timed = tuple[dict[str, Any], float]


def analysed(folder: Path, *files: list[Timed]) -> Analysis:
    """Return what files say in which each case is given by the fields of its record and its median in ms."""
    paths = []
    for place, cases in enumerate(files):
        entries = [
            benchmark(record(**fields), samples(median * 1e-3, seed=10 * place + seed))
            for seed, (fields, median) in enumerate(cases)
        ]
        paths.append(write(folder / f"{place}.json", entries))
    return analyse(load(paths))


def only(analysis: Analysis) -> Speedup:
    (speedup,) = analysis.speedups
    return speedup


DENSE: Timed = ({"head": "dense", "form": "eager"}, 4.0)
DENSE_FAST: Timed = ({"head": "dense", "form": "compile"}, 3.0)
SPARSE: Timed = ({"form": "eager"}, 2.0)
SPARSE_SLOW: Timed = ({"form": "loop"}, 6.0)


def test_each_form_is_held_against_the_best_dense_form_and_against_its_own(tmp_path: Path) -> None:
    speedup = only(analysed(tmp_path, [DENSE, DENSE_FAST, SPARSE, SPARSE_SLOW]))
    best = {item.case.record.form: (item.base.record.form, item.verdict) for item in speedup.against_best}
    assert best == {"eager": ("compile", Verdict.FASTER), "loop": ("compile", Verdict.SLOWER)}
    assert [(item.case.record.form, item.base.record.form) for item in speedup.same_form] == [("eager", "eager")]
    assert speedup.same_form[0].realised.value == pytest.approx(2.0, rel=0.05)
    assert speedup.best.case.record.form == "eager"
    assert speedup.best.realised.value == pytest.approx(1.5, rel=0.05)
    assert speedup.best.realised.paired
    assert speedup.best.matched


def test_theory_is_the_ratio_of_the_counted_operations(tmp_path: Path) -> None:
    assert only(analysed(tmp_path, [DENSE, SPARSE])).best.theoretical == pytest.approx(534_528 / 141_864)


def test_a_dense_head_of_another_size_is_taken_only_if_none_matches_and_marked(tmp_path: Path) -> None:
    other: Timed = ({"head": "dense", "form": "compile", "hidden": 128, "checkpoint": "small"}, 0.5)
    assert only(analysed(tmp_path, [DENSE, other, SPARSE])).best.base.record.hidden == 512
    unmatched = only(analysed(tmp_path, [other, SPARSE])).best
    assert not unmatched.matched
    assert unmatched.base.record.hidden == 128


def test_a_whole_classifier_needs_the_same_backbone(tmp_path: Path) -> None:
    fields = {"head": "dense", "backbone": "tiny"}
    assert only(analysed(tmp_path, [(fields, 4.0), SPARSE])).best.matched
    whole = {"part": "classifier"}
    assert not only(analysed(tmp_path, [(fields | whole, 4.0), (whole, 2.0)])).best.matched


def test_cases_of_two_runs_are_compared_unpaired(tmp_path: Path) -> None:
    assert not only(analysed(tmp_path, [DENSE], [SPARSE])).best.realised.paired
    apart: Timed = ({"form": "eager", "group_id": "another"}, 2.0)
    assert not only(analysed(tmp_path, [DENSE, apart])).best.realised.paired


@pytest.mark.parametrize(
    "difference",
    [
        {"rows": 32},
        {"dtype": "bfloat16"},
        {"part": "classifier"},
        {"clock": "device"},
        {"suite": "sweep"},
        {"threads": 8},
        {"device": "cuda", "device_name": "GPU"},
        {"cache": "cold"},
        {"routing": "zipf2"},
        {"passes": "training"},
    ],
    ids=str,
)
def test_different_settings_are_never_compared(tmp_path: Path, difference: dict[str, Any]) -> None:
    assert not analysed(tmp_path, [DENSE, ({"form": "eager"} | difference, 2.0)]).speedups


def test_drawn_and_real_rows_are_one_setting(tmp_path: Path) -> None:
    assert analysed(tmp_path, [DENSE, ({"routing": "noise"}, 2.0)]).speedups


def test_cold_caches_and_made_routings_stand_in_titles() -> None:
    made = Setting.of(record(cache="cold", routing="zipf2"))
    assert settings.title(made) == (
        "Head alone, float32, wall clock, cold caches, experts drawn as Zipf(2), suite paper"
    )
    assert "cold" not in settings.title(Setting.of(record()))
    trained = settings.title(Setting.of(record(passes="training")))
    assert trained == "Head alone, float32, wall clock, forward and backward, suite paper"


def test_a_rival_of_equal_size_counts_only_interleaved_if_there_is_one(tmp_path: Path) -> None:
    quick: Timed = ({"head": "dense", "group_id": "another", "checkpoint": "b", "case_id": "b"}, 1.0)
    assert only(analysed(tmp_path, [DENSE, quick, SPARSE])).best.base.record.checkpoint == "cifar10-dense"
    apart: Timed = ({"group_id": "a third"}, 2.0)
    assert only(analysed(tmp_path, [DENSE, quick, apart])).best.base.record.checkpoint == "b"


def test_what_is_attainable_is_the_ratio_of_the_floors(tmp_path: Path) -> None:
    dense = benchmark(record(head="dense", flops=40_000_000, least_bytes=1_000_000), samples(4e-3))
    sparse = benchmark(record(flops=10_000_000, least_bytes=2_500_000), samples(2e-3))
    path = write(tmp_path / "run.json", [dense, sparse], ceilings=[ceilings()])
    # 200 us of arithmetic against 100 us of movement at 25 GB/s, and 1 us of launch each
    assert only(analyse(load([path]))).best.attainable == pytest.approx(201 / 101)
    assert only(analysed(tmp_path, [DENSE, SPARSE])).best.attainable is None


def test_no_rows_and_no_dense_head_give_no_speedup(tmp_path: Path) -> None:
    assert not analysed(tmp_path, [SPARSE]).speedups
    assert not analysed(tmp_path, [({"head": "dense", "rows": 0}, 1.0), ({"rows": 0}, 1.0)]).speedups


def test_settings_come_gpu_and_head_and_wall_first(analysis: Analysis) -> None:
    assert [setting.part for setting in analysis.settings] == ["head", "classifier"]
    changes = [{}, {"device": "cuda"}, {"clock": "device"}, {"part": "classifier"}, {"dtype": "float16"}]
    settings = [Setting.of(record(**change)) for change in changes]
    assert min(settings, key=Setting.rank).device == "cuda"


def test_heads_are_named_by_what_tells_them_apart() -> None:
    def head(**fields: Any) -> Head:
        return Head.of(record(**fields))

    assert set(labels([head(head="dense"), head()]).values()) == {"dense head", "sparse head"}
    sizes = labels([head(), head(experts=16)])
    assert sorted(sizes.values()) == [
        "sparse head (16 experts of width 64, 2 per row)",
        "sparse head (8 experts of width 64, 2 per row)",
    ]
    seeds = labels([head(checkpoint="a"), head(checkpoint="b")])
    assert sorted(seeds.values()) == ["sparse head (a)", "sparse head (b)"]
    awkward = labels([head(), head(backbone="tiny"), head(checkpoint="a"), head(activation="gelu")])
    assert len(set(awkward.values())) == 4


def test_widths_tell_apart_what_experts_do_not() -> None:
    names = labels([Head.of(record(features=features)) for features in (128, 512)])
    assert sorted(names.values())[0] == "sparse head (8 experts of width 64, 2 per row, 128 to 10)"


def test_public_models_are_called_by_their_names() -> None:
    heads = [
        Head.of(record(checkpoint=name, source="config.json", hidden=hidden))
        for name, hidden in (("mixtral", 896), ("olmoe", 64))
    ]
    assert set(labels(heads).values()) == {"sparse head (mixtral)", "sparse head (olmoe)"}
    beside = labels([*heads, Head.of(record())])
    assert set(beside.values()) == {
        "sparse head (mixtral)", "sparse head (olmoe)", "sparse head (8 experts of width 64, 2 per row)",
    }  # fmt: skip


def test_heads_of_other_policies_are_other_heads() -> None:
    old, new, other = (Head.of(record(policy=policy)) for policy in ("", "top_k", "top_p"))
    assert old == new != other
    assert set(labels([old, other]).values()) == {
        "sparse head (8 experts of width 64, 2 per row)",
        "sparse head (8 experts of width 64, top_p with k = 2)",
    }
