"""The plain words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reports.reading.load import load
from reports.speed import verdicts
from reports.speed.analysis import Analysis, analyse
from reports.speed.verdicts import Answer
from tests.reports.synthetic import benchmark, record, samples, unmeasured, write


def only(folder: Path, ratios: dict[int, float], noise: float = 0.004, **fields: Any) -> Answer:
    """Return the answer on a sparse head that is `ratios` times as fast as the dense one, by rows."""
    entries = []
    for rows, ratio in ratios.items():
        entries.append(benchmark(record(head="dense", rows=rows, **fields), samples(ratio * 1e-3, noise=noise)))
        entries.append(benchmark(record(rows=rows, **fields), samples(1e-3, seed=rows, noise=noise)))
    (answer,) = verdicts.answers(analyse(load([write(folder / "run.json", entries)])))
    return answer


def test_the_sparse_head_of_the_cpu_run(analysis: Analysis) -> None:
    sparse, soft = verdicts.answers(analysis)
    assert sparse.summary == "The sparse head is slower up to 32 rows and faster from 256 rows on."
    assert sparse.sentence.startswith(
        "It needs 3.77\N{MULTIPLICATION SIGN} fewer operations than the dense head; on this CPU it is at best 1.8"
    )
    assert "at 2,048 rows (onnxruntime against onnxruntime dense, wall clock, float32, n = 40)" in sparse.sentence
    assert sparse.machine == "CPU timings on AMD EPYC 7B13, 1 thread"
    assert "needs 1.02\N{MULTIPLICATION SIGN} the operations of the dense head" in soft.sentence
    assert soft.best.verdict == "SLOWER"
    assert soft.summary == "The soft head is slower at every size measured (1 to 2,048 rows)."


def test_the_headline_tells_the_ranges_before_the_best(analysis: Analysis) -> None:
    sparse, best, soft, best_soft, tally = verdicts.headline(analysis)
    assert sparse == "The sparse head is slower up to 32 rows and faster from 256 rows on."
    assert soft.startswith("The soft head is slower")
    assert best.startswith("It needs 3.77")
    assert best_soft.startswith("It needs 1.02")
    assert tally == "72 cases measured, 1 gave wrong logits, 1 failed, 4 cannot run here, 1 skipped."


def test_the_headline_says_what_is_missing(tmp_path: Path) -> None:
    nothing = analyse(load([write(tmp_path / "run.json", [], unmeasured())]))
    assert verdicts.headline(nothing) == [
        "No sparse head was measured beside a dense one.",
        "No soft head was measured beside a dense one.",
        "0 cases measured, 1 gave wrong logits, 1 failed, 4 cannot run here, 1 skipped.",
    ]


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [
        ({1: 2.0, 32: 2.0, 256: 2.0}, "faster at every size measured (1 to 256 rows)"),
        ({32: 2.0}, "faster at every size measured (32 rows)"),
        ({1: 0.5, 32: 1.0, 256: 2.0}, "slower at 1 row, as fast at 32 rows and faster at 256 rows"),
        ({1: 0.5, 32: 2.0, 256: 0.5}, "slower at 1 and 256 rows and faster at 32 rows"),
        ({1: 0.5, 2: 2, 4: 2, 8: 2, 16: 0.5}, "slower at 1 and 16 rows and faster from 2 to 8 rows"),
        ({1: 0.5, 2: 0.5, 4: 2, 8: 2}, "slower up to 2 rows and faster from 4 rows on"),
    ],
)
def test_where_it_pays(tmp_path: Path, ratios: dict[int, float], expected: str) -> None:
    assert only(tmp_path, ratios).summary == f"The sparse head is {expected}."


def test_sizes_that_decide_nothing_are_named_too(tmp_path: Path) -> None:
    entries = []
    for rows, noise in ((1, 0.3), (32, 0.004)):
        entries.append(benchmark(record(head="dense", rows=rows), samples(1.05e-3, noise=noise)))
        entries.append(benchmark(record(rows=rows), samples(1e-3, seed=rows, noise=noise)))
    (answer,) = verdicts.answers(analyse(load([write(tmp_path / "run.json", entries)])))
    assert answer.summary == "The sparse head is unclear at 1 row and faster at 32 rows."
    assert [(clause.words, clause.verdict) for clause in answer.clauses] == [
        ("The sparse head is ", ""),
        ("unclear at 1 row", "UNCLEAR"),
        (" and ", ""),
        ("faster at 32 rows", "FASTER"),
        (".", ""),
    ]


def test_equal_speed_and_equal_operations_are_called_so(tmp_path: Path) -> None:
    equal = only(tmp_path, {32: 1.0}, flops=1000).sentence
    assert (
        "needs as many operations as the dense head; on this CPU it is at best 1.00\N{MULTIPLICATION SIGN} as fast"
        in equal
    )


def test_a_head_without_an_interval_is_not_called_faster(tmp_path: Path) -> None:
    entries = [benchmark(record(head=head), samples(2e-3, blocks=3)) for head in ("dense", "sparse")]
    (answer,) = verdicts.answers(analyse(load([write(tmp_path / "run.json", entries)])))
    assert answer.best.verdict == "UNCLEAR"
    assert "not clear of noise (no interval from 3 blocks) at 256 rows" in answer.sentence


def test_an_unmatched_rival_is_owned_up_to(tmp_path: Path) -> None:
    entries = [
        benchmark(record(head="dense", hidden=128), samples(2e-3)),
        benchmark(record(), samples(1e-3)),
    ]
    (answer,) = verdicts.answers(analyse(load([write(tmp_path / "run.json", entries)])))
    assert "has another size" in answer.sentence


def test_each_machine_has_its_answer_and_is_named(tmp_path: Path) -> None:
    gpu: dict[str, Any] = {"device": "cuda", "device_name": "NVIDIA H100", "clock": "device"}
    paths = []
    for name, machine in {"cpu": {}, "gpu": gpu}.items():
        entries = [benchmark(record(head=head, **machine), samples(2e-3)) for head in ("dense", "soft", "sparse")]
        paths.append(write(tmp_path / f"{name}.json", entries))
    answers = verdicts.answers(analyse(load(paths)))
    assert [answer.machine for answer in answers] == [
        "GPU timings on NVIDIA H100",
        "GPU timings on NVIDIA H100",
        "CPU timings on AMD EPYC 7B13, 1 thread",
        "CPU timings on AMD EPYC 7B13, 1 thread",
    ]
    assert "on the GPU NVIDIA H100" in answers[0].sentence
    assert "device clock" in answers[0].sentence
