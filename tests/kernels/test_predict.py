"""The cost model against published times of others, and the page of predictions."""

from dataclasses import replace

import pytest
import torch

from kernels import predict
from kernels.choice.choice import choose
from kernels.choice.tuning import PAPER
from kernels.cost.machine import H100, H200
from kernels.cost.seconds import seconds, total_seconds
from kernels.peers import cublas, dense, liger, vllm
from kernels.predict import GEMMA, QWEN, Target, at, published
from kernels.problem.options import Product

TILE = Product(columns=128, depth=64, warps=8, stages=3)


def flops_of(layer: str, N: int) -> int:
    D, H, k = {"gemma": (2816, 704, 8), "qwen": (2048, 768, 8)}[layer]
    return 2 * N * k * 3 * D * H


@pytest.mark.parametrize("kernel", ["vLLM#44818", "vLLM#24700", "Liger"])
def test_the_model_reproduces_published_times_within_25_percent(kernel: str) -> None:
    cases = [case for case in published() if case.kernel == kernel]
    assert len(cases) >= 4
    assert all(abs(case.error) <= 0.25 for case in cases)
    fitted = [case for case in cases if not case.waits_for_host]
    assert len(fitted) >= len(cases) - 2
    assert sum(abs(case.error) for case in fitted) / len(fitted) <= 0.10


@pytest.mark.parametrize("change", [{"l2_rate": 99e12, "wait_seconds": 0.0}, {"dram_rate": 3.0e12}], ids=str)
def test_another_machine_would_not_reproduce_them(change: dict[str, float]) -> None:
    cases = [case for case in published() if case.kernel == "vLLM#44818" and not case.waits_for_host]
    changed = [replace(case, machine=replace(case.machine, **change)) for case in cases]  # type: ignore[arg-type]
    assert max(abs(case.error) for case in changed) > 0.25


def test_a_peer_multiplies_at_least_what_its_layer_asks() -> None:
    for works, least in (
        (vllm(at(GEMMA, 4096), 128, TILE), flops_of("gemma", 4096)),
        (liger(at(QWEN, 8192), 64, TILE), flops_of("qwen", 8192)),
        (cublas(at(QWEN, 8192)), flops_of("qwen", 8192)),
    ):
        assert least <= sum(work.flops for work in works) <= 1.5 * least


def test_liger_writes_its_sums_and_vllm_its_halves() -> None:
    first, second = (work for work in liger(at(QWEN, 1024), 64, TILE) if work.kernel == "_grouped_gemm_kernel")
    assert first.written == 8192 * (3 * 768) * 2
    assert second.written == 8192 * 2048 * 2
    halves = next(work for work in vllm(at(GEMMA, 1024), 64, TILE) if work.kernel == "_grouped_gemm_kernel")
    assert halves.written == 8192 * 2 * 704 * 2


def test_a_dense_head_pays_for_two_launches_with_their_waits() -> None:
    works = dense(at(PAPER, 1), H200)
    assert len(works) == 2
    assert sum(work.flops for work in works) >= 2 * (512 * 512 + 512 * 10)
    time = total_seconds(works, H200)
    assert 4.5e-6 < time < 8e-6
    assert all(seconds(work, H200, 0.0) > H200.launch_seconds + 3 * H200.wait_seconds for work in works)


@pytest.mark.parametrize(
    ("reach", "beyond", "values"),
    [
        (3, 2, {1.9: "beyond", 2.5: "reached", 3.1: "missed"}),
        (0.8, 0.9, {0.95: "beyond", 0.8: "reached", 0.7: "missed"}),
    ],
)
def test_verdicts(reach: float, beyond: float, values: dict[float, str]) -> None:
    for value, verdict in values.items():
        assert Target("name", value, "", reach, beyond).verdict == verdict


def test_the_page_says_that_it_predicts(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict, "targets", lambda _: iter([Target("a target", 0.5, "N 7", 1.0, 0.8)]))
    assert predict.main(["--machine", "h200"]) == 0
    page = capsys.readouterr().out
    assert page.startswith("# Predicted for an H200\n")
    assert "nothing here was measured" in page
    assert "| a target | 0.50 | N 7 | 1 | 0.8 | beyond |" in page
    assert page.count("\n| vLLM#44818 ") == 10
    call = at(GEMMA, 4096)
    assert f"| 1,190 | {1e6 * choose(call, H200).seconds(call, H200):,.0f} |" in page


def test_every_target_has_a_worst_case() -> None:
    goals = list(predict.targets(H100))
    assert len(goals) == 9
    assert all(goal.value > 0 and torch.tensor(goal.value).isfinite() for goal in goals)


def test_stored_weights_take_less_time_than_bf16_if_reading_them_takes_most() -> None:
    for name, call, times in predict.narrow(H200):
        assert times["mxfp4"] < times["fp8_channels"] < times["bf16"], (name, call.N)
        bytes_of = {"bf16": 2, "fp8_channels": 1, "mxfp4": 17 / 32}
        ideal = {scheme: call.E * 3 * call.D * call.H * size / H200.dram_rate for scheme, size in bytes_of.items()}
        if call.N == 64:
            assert all(times[scheme] > 0.9 * ideal[scheme] for scheme in ideal)
            assert times["mxfp4"] < 0.5 * times["bf16"]
