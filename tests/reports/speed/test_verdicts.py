"""The plain words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reports.reading.load import load
from reports.speed import verdicts
from reports.speed.analysis import Analysis, analyse
from tests.reports.synthetic import benchmark, record, samples, unmeasured, write


def sentence(folder: Path, ratios: dict[int, float], **fields: Any) -> str:
    """Return the sentence on a sparse head that is `ratios` times as fast as the dense one, by rows."""
    entries = []
    for rows, ratio in ratios.items():
        entries.append(benchmark(record(head="dense", rows=rows, **fields), samples(ratio * 1e-3, noise=0.004)))
        entries.append(benchmark(record(rows=rows, **fields), samples(1e-3, seed=rows, noise=0.004)))
    (answer,) = verdicts.answers(analyse(load([write(folder / "run.json", entries)])))
    return answer.sentence


def test_the_sparse_head_of_the_cpu_run(analysis: Analysis) -> None:
    sparse, soft = verdicts.answers(analysis)
    assert sparse.sentence.startswith(
        "The sparse head needs 3.77\N{MULTIPLICATION SIGN} fewer operations than the dense head; "
        "on this CPU it is at best 1.8"
    )
    assert "at 2,048 rows (onnxruntime against onnxruntime dense, wall clock, float32, n = 40)" in sparse.sentence
    assert sparse.sentence.endswith("It is slower up to 32 rows and faster from 256 rows on.")
    assert sparse.machine == "CPU timings on AMD EPYC 7B13, 1 thread"
    assert "needs 1.02\N{MULTIPLICATION SIGN} the operations of the dense head" in soft.sentence
    assert soft.best.verdict == "SLOWER"
    assert soft.sentence.endswith("It is slower at every size measured (1 to 2,048 rows).")


def test_the_headline_has_three_lines(analysis: Analysis) -> None:
    sparse, soft, tally = verdicts.headline(analysis)
    assert sparse.startswith("The sparse head")
    assert soft.startswith("The soft head")
    assert tally == "72 cases measured, 1 gave wrong logits, 1 failed, 4 cannot run here, 1 skipped."


def test_the_headline_says_what_is_missing(tmp_path: Path) -> None:
    nothing = analyse(load([write(tmp_path / "run.json", [], unmeasured())]))
    assert verdicts.headline(nothing) == [
        "No sparse head was measured beside a dense one.",
        "No soft head was measured beside a dense one.",
        "0 cases measured, 1 gave wrong logits, 1 failed, 4 cannot run here, 1 skipped.",
    ]


def test_where_it_pays(tmp_path: Path) -> None:
    faster = "is faster at every size measured"
    assert faster in sentence(tmp_path, {1: 2.0, 32: 2.0, 256: 2.0})
    assert "It is faster at every size measured (32 rows)." in sentence(tmp_path, {32: 2.0})
    assert "It is slower at 1 row, as fast at 32 rows and faster at 256 rows." in sentence(
        tmp_path, {1: 0.5, 32: 1.0, 256: 2.0}
    )
    assert "It is slower at 1 and 256 rows and faster at 32 rows." in sentence(tmp_path, {1: 0.5, 32: 2.0, 256: 0.5})


def test_equal_speed_and_equal_operations_are_called_so(tmp_path: Path) -> None:
    equal = sentence(tmp_path, {32: 1.0}, flops=1000)
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
