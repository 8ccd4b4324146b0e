"""The page with studies: alone, beside benchmark results, from hostile files, and with the paper beside it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer import Typer
from typer.testing import CliRunner

from bench.commands.report import report as command
from reports.errors import ReportError
from reports.page import Report, build
from tests.reports import studies
from tests.reports.test_page import HOSTILE, Outline


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("studies")
    return build(studies.everything(folder), folder / "report", paper=True)


@pytest.fixture(scope="module")
def page(alone: Report) -> Outline:
    return Outline(alone.index.read_text(encoding="utf-8"))


def sections(page: Outline) -> list[str]:
    return [str(attributes["id"]) for attributes in page.all("section") if "id" in attributes]


def test_studies_alone_show_their_sections_and_no_empty_ones(page: Outline) -> None:
    assert sections(page) == ["verdict", "training", "policies", "sharpness", "beside", "environment", "remake"]
    assert {link["href"] for link in page.all("a")} == {f"#{name}" for name in sections(page)}
    for absent in ("Nothing was measured", "No sparse head", "speed-up", "Last measured"):
        assert absent not in page.text


def test_every_chart_has_its_sentence_as_alternative_text(page: Outline) -> None:
    charts = [attributes for attributes in page.all("div") if attributes.get("class") == "chart"]
    assert len(charts) == len(page.specs) == 6 + 3 + 2 + 2 + 2 * 4
    assert all(chart["role"] == "img" and str(chart["aria-label"]).endswith(".") for chart in charts)
    assert all(json.dumps(spec, allow_nan=False) for spec in page.specs)


def test_the_page_is_small(alone: Report) -> None:
    assert alone.index.stat().st_size < 3_000_000


def test_both_reports_tell_the_findings(alone: Report, page: Outline) -> None:
    for text in (page.text, re.sub(r"\\(.)", r"\1", alone.markdown.read_text(encoding="utf-8"))):
        assert "Dynamic routing (top_p, threshold and expert_choice) is more accurate than fixed capacity" in text
        assert "sparse 88.20 ± 0.10 % (3 seeds)" in text
        assert "Of 24 published results 0 were run." in text
        assert "moegap train --head all --seeds 3 --preset paper --data cifar10 --out runs/paper" in text
        assert "second difference of the loss agrees with the curvature" in text
    assert alone.headline[0].startswith("Preset fast on cifar10-jpeg, 12 epochs: mean test accuracy")
    assert alone.headline[1].startswith("Dynamic routing")


def test_markdown_tables_are_whole(alone: Report) -> None:
    lines = alone.markdown.read_text(encoding="utf-8").splitlines()
    starts = [
        place for place, line in enumerate(lines) if line.startswith("|") and not lines[place - 1].startswith("|")
    ]
    assert len(starts) == 1 + 2 + 1 + 2
    for start in starts:
        end = next(place for place in range(start, len(lines)) if not lines[place])
        assert lines[start - 1] == ""
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in lines[start:end]}) == 1


def test_studies_stand_beside_benchmark_results(cpu_run: Path, tmp_path: Path) -> None:
    report = build([studies.everything(tmp_path)[1], cpu_run], tmp_path / "report", paper=True)
    page = Outline(report.index.read_text(encoding="utf-8"))
    measured = "account speedup latency accuracy routing policies beside efficiency classifier cold-start cases"
    assert " ".join(sections(page)) == f"verdict {measured} not-measured noise environment remake"
    assert "Of 24 published results 0 were run. Of 4 counts, of parameters and operations, 4 agree." in page.text
    assert report.headline[-1].startswith("72 cases measured")
    assert report.index.stat().st_size < 3_000_000


def test_each_kind_stands_alone(tmp_path: Path) -> None:
    for path in studies.everything(tmp_path):
        build([path], tmp_path / path.stem)


def test_the_same_studies_give_the_same_bytes(tmp_path: Path) -> None:
    paths = studies.everything(tmp_path)[1:2]
    first, second = (build(paths, tmp_path / "report").index.read_bytes() for _ in range(2))
    assert first == second


def named(value: Any) -> Any:
    """Return `value` with every free text replaced by a hostile one."""
    free = {
        "preset", "data", "folder", "head", "policy", "checkpoint", "loss", "dtype", "form", "reason", "status",
        "direction", "range", "subset", "command", "device", "cpu", "python", "torch", "platform", "date",
    }  # fmt: skip
    if isinstance(value, dict):
        items = value.items()
        return {key: HOSTILE if key in free and isinstance(old, str) else named(old) for key, old in items}
    return [named(item) for item in value] if isinstance(value, list) else value


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    contents = [studies.training(), studies.policies(domains=[HOSTILE]), studies.lone_history(), studies.sharpness()]
    for content in contents[3]["parts"]:
        content["notes"] = [HOSTILE]
    paths = [studies.write(tmp_path / f"{place}.json", named(content)) for place, content in enumerate(contents)]
    report = build(paths, tmp_path / "report", paper=True)
    text = report.index.read_text(encoding="utf-8")
    page = Outline(text)
    assert not page.all("img")
    assert "<!--" not in text
    assert page.executed == 2
    assert HOSTILE in page.text
    prose = re.sub("``.*``", "", report.markdown.read_text(encoding="utf-8"))
    assert "<img" not in prose
    assert "@user" not in prose
    assert not re.search(r"(?<!\\)\]\(", prose)


def test_nothing_at_all_needs_the_paper(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"No result file was given.*--paper"):
        build([], tmp_path / "report")
    page = Outline(build([], tmp_path / "report", paper=True).index.read_text(encoding="utf-8"))
    assert sections(page) == ["verdict", "beside", "remake"]
    assert "Nothing was measured or trained yet." in page.text


def test_the_command_takes_any_file_and_none(tmp_path: Path) -> None:
    app = Typer()
    app.command()(command)
    result = CliRunner().invoke(app, ["--paper", "--out", str(tmp_path / "none")])
    assert result.exit_code == 0
    assert "Of 24 published results 0 were run." in result.stdout
    path = studies.write(tmp_path / "policies.json", studies.policies())
    result = CliRunner().invoke(app, [str(path), "--out", str(tmp_path / "one")])
    assert result.exit_code == 0
    assert "Dynamic routing" in result.stdout


def test_several_policy_studies_are_told_apart(tmp_path: Path) -> None:
    paths = [
        studies.write(tmp_path / f"{data}.json", studies.policies(data=data, latency=[]))
        for data in ("digits", "mixed")
    ]
    lines = build(paths, tmp_path / "report").headline
    assert [line.split(":")[0] for line in lines] == [
        f"Preset fast on {data}, 12 epochs" for data in ("digits", "mixed")
    ]
