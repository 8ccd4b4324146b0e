"""The targets on fabricated samples: a planted ratio gives the verdict that it must."""

import pytest

from reports.targets.gpu import TARGETS
from reports.targets.page import render, summary
from reports.targets.target import Reach
from reports.targets.targets import evaluate
from tests.reports.targets.fabricated import case, run

FUSED, BEST, EAGER, GROUPED_MM, PRODUCTS, WHOLE, LIGER, BANDWIDTH, SKEW, BESIDES = TARGETS


def finding(target, *cases, cache="warm"):
    return next(found for found in evaluate(run(*cases)) if found.target is target and found.cache == cache)


@pytest.mark.parametrize(
    ("ratio", "verdict"),
    [
        (1.5, Reach.BEYOND),
        (1.98, Reach.BEYOND),
        (2.5, Reach.REACHED),
        (3.2, Reach.MISSED),
        (2.999, Reach.MISSED),  # its interval goes beyond 3
    ],
)
def test_at_most(ratio, verdict):
    found = finding(FUSED, case("g", "triton_fused", ratio * 3e-6, noise=0.01), case("g", "empty", 3e-6, noise=0.01))
    assert found.verdict is verdict
    assert found.worst.value.value == pytest.approx(ratio, rel=0.02)
    assert found.worst.value.low < found.worst.value.high


@pytest.mark.parametrize(("ratio", "verdict"), [(30, Reach.BEYOND), (15, Reach.REACHED), (9, Reach.MISSED)])
def test_at_least(ratio, verdict):
    loop, ours = case("g", "loop", ratio * 1e-4, clock="wall"), case("g", "triton", 1e-4, clock="wall")
    assert finding(EAGER, loop, ours).verdict is verdict


def test_the_worst_number_decides_and_stands_first():
    cases = [
        entry
        for rows, ratio in ((1, 1.5), (16, 2.7), (64, 4.0), (256, 1.9))
        for entry in (
            case(f"n{rows}", "triton_fused", ratio * 3e-6, rows=rows),
            case(f"n{rows}", "empty", 3e-6, rows=rows),
        )
    ]
    found = finding(FUSED, *cases)
    assert [number.label for number in found.numbers] == ["n64", "n16", "n256", "n1"]
    assert found.verdict is Reach.MISSED
    assert finding(FUSED, *cases[:4]).verdict is Reach.REACHED


def test_what_was_not_measured_is_no_success():
    planned = (case("g", "triton_fused"), case("g", "empty", 3e-6))
    found = finding(FUSED, *planned)
    assert (found.verdict, found.measured) == (Reach.NOT_MEASURED, 0)
    assert "triton_fused: no time left" in found.numbers[0].missing
    assert finding(FUSED).verdict is Reach.NOT_MEASURED
    both = finding(FUSED, *planned, case("h", "triton_fused", 4e-6), case("h", "empty", 3e-6))
    assert (both.verdict, both.measured, len(both.numbers)) == (Reach.BEYOND, 1, 2)


def test_cold_caches_are_judged_apart():
    cases = [
        entry
        for cache, ratio in (("warm", 1.5), ("cold", 5.0))
        for entry in (case("g", "triton_fused", ratio * 3e-6, cache=cache), case("g", "empty", 3e-6, cache=cache))
    ]
    assert finding(FUSED, *cases).verdict is Reach.BEYOND
    assert finding(FUSED, *cases, cache="cold").verdict is Reach.MISSED


def head(sparse, dense, *, flops=(0, 0), empty=1e-6):
    anchors = [
        case("g", "empty", empty),
        case("g", "copy", 1e-3, least_bytes=3 * 10**9),
        case("g", "peak", 1e-3, flops=10**12),
    ]
    forms = {"triton": (sparse, flops[0]), "grouped_mm": (2 * sparse, 0)}
    rival = case("g", "eager", dense, head="dense", flops=flops[1])
    return [*anchors, *(case("g", name, time, flops=count) for name, (time, count) in forms.items()), rival]


def test_the_best_forms_are_compared_and_more_is_asked_where_more_is_attainable():
    found = finding(BEST, *head(1.0e-4, 1.6e-4))
    assert found.worst.label == "g: triton / dense eager"
    assert found.worst.beyond == 1.0  # bound by one launch each, nothing is attainable
    assert found.verdict is Reach.BEYOND
    costly = head(1.0e-4, 1.6e-4, flops=(20 * 10**9, 80 * 10**9))  # 20 against 80 us at peak, and 1 us for a launch
    assert finding(BEST, *costly).worst.beyond == pytest.approx(1 / (0.9 * 81 / 21), rel=0.01)
    assert finding(BEST, *costly).verdict is Reach.REACHED
    assert finding(BEST, *head(1.0e-4, 0.9e-4)).verdict is Reach.MISSED


def test_without_ceilings_no_more_than_the_reach_is_asked():
    found = finding(BEST, case("g", "triton", 1e-4), case("g", "eager", 2e-4, head="dense"))
    assert (found.worst.beyond, found.verdict) == (1.0, Reach.BEYOND)


def large(peer, seconds, **more):
    return case("l", peer, seconds, layer="e128", **{"rows": 8192, **more})


def test_the_share_of_the_products_and_of_all_else():
    cases = [large("triton", 2e-3), large("triton_products", 1.8e-3), large("cublas", 1.7e-3)]
    assert finding(PRODUCTS, *cases).worst.value.value == pytest.approx(1.7 / 1.8, rel=0.01)
    assert finding(PRODUCTS, *cases).verdict is Reach.BEYOND
    assert finding(WHOLE, *cases).verdict is Reach.REACHED
    besides = finding(BESIDES, *cases).worst.value
    assert besides.value == pytest.approx(0.1, abs=0.005)
    assert besides.low <= besides.value <= besides.high
    assert finding(BESIDES, *cases).verdict is Reach.REACHED


def test_bandwidth_is_the_share_of_the_copy():
    ours = large("triton", 1e-3, rows=128, least_bytes=24 * 10**8)
    copy = large("copy", 2e-3, rows=128, least_bytes=6 * 10**9)
    found = finding(BANDWIDTH, ours, copy)  # 2.4 of 3 TB/s
    assert found.worst.value.value == pytest.approx(0.8, rel=0.01)
    assert found.verdict is Reach.REACHED


def test_skew_and_liger():
    cases = [large("triton", 1e-3), large("triton", 1.05e-3, routing="zipf1"), large("triton", 1.2e-3, routing="hot")]
    found = finding(SKEW, *cases)
    assert [number.label for number in found.numbers] == ["l: hot", "l: zipf"]
    assert found.verdict is Reach.REACHED
    pair = [large("liger", 2e-3, clock="wall"), large("triton_given", 1e-3, clock="wall")]
    assert finding(LIGER, *pair).verdict is Reach.BEYOND


def test_the_page_shows_numbers_reasons_and_what_kind_they_are():
    cases = (case("g", "triton_fused", 4e-6), case("g", "empty", 3e-6), case("h", "liger", reason="not | installed"))
    page = render(run(*cases))
    assert "| beyond | 1 of 1 |" in page
    assert "liger" in page
    assert "not \\| installed" in page
    assert "1 of 3 cases" in page
    predicted = render(run(*cases, kind="predicted"))
    assert "nothing here was measured" in predicted
    assert "1.33 predicted" in predicted
    assert "predicted: beyond" in predicted
    assert "| beyond |" not in predicted.replace("| reach | beyond |", "")
    rehearsed = render(run(*cases, kind="rehearsal"))
    assert "beyond |" not in rehearsed.replace("| reach | beyond |", "")
    assert "none, a rehearsal" in rehearsed
    assert "paper's head, N <= 1024" in summary(run(*cases))


def test_a_rehearsal_has_no_graphs_so_the_wall_clock_stands_for_them():
    cases = (case("g", "triton_fused", 4e-6, clock="wall"), case("g", "empty", 3e-6, clock="wall"))
    (found,) = [
        each for each in evaluate(run(*cases, kind="rehearsal")) if each.target is FUSED and each.cache == "warm"
    ]
    assert found.worst.value.value == pytest.approx(4 / 3, rel=0.01)
    with_graph = run(*cases, case("g", "triton", 1e-6))
    assert next(each for each in evaluate(with_graph) if each.target is FUSED).verdict is Reach.NOT_MEASURED


def on_cpu(*args, **more):
    return case(*args, clock="wall", device="cpu", dtype="float32", **more)


def test_on_a_cpu_the_native_kernel_is_judged_by_its_own_targets():
    cases = [
        on_cpu("paper", "native", 1e-3),
        on_cpu("paper", "eager", 2.5e-3),
        on_cpu("paper", "native", 1.05e-3, routing="zipf2"),
        on_cpu("paper", "native", 1.3e-3, routing="hot"),
        on_cpu("paper", "native", 2.8e-3, head="dense"),
        on_cpu("paper", "eager", 3e-3, head="dense"),
        on_cpu("e128", "native", 2.0, layer="e128", rows=16, least_bytes=64 * 10**8, flops=10**9),
        on_cpu("e128", "read", 1.0, layer="e128", rows=16, least_bytes=4 * 10**9),
        on_cpu("e1024", "native", 2.0, layer="e128", rows=1024, least_bytes=6 * 10**9, flops=140 * 10**9),
        on_cpu("e1024", "peak", 1.0, layer="e128", rows=1024, flops=10**11),
    ]
    results = {result.target.name: result for result in evaluate(run(*cases))}
    values = {
        name: (result.worst.value.value, result.verdict) for name, result in results.items() if result.worst is not None
    }
    expected = {
        "paper's head, 256 rows: best dense / native sparse": (2.8, Reach.REACHED),
        "paper's head: best other sparse form / native": (2.5, Reach.BEYOND),
        "large layers, N <= 16: share of the bandwidth of reading": (0.8, Reach.REACHED),
        "large layers, N = 1,024: share of the best product": (0.7, Reach.REACHED),
        "paper's head: Zipf 2 or one hot expert / balanced": (1.3, Reach.MISSED),
        "paper's head, dense: addmm / native": (3 / 2.8, Reach.BEYOND),
    }
    assert values == {name: (pytest.approx(value, rel=0.01), verdict) for name, (value, verdict) in expected.items()}
    assert results["paper's head, 1 row: best dense / native sparse"].verdict is Reach.NOT_MEASURED
