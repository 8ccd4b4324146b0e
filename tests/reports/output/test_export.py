"""Charts as pictures: every one of the page, readable by itself."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import altair as alt
import pytest

from reports.output import canvas
from reports.output.blocks import Block, Chart, Choice, Panel, Section, choosing
from reports.output.export import Picture, export, pictures, specification
from reports.output.styles import styles
from reports.page import Report, build
from tests.reports import profiled, studies

PNG = b"\x89PNG\r\n\x1a\n"


def drawn(heading: str = "sparse head") -> Chart:
    looks = styles(["loop", "eager"])
    base = alt.Chart(canvas.data([{"form": "loop", "x": 1, "y": 2}, {"form": "eager", "x": 2, "y": 3}]))
    points = base.mark_point().encode(x="x:Q", y="y:Q", color=canvas.colour(looks, "form"))
    return Chart(heading, canvas.finished(points).to_dict(), "The loop takes 2 s.", subject="Speed-up")


def section(*blocks: Block) -> list[Section]:
    return [Section("speedup", "Speed-up", blocks)]


def test_every_chart_of_the_page_is_a_picture_twice(report: Report, tmp_path: Path) -> None:
    written = list(export(report.pictures, tmp_path))
    names = sorted(path.name for path in (tmp_path / "charts").iterdir())
    assert len(written) == report.index.read_text(encoding="utf-8").count('<div class="chart"')
    assert names == sorted(f"{path.stem}.{kind}" for path in written for kind in ("png", "svg"))
    for path in written:
        assert path.read_text(encoding="utf-8").startswith("<svg")
        assert path.with_suffix(".png").read_bytes().startswith(PNG)


def test_a_picture_tells_its_setting_its_message_and_its_forms(tmp_path: Path) -> None:
    panel = Panel("Head alone, float32", "CPU timings on AMD EPYC, 1 thread", [drawn()])
    (path,) = export(pictures(section(panel)), tmp_path)
    assert path.name == "speedup-1-sparse-head.svg"
    text = re.sub(r"<[^>]+>", " ", path.read_text(encoding="utf-8"))
    for words in (
        "Speed-up: sparse head",
        "Head alone, float32; CPU timings on AMD EPYC, 1 thread",
        "The loop takes 2 s.",
        "loop",
        "eager",
    ):
        assert words in text
    assert "currentColor" not in path.read_text(encoding="utf-8")


def test_a_chart_of_choices_shows_its_first(tmp_path: Path) -> None:
    spec: dict[str, Any] = canvas.finished(
        alt.Chart(alt.NamedData("bars")).mark_bar().encode(x="x:Q", y="y:N")
    ).to_dict()
    choices = [Choice(word, {"bars": [{"x": 1, "y": word}]}, f"{word} is told.") for word in ("first", "second")]
    (path,) = export(pictures(section(choosing("time", spec, choices))), tmp_path)
    text = re.sub(r"<[^>]+>", " ", path.read_text(encoding="utf-8"))
    assert "Time: first" in text
    assert "first is told." in text
    assert "second" not in text


def test_every_kind_of_panel_tells_its_setting(tmp_path: Path) -> None:
    files = [*studies.everything(tmp_path), profiled.write(tmp_path / "profile.json", profiled.content())]
    found = build(files, tmp_path / "report").pictures
    assert {name.partition("-")[0] for name in found} == {"training", "policies", "sharpness", "profile"}
    assert all(picture.setting for picture in found.values())


def test_old_pictures_go(tmp_path: Path) -> None:
    assert list(export(pictures(section(drawn("one"), drawn("two"))), tmp_path))
    (tmp_path / "charts" / "notes.txt").write_text("mine")
    assert list(export(pictures(section(drawn("one"))), tmp_path))
    assert sorted(path.name for path in (tmp_path / "charts").iterdir()) == [
        "notes.txt", "speedup-1-one.png", "speedup-1-one.svg",
    ]  # fmt: skip


@pytest.mark.parametrize("heading", ["../../etc/passwd", "a/b", "", "   ", "\u202e\0", "x" * 500])
def test_a_name_from_a_result_file_leads_nowhere_else(tmp_path: Path, heading: str) -> None:
    (name,) = pictures(section(drawn(heading)))
    assert re.fullmatch(r"speedup-1[a-z0-9-]{0,42}", name)


def test_the_charts_own_specification_stays_as_it_was() -> None:
    chart = drawn()
    before = repr(chart.spec)
    specification(Picture(chart, "a setting"))
    assert repr(chart.spec) == before
