"""Hostile files: each gives a whole page or one sentence, whatever stands in it."""

from __future__ import annotations

import copy
import gzip
import json
import os
import re
from collections.abc import Callable, Iterator
from math import isfinite
from pathlib import Path
from typing import Any

import pytest
import vl_convert
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from reports.account import text as account_text
from reports.account.account import as_json
from reports.errors import ReportError
from reports.numbers import units
from reports.output import markdown
from reports.page import build
from reports.reading.load import Results, load
from reports.reading.visible import BRIEF, MOST, brief, visible
from reports.records.record import CEILINGS_KEY, GROUPS_KEY, NOT_MEASURED_KEY, CaseRecord, Ceilings, Group
from reports.records.timing import TimingRun
from reports.speed.analysis import analyse
from reports.targets.page import render
from reports.targets.run import runs
from tests.reports import studies, timings
from tests.reports.synthetic import accounted, benchmark, ceilings, record, samples, unmeasured, write
from tests.reports.test_page import Outline

Path_ = tuple[str | int, ...]
Content = dict[str, Any]
TEXTS = {
    "markup": "</script><script>alert(1)</script><img src=x onerror=alert(1)>",
    "template": "{{ 7*7 }}{% raw %}{# x #}",
    "markdown": "a|b\n\n# c\n```\n[x](javascript:y) <!-- @user",
    "terminal": "\x1b[2J\x1b[31mred\x07",
    "direction": "\u202egnp.exe\u2066\u200b",
    "null": "a\0b",
    "surrogate": "\ud800",
    "long": "x" * 100_000,
    "formula": "=1+1",
}
NUMBERS = [1e300, 1e-300, 5e-324, 1e30, 1e15, 1e-12, 10**30, 10**24, 2**63, 10**9, -1, 0, -0.0, 2.5]
NO_NUMBERS = [float("nan"), float("inf"), float("-inf"), True, False, None, "3", "", [], {}, [[[[]]]], {"a": {"b": []}}]
HOSTILE = [*TEXTS.values(), *NUMBERS, *NO_NUMBERS]


def small_run(path: Path) -> Path:
    """Write a result with everything that a report can show, of few cases and few samples."""
    entries: list[Content] = []
    for head in ("dense", "sparse"):
        for rows in (32, 256):
            entries += accounted(record(head=head, rows=rows), 1e-5 * rows * (1 + (head == "sparse")), rows)
    skewed = record(routing="zipf2", case_id="skewed", group_id="skewed", load_cv=1.4, distinct_experts=8)
    entries.append(benchmark(skewed, samples(3e-3)))
    for entry in entries:
        entry["stats"] = {"data": entry["stats"]["data"][:14]}
        entry["extra_info"]["blocks"] = entry["extra_info"]["blocks"][:14]
    names = dict.fromkeys(entry["extra_info"]["group_id"] for entry in entries)
    groups = [
        Group(
            group_id=name, anchor=[1e-3] * 6 + [2e-3], throttled=[2], clock_mhz=[1e3], power_w=[9.0],
            wall=20, sampling=12, cold_start=3,
        )
        for name in names
    ]  # fmt: skip
    return write(path, entries, unmeasured()[-3:], [ceilings()], groups)


def self_test() -> Content:
    side = {"samples_a": [1e-3] * 14, "blocks_a": [place // 2 for place in range(14)]}
    side |= {"samples_b": [1.1e-3] * 14, "blocks_b": side["blocks_a"]}
    about = {"head": "dense", "form": "eager", "rows": 8, "clock": "wall", "stopped_by": "time", "failure": ""}
    comparisons = [{"slowdown": slowdown, **about, **side} for slowdown in (0, 0.1)]
    fields = {"kind": "self-test", "neighbour": False, "seconds": 1.0, "seed": 0, "comparisons": comparisons}
    return studies.about("self-test", "moegap self-test") | fields


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Content]:
    """The content of a good file of each kind."""
    run = json.loads(small_run(tmp_path_factory.mktemp("small") / "run.json").read_text())
    made = {
        "training": studies.training(),
        "history": studies.lone_history(),
        "policies": studies.policies(),
        "sharpness": studies.sharpness(),
        "self-test": self_test(),
    }
    return {"results": run, **json.loads(json.dumps(made))}


def places(node: Any, at: Path_ = ()) -> Iterator[Path_]:
    """Yield where each field and element of a JSON value stands, of lists the first and the last element's."""
    children: list[tuple[str | int, Any]] = []
    if isinstance(node, dict):
        children = list(node.items())
    elif isinstance(node, list):
        children = [(place, node[place]) for place in sorted({0, len(node) - 1}) if node]
    for name, child in children:
        yield (*at, name)
        yield from places(child, (*at, name))


def attacks(node: Any, *at: str | int) -> Iterator[tuple[Path_, Any]]:
    """Yield each place below `at` in a JSON value with a third of the hostile values, the next place with another."""
    for number, place in enumerate(places(node)):
        for value in HOSTILE[number % 3 :: 3]:
            yield (*at, *place), value


def changed(content: Content, place: Path_, value: Any) -> Content:
    """Return a copy of the content with another value at a place."""
    other = copy.deepcopy(content)
    node: Any = other
    for step in place[:-1]:
        node = node[step]
    node[place[-1]] = value
    return other


def outcome(path: Path, out: Path) -> str:
    """Build a report of a file, hold what comes of it to what a reader needs, and return "page" or the sentence."""
    try:
        report = build([path], out)
    except ReportError as error:
        check_sentence(str(error))
        return str(error)
    check_page(Outline(report.index.read_text(encoding="utf-8")))
    check_markdown(report.markdown.read_text(encoding="utf-8"))
    return "page"


def check_sentence(sentence: str) -> None:
    assert sentence.isprintable()
    assert sentence.endswith(".")
    assert len(sentence) < 2_000


def check_page(page: Outline) -> None:
    """Hold a page to: our scripts alone, no markup but ours, text that can be seen, charts that can be drawn."""
    assert page.executed == 2
    assert not page.all("img")
    assert all(letter.isprintable() or letter.isspace() for letter in page.text)
    assert not re.search(r"(?<![\w\\])(nan|inf|None|undefined)(?!\w)", page.text.replace("|None", ""))
    for spec in (*page.specs, *page.choices):
        check_numbers(spec)


def check_numbers(node: Any) -> None:
    """Refuse numbers that JSON does not have, and scales over an empty or, logarithmic, a non-positive domain."""
    if isinstance(node, float):
        assert isfinite(node)
    elif isinstance(node, list):
        for child in node:
            check_numbers(child)
    elif isinstance(node, dict):
        ends = node.get("domain")
        if isinstance(ends, list) and len(ends) == 2 and not any(isinstance(end, str) for end in ends):
            assert ends[0] < ends[1]
            assert node.get("type") != "log" or ends[0] > 0
        for child in node.values():
            check_numbers(child)


def check_markdown(text: str) -> None:
    """Hold Markdown to tables whose rows have as many cells as their headings, and to no unseen character."""
    assert all(letter.isprintable() or letter in "\n\u200b" for letter in text)  # ours, so that no user is mentioned
    lines = text.split("\n")
    for above, line in zip(["", *lines], lines, strict=False):
        if line.startswith("|") and above.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) == len(re.findall(r"(?<!\\)\|", above))


def saved(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_good_files_give_pages(valid: dict[str, Content], tmp_path: Path) -> None:
    for kind, content in valid.items():
        assert outcome(saved(tmp_path / f"{kind}.json", content), tmp_path / kind) == "page"


@pytest.mark.parametrize("kind", ["results", "training", "history", "policies", "sharpness", "self-test"])
def test_any_hostile_value_gives_a_page_or_a_sentence(valid: dict[str, Content], tmp_path: Path, kind: str) -> None:
    content = valid[kind]
    everywhere = list(places(content))

    @settings(max_examples=50 if kind == "results" else 12, deadline=None, database=None, derandomize=True,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(st.sampled_from(everywhere), st.sampled_from(HOSTILE))
    def check(place: Path_, value: Any) -> None:
        outcome(saved(tmp_path / "file.json", changed(content, place, value)), tmp_path / "out")

    check()


@pytest.mark.parametrize("section", ["benchmarks", NOT_MEASURED_KEY, CEILINGS_KEY, GROUPS_KEY])
def test_any_hostile_field_of_a_result_is_read_or_refused(
    valid: dict[str, Content], tmp_path: Path, section: str
) -> None:
    few = [entry for entry in valid["results"]["benchmarks"] if entry["extra_info"]["rows"] == 32]
    content = valid["results"] | {"benchmarks": few} | {section: valid["results"][section][:1]}
    if section == NOT_MEASURED_KEY:
        content["benchmarks"] = few[:1]  # nothing is computed of a case without a time
    for place, value in attacks(content[section], section):
        path = saved(tmp_path / "run.json", changed(content, place, value))
        try:
            analysis = analyse(load([path]))
        except ReportError as error:
            check_sentence(str(error))
        else:
            json.dumps(as_json(analysis), allow_nan=False)
            list(account_text.waterfalls(analysis))


def test_any_hostile_value_of_a_timing_run_gives_a_table_or_is_refused() -> None:
    peers = ("ours", "dense", "grouped_mm", "empty", "copy", "peak")
    timed = [timings.case("paper/256", peer, 1e-5, flops=10**9, least_bytes=10**6) for peer in peers]
    content = json.loads(timings.run(*timed, timings.case("paper/256", "liger")).model_dump_json())
    for place, value in attacks(content):
        try:
            (run,) = runs(Results((), (), (), ()), [TimingRun.model_validate(changed(content, place, value))])
        except ValidationError:
            continue
        except ReportError as error:
            check_sentence(str(error))
            continue
        check_markdown(render(run))


OF_THE_CASE = ("schema_version", "experts", "threads", "test_accuracy")


@pytest.mark.parametrize("number", [10**24, 10**18, 10**9, 1, 0])
def test_numbers_as_large_and_small_as_they_may_be_give_a_page(
    valid: dict[str, Content], tmp_path: Path, number: int
) -> None:
    content = copy.deepcopy(valid["results"])
    for entry in content["benchmarks"]:
        case = entry["extra_info"]
        whole = [name for name, value in case.items() if type(value) is int and name not in OF_THE_CASE]
        real = [name for name, value in case.items() if type(value) is float and name not in OF_THE_CASE]
        case |= dict.fromkeys(whole, number) | dict.fromkeys(real, min(number, 10**9))
        case["rows_per_expert"] = [number for _ in case["rows_per_expert"]]
    content[NOT_MEASURED_KEY].clear()
    assert outcome(saved(tmp_path / "run.json", content), tmp_path / "out") == "page"


@pytest.mark.parametrize(("shortest", "longest"), [(1e-12, 1e-12), (1e9, 1e9), (1e-12, 1e9)])
def test_times_as_short_and_long_as_they_may_be_give_charts(
    valid: dict[str, Content], tmp_path: Path, shortest: float, longest: float
) -> None:
    content = copy.deepcopy(valid["results"])
    for place, entry in enumerate(content["benchmarks"]):
        entry["stats"]["data"] = [shortest, longest] * 7 if place % 2 else [longest, shortest] * 7
    content[CEILINGS_KEY][0] |= {"flops_per_s": 1, "launch": 1e9, "operator": 0, "parallel": 1e9}
    assert outcome(saved(tmp_path / "run.json", content), tmp_path / "out") == "page"
    page = Outline((tmp_path / "out" / "index.html").read_text(encoding="utf-8"))
    for spec in page.specs:
        if "layer" in spec:
            assert "NaN" not in vl_convert.vegalite_to_svg(json.dumps(spec | {"width": 300}))


@pytest.mark.parametrize("name", TEXTS)
def test_hostile_text_in_every_field_of_prose_is_shown(valid: dict[str, Content], tmp_path: Path, name: str) -> None:
    if name == "surrogate":
        pytest.skip("no text, and refused below")
    content, text = copy.deepcopy(valid["results"]), TEXTS[name]
    told = {"reason": text, "data": text, "source": text, "shrunk": text}
    for case in [*(entry["extra_info"] for entry in content["benchmarks"]), *content[NOT_MEASURED_KEY]]:
        case |= told | {"versions": {"torch": text}, "runs_on": {"device": text}}
    assert outcome(saved(tmp_path / "run.json", content), tmp_path / "out") == "page"
    assert (tmp_path / "out" / "index.html").stat().st_size < 3_000_000


@pytest.mark.parametrize("name", ["terminal", "direction", "null", "surrogate", "long"])
@pytest.mark.parametrize("field", ["case_id", "group_id", "checkpoint", "form", "suite", "device_name"])
def test_a_name_is_one_short_line_that_can_be_seen(
    valid: dict[str, Content], tmp_path: Path, field: str, name: str
) -> None:
    path = saved(tmp_path / "run.json", changed(valid["results"], ("benchmarks", 0, "extra_info", field), TEXTS[name]))
    assert re.search(rf"`{field}`|no Unicode", outcome(path, tmp_path / "out"))


FILES: dict[str, tuple[Any, str]] = {
    "hyperfine": ({"results": [{"command": "sleep 1", "mean": 1.0, "times": [1.0]}]}, "holds no result"),
    "trace": ({"traceEvents": [{"ph": "X", "ts": 0, "dur": 1}], "schemaVersion": 1}, "holds no result"),
    "package": ({"name": "x", "version": "1.0.0", "dependencies": {}}, "holds no result"),
    "plain pytest-benchmark": (
        {"machine_info": {}, "benchmarks": [{"name": "a", "stats": {"data": [1.0]}, "extra_info": {}}], "version": "5"},
        "without moegap records",
    ),
    "no study": ({"kind": "study", "format": 1}, "holds no result"),
    "kind of another type": ({"kind": ["training"], "format": 1}, "holds no result"),
    "deep": ("[" * 2_000 + "]" * 2_000, "not JSON"),
    "deep within": ('{"benchmarks": ' + "[" * 2_000 + "]" * 2_000 + "}", "not JSON"),
    "long number": ('{"benchmarks": ' + "9" * 5_000 + "}", "not JSON"),
    "empty": ("", "not JSON"),
    "number": ("1e999", "holds no result"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, name: str) -> None:
    content, said = FILES[name]
    path = tmp_path / "file.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    assert said in outcome(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_cut_off_anywhere_is_refused(valid: dict[str, Content], tmp_path: Path) -> None:
    whole = json.dumps(valid["results"])
    for twentieth in range(20):
        path = tmp_path / "run.json"
        path.write_text(whole[: len(whole) * twentieth // 20])
        assert "cut off" in outcome(path, tmp_path / "out")


ENCODINGS: dict[str, tuple[Callable[[str], bytes], str]] = {
    "UTF-16": (lambda text: text.encode("utf-16"), "page"),
    "UTF-16 without a mark": (lambda text: text.encode("utf-16-le"), "page"),
    "a byte order mark": (lambda text: b"\xef\xbb\xbf" + text.encode(), "page"),
    "Latin-1": (lambda text: text.replace("x", "é").encode("latin-1"), "not JSON"),
    "gzip": (lambda text: gzip.compress(text.encode()), "not JSON"),
    "nulls": (lambda text: b"\0" * 1_000, "not JSON"),
}


@pytest.mark.parametrize("name", ENCODINGS)
def test_another_encoding_is_read_or_refused(valid: dict[str, Content], tmp_path: Path, name: str) -> None:
    path = tmp_path / "run.json"
    encode, said = ENCODINGS[name]
    path.write_bytes(encode(json.dumps(valid["results"])))
    assert said in outcome(path, tmp_path / "out")


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    loop = tmp_path / "loop.json"
    loop.symlink_to(loop)
    os.mkfifo(tmp_path / "pipe.json")
    for path in (tmp_path, loop, tmp_path / "pipe.json", Path("/dev/null")):
        assert outcome(path, tmp_path / "out") != "page"


VERSIONS = [0, 3, 10**30, -1, 2.5, "2", "newer", None, True, [], {}]


@pytest.mark.parametrize("version", VERSIONS, ids=str)
def test_another_version_is_read_or_refused(valid: dict[str, Content], tmp_path: Path, version: Any) -> None:
    place = ("benchmarks", 0, "extra_info", "schema_version")
    said = outcome(saved(tmp_path / "run.json", changed(valid["results"], place, version)), tmp_path / "out")
    assert re.search("upgrade moegap" if version in (3, 10**30) else "schema_version", said) or version is True
    for kind in ("training", "sharpness", "self-test"):
        said = outcome(saved(tmp_path / f"{kind}.json", changed(valid[kind], ("format",), version)), tmp_path / "out")
        assert said != "page" or version is True


def test_fields_left_out_and_fields_too_many_are_read_or_refused(valid: dict[str, Content], tmp_path: Path) -> None:
    content = valid["results"]
    for name, field in CaseRecord.model_fields.items():
        less = copy.deepcopy(content)
        del less["benchmarks"][0]["extra_info"][name]
        path = saved(tmp_path / "run.json", less)
        try:
            load([path])
        except ReportError as error:
            assert field.is_required() or name == "blocks"
            check_sentence(str(error))
    more = changed(content, ("benchmarks", 0, "extra_info", "x" * 100_000), 1)
    assert outcome(saved(tmp_path / "run.json", more), tmp_path / "out").count("x" * BRIEF) == 1


@pytest.mark.parametrize("cost", [1e-300, 5e-324, 1e-12, 1e30])
def test_costs_of_any_size_have_an_axis(valid: dict[str, Content], tmp_path: Path, cost: float) -> None:
    content = copy.deepcopy(valid["policies"])
    content["runs"][0] |= {"flops_per_row": cost, "experts_per_row_mean": cost}
    assert outcome(saved(tmp_path / "policies.json", content), tmp_path / "out") == "page"


@pytest.mark.parametrize("fact", [float("nan"), float("-inf"), 10**30, "\x1b[31m", [], None])
def test_facts_of_an_environment_are_shown_or_left_out(valid: dict[str, Content], tmp_path: Path, fact: Any) -> None:
    for kind in ("training", "self-test"):
        content = copy.deepcopy(valid[kind])
        content["environment"] |= dict.fromkeys(("device", "threads", "measured_at", "python", "cpu"), fact)
        assert outcome(saved(tmp_path / "file.json", content), tmp_path / "out") == "page"


@pytest.mark.parametrize("experts", [0, 1, 7, 10**9])
def test_experts_and_their_rows_must_agree(valid: dict[str, Content], tmp_path: Path, experts: int) -> None:
    content = copy.deepcopy(valid["results"])
    sparse = next(entry for entry in content["benchmarks"] if entry["extra_info"]["head"] == "sparse")
    sparse["extra_info"]["experts"] = experts
    assert f"8 numbers of rows for {experts} experts" in outcome(
        saved(tmp_path / "run.json", content), tmp_path / "out"
    )


def test_a_case_that_stands_there_twice_is_refused(valid: dict[str, Content], tmp_path: Path) -> None:
    content = copy.deepcopy(valid["results"])
    content["benchmarks"] *= 2
    assert "twice" in outcome(saved(tmp_path / "run.json", content), tmp_path / "out")


def test_of_a_field_that_stands_there_twice_the_last_counts(valid: dict[str, Content], tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(valid["results"])[:-1] + ', "benchmarks": 3}')
    assert "holds no result" in outcome(path, tmp_path / "out")


def test_plain_text_keeps_what_can_be_seen() -> None:
    assert (
        visible("a b\n\tc é \N{MULTIPLICATION SIGN} 漢 \N{GRINNING FACE}")
        == "a b\n\tc é \N{MULTIPLICATION SIGN} 漢 \N{GRINNING FACE}"
    )
    assert visible("\x1b[31m\0\u202e") == "\ufffd[31m\ufffd\ufffd"
    assert visible("x" * MOST) == "x" * MOST
    assert visible("x" * (MOST + 1)) == "x" * MOST + " …"
    assert brief("a\n\tb") == "a b"
    assert brief(10**200) == "1" + "0" * (BRIEF - 1) + " …"


def test_markdown_hides_nothing() -> None:
    assert markdown.text("\u202ea\x1b") == "\ufffda\ufffd"
    assert markdown.code("a\0b") == "`a\ufffdb`"


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (units.seconds(1e-300), "1.00e-294 µs"),
        (units.seconds(1e18), "1.00e18 s"),
        (units.factor(1e-9), "1.0e-9\N{MULTIPLICATION SIGN}"),
        (units.factor(1e21), "1.00e21\N{MULTIPLICATION SIGN}"),
        (units.percent(1e21), "1.00e23 %"),
        (units.megabytes(1e30), "1.00e24 MB"),
    ],
)
def test_no_number_is_endless(shown: str, expected: str) -> None:
    assert shown == expected


def test_bounds_leave_room_for_every_machine() -> None:
    """A petaflop a second for an hour, a terabyte, and a copy of an exabyte a second are within bounds."""
    assert record(flops=3_600 * 10**15 // 10, least_bytes=10**12, cold_start=3600.0)
    assert Ceilings.model_validate(ceilings().model_dump() | {"flops_per_s": 1e18, "launch": 1e-9})
