"""Two measurements of each stage, side by side, and why they differ."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from reports.account.cross_check import Agreement, agreements
from reports.account.waterfall import waterfall
from tests.reports.account.test_waterfall import STEPS, steady, steps


def checked(
    traced: Mapping[str, float], medians: Mapping[str, tuple[float, int | None]] = STEPS, operators: int = 20
) -> list[Agreement]:
    call = steady(236, operators=operators, traced={stage: 1e-6 * time for stage, time in traced.items()})
    return agreements(waterfall(call, float(np.median(call.samples)), None, steps(medians)))


def test_each_stage_is_compared_with_the_steps_that_do_it() -> None:
    found = checked({"experts": 125, "route": 32, "dispatch": 45, "combine": 30, "other": 50})
    assert {one.stages: (one.steps * 1e6, one.traced * 1e6) for one in found} == {
        ("experts",): pytest.approx((120, 125)),
        ("dispatch",): pytest.approx((50, 45)),
        ("route",): pytest.approx((30, 32)),
        ("combine",): pytest.approx((30, 30)),
    }
    assert [one.share for one in found] == pytest.approx([5 / 236, -5 / 236, 2 / 236, 0], abs=1e-9)
    assert not any(one.reason for one in found)


def test_stages_that_no_step_splits_are_compared_together() -> None:
    kernel = {"balanced": (100, None), "products": (120, None), "given": (160, None), "routed": (190, None)}
    found = checked({"experts": 120, "dispatch": 25, "combine": 15, "route": 30}, kernel)
    assert [(one.stages, round(one.steps * 1e6), round(one.traced * 1e6)) for one in found] == [
        (("experts",), 120, 120),
        (("dispatch", "combine"), 40, 40),
        (("route",), 30, 30),
    ]


def test_a_step_that_spans_two_groups_joins_them() -> None:
    found = checked({"experts": 100, "dispatch": 50}, {"balanced": (100, 4), "dispatched": (170, 4)})
    assert [one.stages for one in found] == [("experts", "dispatch")]
    assert found[0].steps == pytest.approx(170e-6)


def test_the_criterion_is_the_call_and_the_stage_is_shown_beside_it() -> None:
    found = {one.stages: one for one in checked({"experts": 120, "dispatch": 27, "route": 30, "combine": 30})}
    assert (found[("dispatch",)].reason, found[("dispatch",)].ratio) == ("", pytest.approx(27 / 50))
    assert found[("experts",)].ratio == pytest.approx(1)


def test_steps_that_add_nothing_have_no_ratio() -> None:
    faster = {"balanced": (100, 4), "products": (100, 4), "dispatched": (90, 12)}
    (experts, sent) = checked({"experts": 100, "dispatch": 5}, faster)
    assert experts.ratio == pytest.approx(1)
    assert (sent.steps, sent.ratio) == (pytest.approx(-10e-6), None)


NOT_EXPLAINED = "Not explained."
CACHES = "Not explained; other stages may evict from the caches what a step alone finds there."


@pytest.mark.parametrize(
    ("traced", "reason"),
    [
        ({"experts": 120 + 23.5}, ""),
        ({"experts": 120 - 23.5}, ""),
        ({"experts": 120 + 40, "other": 476}, CACHES),  # 20 us for each of 4 operators would be 40 too much
        ({"experts": 120 + 60, "other": 292}, "The profiled call is slower by 11.8 µs for each operator; without that "
         "for the stage's 4 the two agree."),
        ({"experts": 2 * 120, "other": 232}, "The profiled call took 2.00× the timed one's time; without that factor "
         "the two agree."),
        ({"experts": 120 + 60, "other": 56}, CACHES),
        ({"experts": 60}, NOT_EXPLAINED),
        ({"experts": 60, "other": 412}, NOT_EXPLAINED),
    ],
)  # fmt: skip
def test_a_difference_beyond_a_tenth_is_explained_by_what_was_measured_alone(
    traced: dict[str, float], reason: str
) -> None:
    (first,) = (one for one in checked(traced) if one.stages == ("experts",))
    assert first.reason == reason


def test_kernels_that_differ_are_not_explained_by_a_profiler() -> None:
    traced = {"experts": 180e-6, "other": 292e-6}
    call = steady(236, device="cuda", operators=20, traced=traced)
    (experts, *_) = agreements(waterfall(call, 236e-6, None, steps(device="cuda")))
    assert experts.reason == NOT_EXPLAINED


def test_where_operators_were_not_counted_only_a_slower_pass_explains() -> None:
    uncounted = {name: (time, None) for name, (time, _) in STEPS.items()}
    (first, *_) = checked({"experts": 240, "other": 232}, uncounted)
    assert first.reason.startswith("The profiled call took 2.00×")


def test_names_of_operators_put_the_gate_among_the_experts() -> None:
    call = steady(236, traced={"experts": 130e-6, "route": 20e-6, "dispatch": 50e-6}, traced_by="names")
    found = agreements(waterfall(call, 236e-6, None, steps()))
    assert {one.stages: round(one.steps * 1e6) for one in found}[("experts",)] == 130


def test_only_steps_and_a_trace_of_stages_can_be_compared() -> None:
    assert checked({}) == []
    assert checked({"fused": 100}) == []
    call = steady(236, traced={"experts": 1e-4})
    assert agreements(waterfall(call, 236e-6, None)) == []
