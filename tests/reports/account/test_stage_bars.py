"""Stages of forms side by side: bars that sum to their medians, in the data and as drawn."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.account import parts, stage_bars
from reports.account.account import account
from reports.account.parts import CHOICE, COMBINE, DISPATCH, FLOORS, GATE, GEMM, IMBALANCE, LAST, WORK, Part
from reports.account.stage_bars import BARS, NAMES, RIVAL, STAGES, labelled, stage_chart, stage_legend
from reports.account.waterfall import waterfall
from reports.output.blocks import Chart
from reports.reading.load import MeasuredCase
from reports.speed.analysis import Analysis
from reports.speed.settings import is_drawn
from tests.reports import drawn
from tests.reports.account.test_account import usual
from tests.reports.account.test_waterfall import STEPS, floor_of, steady, steps


def chart_of(analysis: Analysis, headline: MeasuredCase | None = None) -> Chart:
    return stage_chart(analysis, [each for each in account(analysis) if is_drawn(each.setting)], headline)


def test_every_head_and_number_of_rows_can_be_chosen(accounts: Analysis) -> None:
    chart = chart_of(accounts)
    labels = [choice.label for choice in chart.choices]
    assert labels[:4] == [
        "sparse head, 256 rows",
        "sparse head, 1 row",
        "sparse head, 32 rows",
        "sparse head, 2,048 rows",
    ]
    assert {label.partition(",")[0] for label in labels} == {"sparse head", "soft head", "dense head"}
    assert len(labels) == 3 * 4
    assert chart.message.startswith("Sparse head, 256 rows: onnxruntime 66")
    assert "The best dense form takes 1.09 ms" in chart.message
    assert " Below zero, and in no bar: onnxruntime unattributed −" in chart.message
    assert [choice.data[RIVAL][0]["ps"] > 0 for choice in chart.choices] == [True] * 8 + [False] * 4
    soft = usual(accounts, "soft", "onnxruntime", 2048).case
    assert chart_of(accounts, soft).choices[0].label == "soft head, 2,048 rows"


def test_the_stages_of_a_form_sum_to_its_median_exactly(accounts: Analysis) -> None:
    found = account(accounts)
    for one in found:
        bars = stage_bars.bars("loop", one.waterfall)
        assert sum(bar["ps"] for bar in bars) == one.waterfall.total == bars[-1]["call"]
        assert [bar["stage"] for bar in bars] == sorted((bar["stage"] for bar in bars), key=NAMES.index)
    chart = chart_of(accounts)
    for choice in chart.choices:
        forms: dict[str, int] = {}
        calls: dict[str, int] = {}
        for bar in choice.data[BARS]:
            forms[bar["form"]] = forms.get(bar["form"], 0) + bar["ps"]
            calls |= {bar["form"]: bar["call"]} if "call" in bar else {}
        assert forms == calls
        assert list(calls.values()) == sorted(calls.values())


def test_a_bar_is_as_long_as_its_call_and_its_pieces_are_the_shares_of_parts_above_zero(accounts: Analysis) -> None:
    chart = chart_of(accounts)
    data = chart.choices[0].data
    bars = drawn.marks(drawn.svg(chart.spec, data), "bar")
    calls = {bar["form"]: bar["call"] for bar in data[BARS] if "call" in bar}
    lengths = {form: [drawn.span(bar) for bar in bars if bar["form"] == form] for form in calls}
    (zero,) = {pieces[0][0] for pieces in lengths.values()}
    scale = {(pieces[-1][1] - zero) / calls[form] for form, pieces in lengths.items()}
    assert min(scale) == pytest.approx(max(scale), rel=1e-3)  # no bar is longer than its call
    for form, pieces in lengths.items():
        above = [bar["ps"] for bar in data[BARS] if bar["form"] == form and bar["ps"] > 0]
        shares = [(end - start) / (pieces[-1][1] - zero) for start, end in pieces]
        assert shares == pytest.approx([size / sum(above) for size in above], abs=1e-4)
        assert sum(shares) == pytest.approx(1)
        assert all(after[0] == pytest.approx(before[1], abs=1e-6) for before, after in itertools.pairwise(pieces))
    assert any(bar["ps"] < 0 for bar in data[BARS])


def test_the_best_dense_form_is_a_dashed_line(accounts: Analysis) -> None:
    chart = chart_of(accounts)
    picture = drawn.svg(chart.spec, chart.choices[0].data)
    assert picture.count('stroke-dasharray="6,4"') == 1
    assert "undefined" not in picture
    assert 'fill="#000"' not in picture


def test_parts_keep_their_names_and_their_works_one_stage() -> None:
    call = steady(236, operators=20)
    bars = stage_bars.bars("eager", waterfall(call, 236e-6, floor_of(call), steps()))
    assert [bar["stage"] for bar in bars] == [
        "floors", "imbalance", "GEMM", "gate", "top-k", "dispatch", "combine", "host", "unattributed",
    ]  # fmt: skip
    assert {bar["stage"]: bar.get("part") for bar in bars}["GEMM"] == "GEMM inefficiency"
    merged = {name: STEPS[name] for name in ("products", "combined")}
    some = stage_bars.bars("eager", waterfall(call, 236e-6, None, steps(merged)))
    assert [(bar["stage"], bar.get("part")) for bar in some] == [
        ("GEMM", "imbalance + products"),
        ("several", "gate + top-k + dispatch + combine"),
        ("unattributed", None),
    ]


@pytest.mark.parametrize(
    ("works", "stage"),
    [
        ((IMBALANCE, GEMM), "GEMM"),
        ((IMBALANCE, GEMM, GATE), "GEMM"),
        ((GATE, CHOICE), "gate"),
        ((DISPATCH, COMBINE), "dispatch"),
        ((GATE, CHOICE, COMBINE), "several"),
        ((GEMM,), "GEMM"),
    ],
)
def test_a_part_for_several_works_has_the_stage_of_the_longest(works: tuple[str, ...], stage: str) -> None:
    for floor in (None, floor_of(steady(100))):
        assert stage_bars.stage_of(Part(parts.name(works, floor), 0, works=works)) == stage


@given(st.sets(st.sampled_from(WORK), min_size=1))
def test_every_part_has_a_stage(works: set[str]) -> None:
    assert stage_bars.stage_of(Part(parts.name(sorted(works), None), 0, works=tuple(works))) in NAMES
    assert {stage_bars.stage_of(Part(name, 0)) for name in (*FLOORS, *LAST)} <= set(NAMES)


def test_only_shown_stages_stand_in_the_legend(accounts: Analysis) -> None:
    legend = stage_legend(chart_of(accounts))
    shown = (
        "floors", "imbalance", "GEMM", "gate", "top-k", "dispatch", "combine", "outside", "host", "unattributed",
    )  # fmt: skip
    assert [key.words for key in legend.keys] == [stage.meaning for stage in STAGES if stage.name in shown]


def test_only_what_is_wide_enough_is_labelled() -> None:
    bars = [{"form": "a", "stage": "dispatch", "ps": size} for size in (20, 80)]
    assert [bar.get("label", False) for bar in labelled(bars, 0)] == [False, True]
    assert [bar.get("label", False) for bar in labelled(bars, 400)] == [False, False]


def luminance(colour: str) -> float:
    """Return the relative luminance of WCAG 2.1."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_names_are_read_on_their_colours(stage) -> None:
    low, high = sorted(map(luminance, (stage.colour, stage.ink)))
    assert (high + 0.05) / (low + 0.05) >= 4.5


def test_every_stage_has_a_colour_of_its_own() -> None:
    assert len({stage.colour for stage in STAGES}) == len(STAGES)
    assert "datasets" not in stage_bars.draw(3).to_dict()
