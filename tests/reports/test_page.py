"""The page and its Markdown: whole, self-contained, and deaf to what a result file tries to say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from typer import Typer
from typer.testing import CliRunner

from bench.commands.report import report as command
from reports.errors import ReportError
from reports.output import markdown
from reports.page import Report, build
from reports.records.files import StorageError
from reports.records.record import Group
from tests.reports.synthetic import benchmark, ceilings, record, samples, steps, unmeasured, write

ROOT = Path(__file__).parents[2]
WRITTEN = ["index.html", "report.md", "summary.csv"]
HOSTILE = "</script><!--<img src=x onerror=alert(1)>\"'|`[a](javascript:b) @user {{ 7*7 }}"


class Outline(HTMLParser):
    """The tags of a page with their attributes, its charts with their data, and the text outside scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.specs: list[dict[str, Any]] = []
        self.choices: list[list[dict[str, Any]]] = []
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if tag in ("script", "style"):
            data = attributes.get("type") == "application/json"
            self._inside = str(attributes.get("class") or attributes.get("id") or "spec") if data else tag

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "spec":
            spec = json.loads(data)
            self.specs.append(spec | {"datasets": unpacked(spec.get("datasets", {}))})
        elif self._inside == "choices":
            choices = [choice | {"data": unpacked(choice["data"])} for choice in json.loads(data)]
            self.specs[-1]["datasets"] = choices[0]["data"]
            self.choices.append(choices)
        elif not self._inside:
            self.text += data

    @property
    def executed(self) -> int:
        """How many scripts run; the others are data."""
        return sum("type" not in script for script in self.all("script"))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def unpacked(datasets: dict[str, Any]) -> dict[str, Any]:
    """Return the data of a chart as rows, from columns of them."""
    return {
        name: [dict(zip(data, values, strict=True)) for values in zip(*data.values(), strict=True)]
        if isinstance(data, dict)
        else data
        for name, data in datasets.items()
    }


@pytest.fixture(scope="module")
def page(report: Report) -> Outline:
    return Outline(report.index.read_text(encoding="utf-8"))


def built(folder: Path, *entries: dict[str, Any], **rest: Any) -> Report:
    return build([write(folder / "run.json", list(entries), **rest)], folder / "report")


def test_nothing_is_fetched_from_anywhere(page: Outline) -> None:
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "data", "action", "poster", "xlink:href"):
            value = attributes.get(name) or ""
            assert value == "" or value.startswith("#") or (tag, value) == ("link", "data:,")
    (policy,) = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "@import" not in page.text
    assert not any("$schema" in spec and "url" in spec.get("data", {}) for spec in page.specs)


def test_the_page_is_small_and_its_parts_are_replaced_whole(report: Report) -> None:
    assert report.index.stat().st_size < 3_000_000
    assert sorted(path.name for path in report.index.parent.iterdir()) == WRITTEN


def test_every_section_has_a_heading_and_a_link(page: Outline) -> None:
    ids = [attributes["id"] for attributes in page.all("section") if "id" in attributes]
    expected = "verdict account speedup latency accuracy routing efficiency classifier cold-start cases"
    assert ids == [*expected.split(), "not-measured", "noise", "environment", "remake"]
    assert {f"#{name}" for name in ids} == {link["href"] for link in page.all("a")}
    for landmark in ("header", "nav", "main", "footer"):
        assert len(page.all(landmark)) == 1


def test_an_account_adds_its_sections(account_report: Report) -> None:
    page = Outline(account_report.index.read_text(encoding="utf-8"))
    ids = [attributes["id"] for attributes in page.all("section") if "id" in attributes]
    expected = "verdict account speedup latency roofline accuracy routing efficiency classifier cold"
    last = "cold-start cases not-measured sampling noise environment remake"
    assert ids == [*expected.split(), *last.split()]
    assert {f"#{name}" for name in ids} == {link["href"] for link in page.all("a")}
    settings = len({"head", "classifier", "cold", "uniform", "zipf2", "one"})
    assert len(page.specs) == 1 + 4 + 1 + 1 + 6 + 6 + 1 + 2 + 1 + 1 + settings
    assert len(page.choices) == 1 + 1 + 1 + settings
    for text in (page.text, account_report.markdown.read_text(encoding="utf-8")):
        assert "the machine allows 3.77×, limited by arithmetic" in text
        assert "At 2,048 rows the sparse head in the form onnxruntime takes" in text
        assert "Measuring took" in text
        assert "2048 x 2048 x 2048" in text
    assert account_report.index.stat().st_size < 3_000_000


def test_every_heading_of_a_table_has_a_scope_and_every_chart_a_message(page: Outline) -> None:
    assert all(heading.get("scope") in ("col", "row") for heading in page.all("th"))
    charts = [attributes for attributes in page.all("div") if attributes.get("class") == "chart"]
    assert len(charts) == len(page.specs) == 1 + 4 + 6 + 6 + 2 + 1 + 2
    assert all(chart["role"] == "img" and str(chart["aria-label"]).endswith(".") for chart in charts)


def test_both_reports_tell_the_verdict_and_the_reasons(page: Outline, report: Report) -> None:
    for text in (page.text, report.markdown.read_text(encoding="utf-8")):
        assert "slower up to 32 rows" in text
        assert "It needs 3.77" in text
        assert "CPU timings on AMD EPYC 7B13" in text
        assert text.count("Triton needs a GPU to be timed; here it runs interpreted.") == 1
        assert "git checkout 31a5c09" in text
        assert "moegap report" in text


def test_markdown_tables_are_whole(report: Report) -> None:
    lines = report.markdown.read_text(encoding="utf-8").splitlines()
    starts = [
        place for place, line in enumerate(lines) if line.startswith("|") and not lines[place - 1].startswith("|")
    ]
    assert len(starts) == 1 + 2 + 1 + 2 + 2
    for start in starts:
        rows = lines[start : lines.index("", start)]
        assert lines[start - 1] == ""
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1


def test_the_same_results_give_the_same_bytes(tmp_path: Path) -> None:
    entry = benchmark(record(), samples(1e-3))
    first, second = (built(tmp_path, entry).index.read_bytes() for _ in range(2))
    assert first == second


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    names = ("suite", "checkpoint", "form", "device_name", "cpu", "driver", "commit", "data", "source", "shrunk")
    fields: dict[str, Any] = dict.fromkeys(names, HOSTILE)
    fields |= {"versions": {HOSTILE: HOSTILE}, "runs_on": {HOSTILE: HOSTILE}}
    fields |= {"traced": {HOSTILE: 1e-6, "experts": 8e-4}, "group_id": HOSTILE, "least_bytes": 1_000}
    entries = [benchmark(record(head=head, **fields), samples(1e-3)) for head in ("dense", "sparse")]
    entries += steps(record(**fields), {"balanced": (1e-3, 4), "combined": (3e-3, 5)})
    other = benchmark(record(**fields, activation=HOSTILE, case_id="other"), samples(1e-3))
    failed = record(**fields, status="failed", reason=HOSTILE, rows=9)
    machine = dict.fromkeys(("device_name", "cpu", "thread_wait", "product"), HOSTILE)
    group = Group(group_id=HOSTILE, anchor=[1e-3] * 20, wall=3, sampling=2, cold_start=1)
    report = built(tmp_path, *entries, other, unmeasured=[failed], ceilings=[ceilings(**machine)], groups=[group])
    text = report.index.read_text(encoding="utf-8")
    page = Outline(text)
    assert not page.all("img")
    assert "<!--" not in text
    assert page.executed == 2
    assert HOSTILE in page.text
    assert HOSTILE in json.dumps([spec["layer"] for spec in page.specs], ensure_ascii=False).replace('\\"', '"')
    marked = report.markdown.read_text(encoding="utf-8")
    prose = re.sub("``.*``", "", marked)
    assert "<img" not in prose
    assert "@user" not in prose
    assert not re.search(r"(?<!\\)\]\(", prose)


def test_text_in_markdown_shows_as_it_is() -> None:
    assert markdown.text("a_b*c|d\n#e") == r"a\_b\*c\|d \#e"
    assert markdown.text("<b>&") == "&lt;b&gt;&amp;"
    assert markdown.code("a`b") == "`` a`b ``"


@pytest.mark.parametrize(
    ("heads", "expected"),
    [
        (["sparse"], "No dense head was measured beside the sparse one: a speed-up needs both."),
        (["soft", "sparse"], "No dense head was measured beside the soft and sparse one"),
        (["dense"], "Only dense heads were measured"),
        ([], "Nothing was measured, so there is no speed-up to report"),
    ],
)
def test_what_is_missing_is_said(tmp_path: Path, heads: list[str], expected: str) -> None:
    entries = [benchmark(record(head=head), samples(1e-3)) for head in heads]
    report = built(tmp_path, *entries, unmeasured=unmeasured())
    assert expected in Outline(report.index.read_text(encoding="utf-8")).text
    assert expected in report.markdown.read_text(encoding="utf-8")


def test_heads_that_never_meet_are_said_not_to(tmp_path: Path) -> None:
    entries = [benchmark(record(head="dense", rows=1), samples(1e-3)), benchmark(record(rows=2), samples(1e-3))]
    assert "none can be compared" in built(tmp_path, *entries).index.read_text(encoding="utf-8")


def test_a_single_sample_without_optional_facts_is_enough(tmp_path: Path) -> None:
    bare = record(
        rows=0, rows_per_expert=[], test_accuracy=None, cold_start=None, peak_memory=None, load_1m=None, commit="",
        error=None, tolerance=None, versions={}, runs_on={}, flops=0, data="", weights="initialised",
    )  # fmt: skip
    report = built(tmp_path, benchmark(bare, [1e-3], per_block=1))
    text = report.index.read_text(encoding="utf-8")
    assert "Every case was measured." in text
    assert "git checkout" not in text


def test_a_replaced_case_is_told(tmp_path: Path) -> None:
    paths = [write(tmp_path / name, [benchmark(record(), samples(1e-3))]) for name in ("a.json", "b.json")]
    text = build(paths, tmp_path / "report").index.read_text(encoding="utf-8")
    assert "1 case in more than one file" in text


def test_a_file_in_the_place_of_the_folder_is_refused(cpu_run: Path) -> None:
    with pytest.raises(ReportError, match="is not a folder"):
        build([cpu_run], cpu_run)


def test_a_failed_write_leaves_the_old_page_and_no_draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = benchmark(record(), samples(1e-3))
    old = built(tmp_path, entry).index.read_bytes()

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(StorageError, match="No space"):
        built(
            tmp_path, entry, entry | {"extra_info": record(form="loop", blocks=list(range(40))).model_dump(mode="json")}
        )
    folder = tmp_path / "report"
    assert (folder / "index.html").read_bytes() == old
    assert sorted(path.name for path in folder.iterdir()) == WRITTEN


def test_a_report_is_built_without_torch(cpu_run: Path, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name.split('.')[0] in ('torch', 'triton', 'models', 'kernels', 'bench', 'onnxruntime'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "import reports.page\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_the_command_prints_where_the_report_is_and_its_headline(tmp_path: Path) -> None:
    path = write(tmp_path / "run.json", [benchmark(record(), samples(1e-3))])
    app = Typer()
    app.command()(command)
    result = CliRunner().invoke(app, [str(path), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[-4:] == [str(tmp_path / "out" / name) for name in ("charts", "summary.csv", "report.md", "index.html")]
    assert lines[-5] == "1 case measured."
