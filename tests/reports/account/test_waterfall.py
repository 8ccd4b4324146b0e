"""Waterfalls: exact sums whatever was measured, and parts against numbers worked out by hand or by another way."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.account.parts import ARITHMETIC, FLOORS, HOST, LAUNCH, MEMORY, UNATTRIBUTED
from reports.account.waterfall import Waterfall, waterfall
from reports.reading.load import MeasuredCase
from reports.speed.floors import Floor, floor
from tests.reports.synthetic import ceilings, record

SOURCE = Path("run.json")
US = 10**6  # picoseconds
COUNTED = {"flops": 4_000_000, "assignments": 20, "rows": 10, "least_bytes": 1_000_000}
# gate 2 x 512 x 8 x 10 = 81,920; combine 2 x 10 x 20 = 400; experts the other 3,917,680; 200 GFLOP/s and 25 GB/s
PEAK = {"all": 20.0, "experts": 19.5884, "gate": 0.4096, "combine": 0.002}  # us
MOVED = 40.0 - 20.0  # us beyond the arithmetic
STEPS = {  # us and operators
    "balanced": (100, 4),
    "products": (120, 4),
    "dispatched": (170, 12),
    "gated": (180, 13),
    "routed": (200, 17),
    "combined": (230, 20),
}


def timed(blocks: Mapping[int, Sequence[float]], **fields: Any) -> MeasuredCase:
    """Return a case with samples in microseconds by block."""
    samples = [1e-6 * time for times in blocks.values() for time in times]
    numbers = [block for block, times in blocks.items() for _ in times]
    return MeasuredCase(record(**COUNTED | fields), np.array(samples), np.array(numbers, dtype=np.int64), SOURCE)


def steady(microseconds: float, **fields: Any) -> MeasuredCase:
    return timed({block: [microseconds] * 2 for block in range(8)}, **fields)


def steps(medians: Mapping[str, tuple[float, int | None]] = STEPS, **fields: Any) -> list[MeasuredCase]:
    return [
        steady(time, step=step, case_id=step, operators=operators, **fields)
        for step, (time, operators) in medians.items()
    ]


def floor_of(case: MeasuredCase, **fields: Any) -> Floor:
    found = floor(case.record, [ceilings(device=case.record.device, **fields)])
    assert found is not None
    return found


def accounted(
    case: MeasuredCase, counterfactuals: Sequence[MeasuredCase] = (), known: Floor | None = None, **more: Any
) -> Waterfall:
    found = waterfall(case, float(np.median(case.samples)), known, counterfactuals, **more)
    assert sum(part.picoseconds for part in found.parts) == found.total
    assert found.parts[-1].name == UNATTRIBUTED
    return found


def sizes(found: Waterfall) -> dict[str, float]:
    return {part.name: part.picoseconds / US for part in found.parts}


def test_the_parts_of_a_cpu_call_by_hand() -> None:
    call = steady(236, operators=20)
    found = accounted(call, steps(), floor_of(call))
    assert found.basis == "steps"
    assert sizes(found) == pytest.approx(
        {
            ARITHMETIC: PEAK["all"],
            MEMORY: MOVED,
            LAUNCH: 1,
            "expert imbalance": 20,
            "GEMM inefficiency": 100 - PEAK["experts"] - MOVED - 4 * 2,
            "gate": 10 - PEAK["gate"] - 1 * 2,
            "top-k": 20 - 4 * 2,
            "dispatch": 50 - 8 * 2,
            "combine": 30 - PEAK["combine"] - 3 * 2,
            HOST: 20 * 2 - 1,
            UNATTRIBUTED: 236 - 230,
        },
        abs=1e-5,
    )
    assert [part.name for part in found.parts][:3] == list(FLOORS)
    assert found.notes == ()


def test_operators_beside_the_steps_are_host_work_too() -> None:
    call = steady(236, operators=23)
    found = sizes(accounted(call, steps(), floor_of(call)))
    assert found[HOST] == pytest.approx(23 * 2 - 1)
    assert found[UNATTRIBUTED] == pytest.approx(0)


def test_without_counted_operators_host_work_stays_in_the_parts() -> None:
    call = steady(236)
    found = sizes(accounted(call, steps({name: (time, None) for name, (time, _) in STEPS.items()}), floor_of(call)))
    assert HOST not in found
    assert found["dispatch"] == pytest.approx(50)
    assert found["GEMM inefficiency"] == pytest.approx(100 - PEAK["experts"] - MOVED - 1)


def test_on_a_gpu_host_work_is_what_the_graph_saves() -> None:
    call = steady(400, device="cuda", operators=20)
    replays = steps({**STEPS, "graph": (250, 20)}, device="cuda")
    found = sizes(accounted(call, replays, floor_of(call)))
    assert found[HOST] == pytest.approx(400 - 250)
    assert found[UNATTRIBUTED] == pytest.approx(250 - 230)
    assert found["dispatch"] == pytest.approx(50)


@pytest.mark.parametrize("whole", [{}, {"graph": (250, 20)}])
def test_what_replaying_takes_lies_in_no_step(whole: dict[str, tuple[float, int]]) -> None:
    call = steady(400, device="cuda", operators=20)
    latency = accounted(call, steps({**STEPS, **whole, "replay": (12, 0)}, device="cuda"), floor_of(call))
    found = sizes(latency)
    assert found["GEMM inefficiency"] == pytest.approx(100 - 12 - PEAK["experts"] - MOVED)
    assert found["dispatch"] == pytest.approx(50)
    assert found[HOST] == pytest.approx((400 - 250 if whole else 0) + 12 - 1)  # the launch stands in the floors
    assert found[UNATTRIBUTED] == pytest.approx((250 if whole else 400) - 230)
    assert latency.added[0].seconds == pytest.approx(88e-6)  # as kernels take it, which a trace is compared with


def test_on_a_gpu_steps_that_no_graph_holds_are_calls_as_on_a_cpu() -> None:
    call = steady(236, device="cuda", operators=20)
    found = accounted(call, steps(device="cuda"), floor_of(call))
    own = steady(236, operators=20)
    assert sizes(found) == sizes(accounted(own, steps(), floor_of(own)))
    assert sizes(found)[HOST] == pytest.approx(20 * 2 - 1)
    assert [added.operators for added in found.added] == [4, 0, 8, 1, 4, 3]


FUSED = {"fused": 70e-6, "other": 900e-6}


def test_a_form_that_cannot_be_split_has_its_own_replay_and_a_trace() -> None:
    call = steady(150, form="triton", device="cuda", traced=FUSED)
    replays = steps({"graph": (90, 1), "replay": (10, 0)}, device="cuda")
    found = accounted(call, replays, floor_of(call))
    assert found.basis == "graph and trace"
    assert sizes(found) == pytest.approx(
        {
            ARITHMETIC: PEAK["all"],
            MEMORY: MOVED,
            LAUNCH: 1,
            "fused kernel": 70 - 40,
            HOST: 150 - 90 + 10 - 1,
            UNATTRIBUTED: 90 - 10 - 70,
        }
    )
    assert found.notes == ()
    assert (found.parts[-1].low, found.parts[-1].high) == (None, None)  # a trace has no interval
    assert sizes(accounted(call, replays[:1], floor_of(call)))[HOST] == pytest.approx(60 - 1)


def test_a_replay_tells_the_host_even_where_no_trace_tells_the_rest() -> None:
    call = steady(150, form="triton", device="cuda", traced={"other": 900e-6})
    found = accounted(call, steps({"graph": (90, 1)}, device="cuda"), floor_of(call))
    assert found.basis == "graph"
    assert sizes(found) == pytest.approx({ARITHMETIC: 20, MEMORY: 20, LAUNCH: 1, HOST: 59, UNATTRIBUTED: 50})
    assert found.parts[-1].low == pytest.approx(50 * US)
    assert found.notes == (
        "The form hides its stages in one whole, so all beyond the floors and the host is unattributed.",
    )


def test_an_empty_replay_alone_tells_nothing() -> None:
    call = steady(150, device="cuda", traced=FUSED)
    assert accounted(call, steps({"replay": (10, 0)}, device="cuda")).basis == "trace"


def test_a_form_that_cannot_split_them_has_one_part_for_two_works() -> None:
    call = steady(200)
    kernel = {"balanced": (100, None), "products": (120, None), "given": (160, None), "routed": (190, None)}
    found = sizes(accounted(call, steps(kernel), floor_of(call)))
    assert found["dispatch + combine"] == pytest.approx(40 - PEAK["combine"])
    assert found["gate + top-k"] == pytest.approx(30 - PEAK["gate"])
    assert found[UNATTRIBUTED] == pytest.approx(10)


@pytest.mark.parametrize(
    ("fields", "medians", "names"),
    [
        ({"head": "dense"}, {"balanced": (90, 4)}, {"GEMM inefficiency"}),
        (
            {"head": "soft"},
            {"balanced": (90, 4), "gated": (95, 5), "routed": (97, 6), "combined": (99, 7)},
            {"GEMM inefficiency", "gate", "top-k", "combine"},
        ),
        ({"head": "soft"}, {"balanced": (90, 4), "combined": (99, 7)},
         {"GEMM inefficiency", "gate + top-k + combine"}),
        ({}, {"products": (90, 4), "combined": (95, 4)}, {"imbalance + GEMM",
                                                          "gate + top-k + dispatch + combine"}),
    ],
)  # fmt: skip
def test_parts_are_of_what_a_head_does(fields: dict[str, Any], medians: dict[str, Any], names: set[str]) -> None:
    call = steady(100, **fields)
    found = sizes(accounted(call, steps(medians, **fields), floor_of(call)))
    assert found.keys() - {*FLOORS, HOST, UNATTRIBUTED} == names


def test_without_ceilings_the_products_keep_their_time() -> None:
    found = sizes(accounted(steady(236, operators=20), steps()))
    assert found["expert products"] == pytest.approx(100)
    assert found.keys().isdisjoint({*FLOORS, HOST})


def test_a_faster_step_is_shown_as_it_came() -> None:
    call = steady(100)
    found = sizes(accounted(call, steps({**STEPS, "products": (95, 4)}), floor_of(call)))
    assert found["expert imbalance"] == pytest.approx(-5)


def test_what_slows_a_block_slows_no_part() -> None:
    """Differences of medians would give the slow half's disturbance to whichever step was measured in it."""
    late = range(8, 20)
    call = timed({block: [300 + 10 * block] for block in late})
    first = timed({block: [100 + 10 * block] for block in range(20)}, step="balanced", case_id="a")
    last = timed({block: [290 + 10 * block] for block in range(20)}, step="combined", case_id="b")
    found = accounted(call, [first, last])
    assert found.added[1].seconds == pytest.approx(190e-6)
    assert sizes(found)[UNATTRIBUTED] == pytest.approx(10)
    assert found.parts[0].low == found.parts[0].high == 190 * US


def test_steps_of_another_group_do_not_count() -> None:
    call = steady(236)
    strange = steps(group_id="another")
    assert accounted(call, strange).basis == "floors"


def test_steps_without_a_shared_block_do_not_count() -> None:
    call = timed({block: [236.0] for block in range(20, 30)})
    assert accounted(call, steps()).basis == "floors"


TRACED = {"experts": 60e-6, "route": 20e-6, "dispatch": 30e-6, "combine": 10e-6, "other": 15e-6}


def test_a_trace_stands_as_it_was_seen() -> None:
    call = steady(100, form="loop", traced=TRACED)
    found = accounted(call, known=floor_of(call))
    assert found.basis == "trace"
    assert sizes(found) == pytest.approx(
        {
            ARITHMETIC: PEAK["all"],
            MEMORY: MOVED,
            LAUNCH: 1,
            "imbalance + GEMM": 60 - PEAK["experts"] - MOVED - 1,
            "gate + top-k": 20 - PEAK["gate"],
            "dispatch": 30,
            "combine": 10 - PEAK["combine"],
            "outside all stages": 15,
            UNATTRIBUTED: -35,
        },
        abs=1e-5,
    )
    assert found.notes == (
        "A profiled call is slower than a timed one: its stages take 135 µs, 35.0 µs beyond the call.",
    )


def test_of_a_form_without_stages_the_gate_counts_among_the_experts() -> None:
    call = steady(200, form="onnxruntime", traced=TRACED, traced_by="names")
    found = accounted(call, known=floor_of(call))
    assert sizes(found)["imbalance + GEMM + gate"] == pytest.approx(60 - 19.998 - MOVED - 1)
    assert found.notes == ("Even slowed by the profiler the stages take 135 µs only, so 65.0 µs lie outside them.",)


@pytest.mark.parametrize("told", ["", "ranges"])
def test_of_named_stages_the_gate_is_none_of_the_experts(told: str) -> None:
    call = steady(200, form="compile", traced=TRACED, traced_by=told)
    assert "gate + top-k" in sizes(accounted(call, known=floor_of(call)))


def test_the_host_under_the_profiler_stands_in_no_part_of_a_gpu() -> None:
    """It took three times the call, and kernels are still as they were."""
    call = steady(200, device="cuda", traced={**TRACED, "other": 600e-6})
    found = accounted(call, known=floor_of(call))
    assert found.basis == "trace"
    assert "outside all stages" not in sizes(found)
    assert sizes(found)[UNATTRIBUTED] == pytest.approx(200 - 120)
    assert found.notes == ("The kernels of its stages take 120 µs when profiled, so 80.0 µs lie outside them.",)
    assert accounted(steady(200, traced={**TRACED, "other": 600e-6})).basis == "floors"


@pytest.mark.parametrize(
    ("microseconds", "told"),
    [
        (100, "The kernels of its stages take 120 µs when profiled, 20.0 µs beyond what is left of the call."),
        (70, "The profiled kernels took 120 µs, so its stages say nothing about this one and are in no part."),
    ],
)
def test_kernels_slower_than_the_call_say_so(microseconds: float, told: str) -> None:
    slower = {"experts": 70e-6, "dispatch": 50e-6, "other": 1e-3}
    assert accounted(steady(microseconds, device="cuda", traced=slower)).notes == (told,)


def test_a_fused_kernel_holds_all_the_floors() -> None:
    call = steady(100, form="triton", traced={"fused": 70e-6})
    assert sizes(accounted(call, known=floor_of(call)))["fused kernel"] == pytest.approx(70 - 41)


@pytest.mark.parametrize(
    ("traced", "reason"),
    [
        ({}, "The form was neither measured in steps nor traced, so all beyond the floors is unattributed."),
        ({"other": 1e-5}, "The form hides its stages in one whole, so all beyond the floors is unattributed."),
        (
            {"experts": 1e-4, "other": 5e-5},
            "The profiled call took 150 µs, so its stages say nothing about this one and are in no part.",
        ),
    ],
)
def test_with_neither_steps_nor_stages_all_is_unattributed(traced: dict[str, float], reason: str) -> None:
    call = steady(100, traced=traced)
    found = accounted(call, known=floor_of(call))
    assert sizes(found) == pytest.approx({ARITHMETIC: 20, MEMORY: 20, LAUNCH: 1, UNATTRIBUTED: 59})
    assert found.notes == (reason,)


def noisy(median: float, spread: float) -> MeasuredCase:
    return timed({block: [median + spread * (-1) ** block] for block in range(20)}, operators=20)


@pytest.mark.parametrize(
    ("call", "last", "reason"),
    [
        (steady(300, operators=20), "combined", "takes 70.0 µs longer than the steps"),
        (steady(150, operators=20), "combined", "takes 80.0 µs less than the steps"),
        (steady(300, operators=20), "gated", "No step that includes top-k and combine was measured"),
        (noisy(270, 100), "combined", "no more than noise, −60.0 µs to 140 µs"),
        (steady(250, operators=20), "combined", ""),
    ],
)
def test_much_that_is_unattributed_has_a_reason(call: MeasuredCase, last: str, reason: str) -> None:
    kept = list(STEPS)[: list(STEPS).index(last) + 1]
    found = accounted(call, steps({name: STEPS[name] for name in kept}), floor_of(call))
    assert bool(found.notes) == bool(reason)
    assert all(reason in note for note in found.notes)


def test_a_case_below_its_floor_says_so() -> None:
    call = steady(30)
    told = accounted(call, known=floor_of(call)).notes[0]
    assert told == (
        "It undercuts its floor of 41.0 µs: a ceiling lies too low for it, and work that mostly reads may pass the "
        "rate of a copy."
    )
    counted = steady(15, least_bytes=1_000)
    assert accounted(counted, known=floor_of(counted)).notes[0].endswith("a ceiling lies too low for it.")


def test_the_time_in_theory_is_kept_in_picoseconds() -> None:
    assert accounted(steady(100), theoretical=26.5e-6).theoretical == 26_500_000
    assert accounted(steady(100)).theoretical is None


TIMES = st.floats(1e-9, 10, allow_nan=False)
NAMES = ("balanced", "products", "dispatched", "given", "gated", "routed", "combined", "graph", "replay")


@st.composite
def measured(draw: st.DrawFn) -> tuple[MeasuredCase, list[MeasuredCase], Floor | None]:
    """Draw a call with any of its steps, each with samples in any of twelve blocks, with or without a floor."""
    head = draw(st.sampled_from(["dense", "soft", "sparse"]))
    fields = {
        "head": head,
        "device": draw(st.sampled_from(["cpu", "cuda"])),
        "least_bytes": draw(st.integers(1, 10**9)),
    }

    def case(**own: Any) -> MeasuredCase:
        times = draw(st.lists(TIMES, min_size=1, max_size=12))
        first = draw(st.integers(0, 3))
        operators = draw(st.one_of(st.none(), st.integers(0, 50)))
        shared = fields | own | {"operators": operators}
        return MeasuredCase(record(**shared), np.array(times), np.arange(first, first + len(times)), SOURCE)

    traced = draw(st.dictionaries(st.sampled_from(["route", "experts", "fused", "other", "x"]), TIMES))
    call = case(traced=traced)
    chosen = draw(st.sets(st.sampled_from(NAMES)))
    known = draw(st.sampled_from([None, floor_of(call)]))
    return call, [case(step=step, case_id=step) for step in sorted(chosen)], known


@settings(max_examples=200, deadline=None)
@given(measured())
def test_parts_sum_to_the_measured_median_exactly(drawn: tuple[MeasuredCase, list[MeasuredCase], Floor | None]) -> None:
    call, counterfactuals, known = drawn
    found = accounted(call, counterfactuals, known)
    assert found.total == round(float(np.median(call.samples)) * 10**12)
    assert len({part.name for part in found.parts}) == len(found.parts)
    for added in found.added:
        assert added.works


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(*[st.integers(1, 10**6)] * 4), min_size=6, max_size=12))
def test_parts_are_medians_of_differences_within_blocks(table: list[tuple[int, ...]]) -> None:
    """The oracle takes them one by one, in whole nanoseconds."""
    names = ("balanced", "products", "combined")
    cases = [
        timed({block: [row[place] * 1e-3] for block, row in enumerate(table)}, step=step, case_id=step)
        for place, step in enumerate((*names, ""))
    ]
    found = sizes(accounted(cases[-1], cases[:-1]))
    imbalance = statistics.median(row[1] - row[0] for row in table)
    rest = statistics.median(row[2] - row[1] for row in table)
    assert found["expert imbalance"] == pytest.approx(imbalance * 1e-3, abs=1e-5)
    assert found["gate + top-k + dispatch + combine"] == pytest.approx(rest * 1e-3, abs=1e-5)
