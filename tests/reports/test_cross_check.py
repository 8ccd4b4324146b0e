"""Two measurements of each stage, side by side, and why they differ."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from reports.cross_check import Agreement, agreements
from reports.waterfall import waterfall
from tests.reports.test_waterfall import STEPS, steady, steps


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


@pytest.mark.parametrize(
    ("traced", "operators", "reason"),
    [
        ({"experts": 120 + 23.5}, 20, ""),
        ({"experts": 120 + 40}, 20, "a microsecond to each of 20 operators, 8.5 % of this call."),
        ({"experts": 120 + 60, "other": 292}, 20,
         "The profiled call took 2.00× the timed one's time; the stage has 38.1 % of it, by steps 50.8 %."),
        ({"experts": 60}, 20, "The steps add more than the stage takes"),
    ],
)  # fmt: skip
def test_a_difference_beyond_a_tenth_has_a_reason(traced: dict[str, float], operators: int, reason: str) -> None:
    (first,) = (one for one in checked(traced, operators=operators) if one.stages == ("experts",))
    assert bool(first.reason) == bool(reason)
    assert reason in first.reason


def test_only_steps_and_a_trace_of_stages_can_be_compared() -> None:
    assert checked({}) == []
    assert checked({"fused": 100}) == []
    call = steady(236, traced={"experts": 1e-4})
    assert agreements(waterfall(call, 236e-6, None)) == []
