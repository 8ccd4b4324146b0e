"""Profiles in a report: numbers that add up by hand, files that are refused, and text that stays text."""

from __future__ import annotations

import copy
import html
import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import vl_convert
from hypothesis import given
from hypothesis import strategies as st

from reports.errors import ReportError
from reports.output import canvas
from reports.output.blocks import Chart, Panel, Table, Text
from reports.page import build
from reports.profile import profile_section
from reports.profile.figures import STAGES, share_chart
from reports.reading import documents
from reports.records.profile import Profile, ProfileFile, StagePart
from tests.reports import profiled
from tests.reports.profiled import content, on_a_gpu, profile, write
from tests.reports.within import within


def parsed(found: dict[str, Any]) -> ProfileFile:
    file = documents.parsed(Path("profile.json"), json.loads(json.dumps(found)))
    assert isinstance(file, ProfileFile)
    return file


def panel(found: dict[str, Any]) -> Panel:
    (shown,) = within(profile_section.profile_section([parsed(found)]), Panel)
    return shown


def notes(found: dict[str, Any]) -> list[str]:
    return [text.words for text in within(panel(found), Text)]


def rows(table: Table) -> list[dict[str, str]]:
    return [dict(zip([column.title for column in table.columns], row, strict=True)) for row in table.rows]


def test_a_file_is_known_by_its_kind() -> None:
    file = parsed(content())
    assert (file.title, file.device) == ("sparse (sparse head), top_k routing, float32", "CPU Some CPU, 2 threads")
    assert profile_section.profile_section([]) is None
    assert profile_section.tally([]) == ""


def test_the_tables_of_a_cpu() -> None:
    stages, busy, longest, traces = within(panel(content(profile(), profile("eager", scale=0.5))), Table)
    assert rows(stages) == [
        {
            "form": form, "rows": "256", "call, profiled": call, "route": "10.0 %", "dispatch": "15.0 %",
            "experts": "40.0 %", "combine": "10.0 %", "other": "25.0 %", "told by": "ranges",
        }
        for form, call in (("loop", "1.00 ms"), ("eager", "500 µs"))
    ]  # fmt: skip
    assert rows(busy)[0] == {
        "form": "loop", "rows": "256", "calls": "10", "operators or nodes": "42", "in operators": "800 µs",
        "share": "80.0 %", "between operators": "200 µs",
    }  # fmt: skip
    assert [(row["operator, kernel or node"], row["share"], row["times"]) for row in rows(longest)[:2]] == [
        ("aten::mm", "50.0 %", "16"),
        ("aten::index", "30.0 %", "2.5"),
    ]
    assert rows(traces)[1]["beside profile.json"] == "sparse-eager-n256-float32-cpu/host_1.2.pt.trace.json.gz"


def test_the_tables_of_a_gpu_set_the_host_against_it() -> None:
    busy, longest = map(rows, within(panel(on_a_gpu()), Table)[1:3])
    assert [row["form"] for row in busy] == ["triton", "triton (graph)", "onnxruntime"]
    assert (busy[0]["GPU busy"], busy[0]["GPU idle"]) == ("800 µs", "200 µs")
    assert (busy[0]["host until the last launch returns"], busy[0]["of it while the GPU is busy"]) == (
        "900 µs",
        "600 µs",
    )
    assert len(longest[0]["operator, kernel or node"]) == profile_section.NAME_WIDTH
    assert longest[-1]["where"] == "CUDAExecutionProvider"
    told, left_out = notes(on_a_gpu())
    assert told.startswith("No range names a stage in triton (graph) and onnxruntime:")
    assert left_out == "loop (graph) at 32 and 256 rows was left out: its call waits"


def test_an_engine_that_profiles_itself_is_said_to_be_slowed() -> None:
    found = content(profile(), profile("onnxruntime"))
    found["profiles"][1]["operators"][0]["where"] = "CPUExecutionProvider"
    (note,) = notes(found)
    assert note.startswith("An engine's own profile, as of onnxruntime, costs microseconds per node:")
    assert notes(content()) == []


def test_each_number_of_rows_has_its_chart_and_sentence() -> None:
    found = content(profile(), profile("eager", rows=8), profile("compile", rows=8))
    for part, seconds in (("experts", 300), ("other", 350)):
        found["profiles"][1]["parts"][part]["seconds"] = seconds * 1e-6
    for part, seconds in (("experts", 500), ("fused", 100), ("other", 50)):
        found["profiles"][2]["parts"][part]["seconds"] = seconds * 1e-6
    charts = within(panel(found), Chart)
    assert [chart.heading for chart in charts] == ["8 rows", "256 rows"]
    assert "eager 35.0 % outside all stages and compile 50.0 % in experts" in charts[0].message
    section = profile_section.profile_section([parsed(found)])
    assert section
    assert section.findings == [
        "Of a profiled call of sparse on 8 rows the experts and what is fused take 30.0 % (eager) to 60.0 % (compile); "
        "no operator runs for 20.0 % (eager).",
        "Of a profiled call of sparse on 256 rows the experts and what is fused take 40.0 % (loop); no operator runs "
        "for 20.0 % (loop).",
    ]


def divided(form: str, parts: dict[str, int]) -> Profile:
    """Return a profile in which stages have these shares of a millisecond, all that a chart of it needs."""
    whole = sum(parts.values())
    seconds = {stage: StagePart(seconds=1e-3 * part / whole, launches=1) for stage, part in parts.items()}
    return Profile.model_construct(form=form, seconds=1e-3, parts=seconds)


def test_the_chart_is_valid() -> None:
    assert share_chart([divided("loop", {"experts": 8, "other": 2})]).to_dict()


@given(st.lists(st.lists(st.integers(0, 100), min_size=6, max_size=6).filter(any), min_size=1, max_size=4))
def test_bars_are_divided_without_gap_or_overlap(drawn: list[list[int]]) -> None:
    names = [stage.name for stage in STAGES]
    profiles = [divided(str(form), dict(zip(names, parts, strict=True))) for form, parts in enumerate(drawn)]
    spec = canvas.spec(share_chart(profiles))
    pieces = spec["datasets"][spec["layer"][0]["data"]["name"]]
    for each in profiles:
        own = [piece for piece in pieces if piece["form"] == each.form]
        assert own[0]["start"] == 0
        assert own[-1]["end"] == pytest.approx(1)
        assert [piece["stage"] for piece in own] == [name for name in names if each.share(name)]
        for left, right in pairwise(own):
            assert left["end"] == pytest.approx(right["start"], abs=1e-5)


def test_stages_are_told_apart_without_colour() -> None:
    assert len({stage.letter for stage in STAGES}) == len({stage.colour for stage in STAGES}) == len(STAGES)
    svg = vl_convert.vegalite_to_svg(within(panel(content()), Chart)[0].spec | {"width": 500})
    letters = re.findall(r"<text[^>]*>([A-Z])</text>", svg)
    assert letters == ["R", "D", "E", "C", "O"]
    assert "1.00 ms" in svg


def without(name: str) -> dict[str, Any]:
    found = content()
    del found["profiles"][0][name]
    return found


def changed(*path: Any, to: Any) -> dict[str, Any]:
    found = copy.deepcopy(content())
    place = found
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = to
    return found


FIRST = ("profiles", 0)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (content(format=2), "newer moegap"),
        (content(format="one"), "broken at `format`"),
        (content(runs_on="toaster"), "broken at `runs_on`"),
        (content(profiles=[]), "broken at `profiles`"),
        (content(profiles=[7]), "broken at `profiles.0`"),
        (without("parts"), "broken at `profiles.0.parts`"),
        (without("busy"), "broken at `profiles.0.busy`"),
        (changed(*FIRST, "seconds", to=float("nan")), "broken at `profiles.0.seconds`"),
        (changed(*FIRST, "seconds", to=float("inf")), "broken at `profiles.0.seconds`"),
        (changed(*FIRST, "seconds", to=0), "broken at `profiles.0.seconds`"),
        (changed(*FIRST, "seconds", to=1e200), "broken at `profiles.0.seconds`"),
        (changed(*FIRST, "seconds", to=2e-3), "parts do not sum up"),
        (changed(*FIRST, "parts", "route", "seconds", to=101e-6), "parts do not sum up"),
        (changed(*FIRST, "parts", "route", "seconds", to=-1e-6), "broken at `profiles.0.parts.route.seconds`"),
        (changed(*FIRST, "parts", "gossip", to={"seconds": 0, "launches": 0}), "broken at `profiles.0.parts.gossip"),
        (changed(*FIRST, "gap", to=0), "busy and gap do not sum up"),
        (changed(*FIRST, "operators", 0, "seconds", to=1e-6), "operators do not sum up"),
        (changed(*FIRST, "overlap", to=300e-6), "overlap is longer"),
        (changed(*FIRST, "told_by", to="guess"), "broken at `profiles.0.told_by`"),
        (changed(*FIRST, "form", to="\ud800"), "broken at `profiles.0.form`"),
        (changed("environment", "measured_at", to="yesterday"), "no ISO 8601 time"),
    ],
)
def test_a_broken_file_is_refused_in_one_sentence(found: dict[str, Any], reason: str, tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=reason) as raised:
        parsed(found)
    assert "\n" not in str(raised.value)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "profile.json", content())
    path.write_text(path.read_text()[:-40])
    with pytest.raises(ReportError, match="was cut off"):
        build([path], tmp_path / "report")


def test_the_page_and_the_markdown_show_it(tmp_path: Path) -> None:
    gpu = write(tmp_path / "gpu.json", on_a_gpu())
    made = build([write(tmp_path / "profile.json", content()), gpu], tmp_path / "report")
    page, told = made.index.read_text(), made.markdown.read_text()
    for words in ("Where a call’s time goes, as a profiler saw it", "CPU Some CPU, 2 threads", "2026-11-25 20:50 UTC"):
        assert words in page
        assert words in told
    assert "moegap profile sparse" in page
    assert "0123456789ab with uncommitted changes" in page
    assert "4 profiles of 2 heads." in page
    assert page.count('class="chart"') == 2
    section = profile_section.profile_section([parsed(content()), parsed(on_a_gpu())])
    assert section
    assert made.headline == section.findings


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    attack = "</script><img src=x onerror=alert(1)>|`*_"
    found = content(profile(attack, traces=[attack]), checkpoint=attack, head=attack, policy=attack, dtype=attack)
    found["profiles"][0]["operators"][0] |= {"name": attack, "where": attack}
    found |= {
        "command": attack,
        "versions": {attack: attack},
        "left_out": [profiled.profile(attack) | {"reason": attack}],
    }
    found["environment"] |= {"cpu": attack, "device": attack}
    made = build([write(tmp_path / "profile.json", found)], tmp_path / "report")
    page, told = made.index.read_text(), made.markdown.read_text()
    assert attack not in page
    assert "<img src=x" not in page
    assert html.escape(attack, quote=False).split("|")[0] in page
    assert "<img" not in told.partition("## Make it again")[0]  # a command is a code span
