"""The account in tables, charts and words: numbers that add up as shown, choices, and what is said to be missing."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import vl_convert
from typer import Typer
from typer.testing import CliRunner

from bench.commands.account import account as command
from reports.account import tables as account_tables
from reports.account import text as account_text
from reports.account.account import Account, account, as_json
from reports.account.account_section import account_section, message, sentences
from reports.account.parts import HOST
from reports.account.waterfall import waterfall
from reports.account.waterfall_figures import CALL, DATA, DENSE, THEORY, bars, waterfall_chart
from reports.cases import summary
from reports.cases.cases_section import cases_section
from reports.errors import ReportError
from reports.front.environment_section import public
from reports.numbers.units import MINUS, TIMES, signed_percent, signed_picoseconds
from reports.output.blocks import Chart, Details, FilteredTable, Items, Panel
from reports.page import Report, build
from reports.reading.load import load
from reports.records.record import Copy
from reports.speed import settings, verdicts
from reports.speed.analysis import Analysis, Setting, analyse
from reports.speed.routing_section import skew_panels, skew_tables
from tests.reports import drawn
from tests.reports.account.test_waterfall import STEPS, steady, steps
from tests.reports.synthetic import account_run, benchmark, ceilings, record, samples, write
from tests.reports.synthetic import accounted as with_steps
from tests.reports.synthetic import steps as synthetic_steps
from tests.reports.within import within


def usual(analysis: Analysis, head: str, form: str, rows: int) -> Account:
    (found,) = (
        one
        for one in account(analysis)
        if (one.head.kind, one.case.record.form, one.case.record.rows) == (head, form, rows)
        and (one.setting.cache, one.setting.routing) == ("warm", "")
    )
    return found


def waterfalls_of(analysis: Analysis, accounts: list[Account]) -> list[Chart]:
    charts = within(account_section(analysis, accounts), Chart)
    return [chart for chart in charts if chart.heading == "Gap waterfall of one case"]


def number(text: str) -> Decimal:
    return Decimal(text.replace(",", "").replace(MINUS, "-"))


def test_every_head_alone_has_an_account(accounts: Analysis) -> None:
    found = account(accounts)
    alone = [case for case in accounts.results.cases if case.record.part == "head"]
    assert {one.case for one in found} == set(alone)
    for one in found:
        assert sum(part.picoseconds for part in one.waterfall.parts) == one.waterfall.total
        assert one.waterfall.total == round(accounts.latencies[one.case].value * 1e12)


def test_an_account_holds_all_three_speedups(accounts: Analysis) -> None:
    found = usual(accounts, "sparse", "onnxruntime", 256)
    assert found.comparison is not None
    assert found.floor is not None
    assert found.comparison.theoretical == pytest.approx(3.768, abs=1e-3)
    assert found.comparison.attainable == pytest.approx((684.196 + 1) / (181.586 + 1), abs=1e-4)  # us at 200 GFLOP/s
    dense = accounts.latencies[found.comparison.base].value
    assert found.waterfall.theoretical == round(dense / found.comparison.theoretical * 1e12)
    assert found.waterfall.basis == "trace"
    assert usual(accounts, "dense", "eager", 256).waterfall.theoretical is None


def test_steps_give_back_what_was_put_into_them(accounts: Analysis) -> None:
    found = usual(accounts, "sparse", "grouped_mm", 256)
    assert found.waterfall.basis == "steps"
    sizes = {part.name: part.picoseconds / found.waterfall.total for part in found.waterfall.parts}
    assert sizes["dispatch"] == pytest.approx(0.25 - 10 * 2e-6 / 1.3e-3, abs=0.02)
    assert abs(found.waterfall.unattributed) < 0.1


def test_waterfalls_add_up_as_they_are_shown(accounts: Analysis) -> None:
    found = account_tables.waterfalls(accounts, account(accounts))
    assert len(found) == 5
    for table in found:
        titles = [column.title for column in table.columns]
        first, last = titles.index("call") + 1, titles.index("unattributed") + 1
        for row in table.rows:
            shares = sum(number(cell) for cell in row[first:last] if cell)
            assert shares == number(row[titles.index("call")])


def test_checks_stand_beside_each_other(accounts: Analysis) -> None:
    (table,) = account_tables.checks(accounts, account(accounts))
    row = next(row for row in table.rows if row[:3] == ("sparse", "loop", "256") and row[3] == "dispatch")
    assert row[-2:] == ("yes", "")
    assert row[-4].startswith(MINUS)
    assert row[-3] == f"0.6{row[-3][3]}{TIMES}"
    assert {row[-2] for row in table.rows} == {"yes", "no"}
    assert all(row[-1].endswith(".") for row in table.rows if row[-2] == "no")


def test_ceilings_are_told_the_latest_first_and_once(accounts: Analysis) -> None:
    later = ceilings(dtype="bfloat16", measured_at="2026-11-04T00:00:00+00:00", graph_replay=1e-5)
    table = account_tables.ceilings([*accounts.results.ceilings, later, ceilings()])
    assert table is not None
    assert [row[1] for row in table.rows] == ["bfloat16", "float32"]
    assert "8.39 MB: 25.0, 16.8 MB: 10.0, 134 MB: 10.0" in table.rows[1][-1]
    assert account_tables.ceilings([]) is None


def test_the_table_of_speedups_says_what_bounds_them(accounts: Analysis) -> None:
    table = account_tables.speedups(accounts)[0]
    titles = [column.title for column in table.columns]
    rows = {row[:2]: dict(zip(titles, row, strict=True)) for row in table.rows}
    assert rows["sparse", "1"]["limited by"] == "bandwidth"
    assert rows["sparse", "1"]["least bytes"] == "1.11 MB, cache-resident"
    assert rows["sparse", "2,048"]["attainable"] == f"3.77{TIMES}"
    (cold,) = (table for table in account_tables.speedups(accounts) if "cold caches" in table.caption)
    assert cold.rows[0][5] == "2.00 MB, in memory"


def test_every_split_case_can_be_chosen_the_most_telling_first(accounts: Analysis) -> None:
    (chart,) = waterfalls_of(accounts, account(accounts))
    labels = [choice.label for choice in chart.choices]
    split = [one for one in account(accounts) if one.waterfall.basis != "floors"]
    usual_ones = [one for one in split if (one.setting.cache, one.setting.routing) == ("warm", "")]
    assert len(set(labels)) == len(labels) == len(usual_ones)
    assert labels[:4] == [f"sparse head, {form}, 256 rows" for form in ("grouped_mm", "loop", "onnxruntime", "compile")]
    assert labels[4:8] == [f"sparse head, {form}, 1 row" for form in ("loop", "grouped_mm", "onnxruntime", "compile")]
    kinds = [label.partition(" ")[0] for label in labels]
    assert kinds == sorted(kinds, key=["sparse", "soft", "dense"].index)
    assert chart.message == chart.choices[0].message
    assert chart.message.startswith("At 256 rows the sparse head in the form grouped_mm takes 1.29 ms")
    assert "in theory it would take 28" in chart.message
    assert "the machine needs 183 µs at least (arithmetic, cache-resident)" in chart.message
    assert "below zero: unattributed, −" in chart.choices[2].message
    assert ". A profiled call is slower" in chart.choices[2].message


def test_the_headline_case_is_opened_whatever_it_comes_from(accounts: Analysis) -> None:
    headline = usual(accounts, "soft", "onnxruntime", 32).case
    (chart, _) = within(account_section(accounts, account(accounts), headline), Chart)
    assert chart.choices[0].label == "soft head, onnxruntime, 32 rows"
    assert chart.message == chart.choices[0].message


def test_how_far_two_methods_agree_stands_beside_the_bars(accounts: Analysis) -> None:
    case = usual(accounts, "sparse", "loop", 256)
    furthest = max(case.agreements, key=lambda each: abs(each.share))
    agree = sum(abs(each.share) <= 0.1 for each in case.agreements)
    said = re.search(r"By a profiler (\d) of (\d) stages agree .*, by (\S+ %) of it\.", message(accounts, case))
    assert said is not None
    assert said.groups() == (str(agree), str(len(case.agreements)), signed_percent(furthest.share))
    unseen = replace(case, agreements=())
    assert "No second method saw these parts." in message(accounts, unseen)
    traced = usual(accounts, "sparse", "onnxruntime", 256)
    assert "method" not in message(accounts, traced)


def test_shares_of_parts_above_zero_sum_to_one_and_parts_below_are_named_apart(accounts: Analysis) -> None:
    falls = [one.waterfall for one in account(accounts) if one.waterfall.below]
    assert falls
    for one in account(accounts):
        fall = one.waterfall
        above = [part for part in fall.parts if part.picoseconds > 0]
        assert sum(fall.share(part.picoseconds) for part in above) == pytest.approx(1)
        shares = [float(text) for text in re.findall(r"\(([\d.]+) %\)", message(accounts, one))]
        assert all(0 <= share <= 100 for share in shares)
        assert sum(shares) < 100.1
        for part in fall.below:
            assert f"{part.name}, {signed_picoseconds(part.picoseconds)}" in message(accounts, one)


@pytest.mark.parametrize("form", ["onnxruntime", "loop"])
def test_a_waterfall_draws_what_it_holds(accounts: Analysis, form: str) -> None:
    found = usual(accounts, "sparse", form, 256).waterfall
    rows = bars(found, 1.3e-3)
    assert [bar["part"] for bar in rows] == [THEORY, *(part.name for part in found.parts), CALL, DENSE]
    assert sum(bar["ps"] for bar in rows[1:-2]) == rows[-2]["ps"] == found.total
    spec = waterfall_chart(len(rows)).to_dict()
    assert spec["width"] == "container"
    picture = drawn.svg(spec, {DATA: rows})
    seen = drawn.marks(picture, "bar")
    assert [mark["part"] for mark in seen] == [bar["part"] for bar in rows]
    zero, pixel = drawn.span(seen[-1])[0], (drawn.span(seen[-1])[1] - drawn.span(seen[-1])[0]) / 1.3e9
    reached = 0
    for bar, mark in zip(rows[1:-2], seen[1:-2], strict=True):
        ends = sorted(zero + place * pixel for place in (reached, reached + bar["ps"]))
        assert drawn.span(mark) == pytest.approx(ends, abs=1e-6)
        reached += bar["ps"]
    assert drawn.span(seen[-2]) == pytest.approx((zero, zero + reached * pixel), abs=1e-6)
    assert {mark["part"]: mark["kind"] for mark in seen}["unattributed"] == "unattributed"
    assert "NaN" not in picture
    assert 'fill="#000' not in picture


def test_the_label_of_the_longest_bar_has_room(accounts: Analysis) -> None:
    found = usual(accounts, "sparse", "loop", 256).waterfall
    rows = bars(found, None)
    for width in (190, 400):
        seen = drawn.marks(drawn.svg(waterfall_chart(len(rows)).to_dict(), {DATA: rows}, width), "bar")
        longest = max(drawn.span(mark)[1] for mark in seen)
        assert width - longest > 6 * len(rows[-1]["shown"])


def test_a_part_below_zero_runs_back(accounts: Analysis) -> None:
    call = steady(236)
    found = waterfall(call, 236e-6, None, steps({**STEPS, "products": (95, 4)}))
    rows = bars(found, None)
    assert [(bar["part"], bar["ps"] // 10**6) for bar in rows[:3]] == [
        ("expert imbalance", -5),
        ("expert products", 100),
        ("gate", 10),
    ]
    assert rows[0]["shown"] == f"{MINUS}5.0 µs"
    first, second, *_ = drawn.marks(drawn.svg(waterfall_chart(len(rows)).to_dict(), {DATA: rows}), "bar")
    assert drawn.span(first)[0] == pytest.approx(drawn.span(second)[0])
    assert drawn.span(first)[1] > drawn.span(second)[0]


def test_cold_caches_and_made_routings_are_not_drawn(accounts: Analysis) -> None:
    others = [one for one in account(accounts) if (one.setting.cache, one.setting.routing) != ("warm", "")]
    assert others
    assert waterfalls_of(accounts, others) == []


def test_two_machines_have_floors_of_their_own(tmp_path: Path) -> None:
    gpu = {"device": "cuda", "device_name": "NVIDIA H100", "group_id": "gpu"}
    entries: list[dict[str, Any]] = []
    for machine in ({}, gpu):
        for head in ("dense", "sparse"):
            entries += with_steps(record(head=head, **machine), 1e-3)
    copies = [Copy(working_set=2**31, bytes_per_s=3e12)]
    fast = ceilings(device="cuda", device_name="NVIDIA H100", flops_per_s=50e12, copies=copies, launch=2e-6)
    found = analyse(load([write(tmp_path / "a.json", entries, ceilings=[ceilings(), fast])]))
    accounts = {one.setting.device: one for one in account(found) if one.head.kind == "sparse"}
    floors = {device: one.floor for device, one in accounts.items()}
    assert floors["cuda"] is not None
    assert floors["cpu"] is not None
    assert floors["cpu"].limit == "arithmetic"
    assert floors["cuda"].limit == "launches"
    assert floors["cuda"].seconds == pytest.approx(141_864 * 256 / 50e12 + 2e-6)
    host = {one.setting.device: part.picoseconds for one in account(found) if one.head.kind == "sparse"
            for part in one.waterfall.parts if part.name == HOST}  # fmt: skip
    assert host == {"cpu": 24 * 2_000_000 - 1_000_000, "cuda": 24 * 2_000_000 - 2_000_000}  # no graph was replayed
    report = build([tmp_path / "a.json"], tmp_path / "report")
    text = report.markdown.read_text(encoding="utf-8")
    assert "GPU timings on NVIDIA H100" in text
    assert "CPU timings on AMD EPYC 7B13, 1 thread" in text


def test_one_launch_on_a_gpu_has_its_replay_and_its_trace_in_every_view(tmp_path: Path) -> None:
    gpu = {"device": "cuda", "device_name": "NVIDIA H100", "least_bytes": 1_000_000, "group_id": "gpu"}
    dense = record(head="dense", **gpu)
    fused = record(form="triton", traced={"fused": 2e-5, "other": 5e-4}, traced_by="ranges", **gpu)
    entries = [benchmark(dense, samples(1e-4)), benchmark(fused, samples(6e-5))]
    entries += synthetic_steps(fused, {"graph": (3e-5, 1), "replay": (8e-6, 0)})
    fast = ceilings(device="cuda", device_name="NVIDIA H100", flops_per_s=50e12)
    path = write(tmp_path / "a.json", entries, ceilings=[fast])
    found = analyse(load([path]))
    (one,) = (each for each in account(found) if each.head.kind == "sparse")
    assert one.waterfall.basis == "graph and trace"
    (row,) = (row for row in account_tables.waterfalls(found, [one])[0].rows if row[1] == "triton")
    assert row[3] == "graph and trace"
    told = list(account_text.waterfalls(found))
    assert any(line.split() == ["parts", "by", "graph", "and", "trace"] for line in told)
    shares = {part.name: part.picoseconds / one.waterfall.total for part in one.waterfall.parts}
    assert shares[HOST] == pytest.approx(38 / 60, abs=0.03)
    assert shares["unattributed"] == pytest.approx(2 / 60, abs=0.03)
    assert "graph and trace" in build([path], tmp_path / "report").index.read_text(encoding="utf-8")


def test_what_the_numbers_are_worth_is_said(accounts: Analysis, account_report: Report) -> None:
    few, worth, checked = sentences(accounts, account(accounts))[-3:]
    assert few.startswith("Of 16 cases measured in steps ")
    assert worth.startswith("The last step of a form is the call itself once more, so little unattributed says only")
    assert worth.endswith("the independent check of the parts between them is the trace.")
    found = [one for each in account(accounts) for one in each.agreements]
    own = sum(abs(one.traced - one.steps) <= 0.1 * one.steps for one in found)
    assert checked.endswith(f"which is the criterion, and {own} within a tenth of the stage itself.")
    for page in (account_report.index, account_report.markdown):
        assert "a floor of bandwidth is no strict bound" in page.read_text(encoding="utf-8")


def test_what_is_missing_is_said(analysis: Analysis) -> None:
    found = account_section(analysis, account(analysis))
    (items,) = within(found, Items)
    assert items.sentences == [
        "No ceilings were measured with these results, so nothing has a floor and nothing attainable is known.",
        "No case was measured in steps: parts come from traces; without one all beyond floors is unattributed.",
    ]
    assert within(found, Panel) == []
    assert [part.title for part in within(found, Details)] == [
        "Theoretical, attainable and realised, in numbers", "What the parts are worth",
    ]  # fmt: skip


def test_ceilings_of_another_machine_are_said_not_to_fit(tmp_path: Path) -> None:
    other = write(tmp_path / "b.json", [benchmark(record(device_name="other", case_id="b"), samples(1e-3))])
    found = analyse(load([account_run(tmp_path / "a.json"), other]))
    told = sentences(found, account(found))
    assert told[0].startswith("28 cases without a floor")  # and the 27 of made routings, whose bytes are not counted
    panels = within(account_section(found, account(found)), Panel)
    assert {panel.machine for panel in panels} == {"CPU timings on AMD EPYC 7B13, 1 thread"}


def test_public_layers_say_where_their_sizes_stand_and_how_they_were_shrunk(tmp_path: Path) -> None:
    sizes = {"source": "config.json of a model", "shrunk": "widths divided by 8", "checkpoint": "mixtral"}
    entries = [benchmark(record(head=head, **sizes), samples(1e-3)) for head in ("dense", "sparse")]
    found = analyse(load([write(tmp_path / "a.json", entries)]))
    table = public(found)
    assert table is not None
    assert table.rows == (("mixtral", "512", "64", "8", "2", "config.json of a model", "widths divided by 8"),)
    assert verdicts.answers(found)[0].shape == "8 experts of width 64, 2 per row; widths divided by 8"


def test_made_routings_are_one_axis(accounts: Analysis) -> None:
    (chart,) = within(skew_panels(accounts), Chart)
    assert chart.heading == "sparse head, 256 rows"
    assert chart.message.startswith("The fastest form takes 66")
    assert "if rows go the same (onnxruntime)" in chart.message
    (table,) = skew_tables(accounts)
    rows = [row for row in table.rows if row[1] == "loop"]
    assert [row[3] for row in rows] == ["as real rows do", "evenly", "Zipf 2", "the same"]
    assert [row[4] for row in rows] == ["", "0.06", "1.40", "1.73"]
    vl_convert.vegalite_to_svg(json.dumps(chart.spec | {"width": 300}), vl_version="6.4")


def test_without_made_routings_there_is_no_such_axis(analysis: Analysis) -> None:
    assert skew_panels(analysis) == skew_tables(analysis) == []


def test_energy_stands_among_the_cases_where_it_was_measured(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", [benchmark(record(joules_per_thousand_rows=0.0123), samples(1e-3))])
    (found,) = within(cases_section(summary.rows(analyse(load([path])))), FilteredTable)
    assert (found.table.columns[-1].title, found.table.rows[0][-1]) == ("J per 1,000 rows", "0.0123")


def test_the_heads_of_a_map_are_in_no_account(tmp_path: Path) -> None:
    entries = [benchmark(record(head=head, suite="scale"), samples(1e-3)) for head in ("dense", "sparse")]
    found = analyse(load([write(tmp_path / "a.json", entries)]))
    assert 'id="account"' not in "".join(build([tmp_path / "a.json"], tmp_path / "report").pictures)
    assert account_tables.speedups(found) == []
    assert found.speedups
    assert Setting.of(found.results.cases[0].record) not in found.usual


def test_the_terminal_shows_waterfalls_that_add_up(accounts: Analysis) -> None:
    told = list(account_text.waterfalls(accounts))
    start = next(
        place for place, line in enumerate(told) if line.startswith("sparse head, 256 rows: theoretical 3.77×")
    )
    assert "attainable 3.75× (arithmetic, cache-resident), realised 1.6" in told[start]
    assert told[start].endswith("FASTER, onnxruntime against onnxruntime dense")
    table = [line for line in told[start + 1 : told.index("", start)] if not re.match("  [a-z_]+: ", line)]
    rows = {line[: line.index("  ", 2)].strip(): line for line in table}
    assert table[0].split() == ["µs", "compile", "grouped_mm", "loop", "onnxruntime"]
    ends = [len(table[0][: table[0].index(form)]) + len(form) for form in table[0].split()[1:]]
    first, last = table.index(rows["arithmetic at peak"]), table.index(rows["sum, the measured median"])
    for end in ends:
        cells = [line[:end].rsplit("  ", 1)[1].strip() for line in table[first : last + 1]]
        assert sum(number(cell) for cell in cells[:-1] if cell) == number(cells[-1])


def test_where_nothing_was_split_the_terminal_says_so_once(accounts: Analysis) -> None:
    told = list(account_text.waterfalls(accounts))
    start = next(place for place, line in enumerate(told) if "cold caches" in line)
    assert told[start + 2].startswith("sparse head, 256 rows: theoretical 3.77×, attainable 3.4")
    assert told[start + 3].strip().startswith("No form was measured in steps or traced here")


def test_a_line_for_each_head_and_number_of_rows_has_all_three_speedups(accounts: Analysis) -> None:
    told = list(account_text.speedups(accounts))
    lines = [line for line in told if line.startswith(" ")]
    found = [each for each in account(accounts) if each.comparison]
    assert len(lines) == len({(each.setting, each.head, each.case.record.rows) for each in found})
    assert {line for line in told if not line.startswith(" ")} == {
        f"{settings.title(each.setting)}; {settings.machine(each.setting)}" for each in found
    }
    for line in lines:
        assert all(word in line for word in ("theoretical", "realised", "dense"))
    assert any("attainable" in line for line in lines)


def test_accounts_as_json_hold_the_exact_sums(accounts: Analysis) -> None:
    found = json.loads(json.dumps(as_json(accounts), allow_nan=False))
    assert found["moegap_account"] == 2
    assert len(found["cases"]) == len(account(accounts))
    for case in found["cases"]:
        fall = case["waterfall"]
        assert sum(part["picoseconds"] for part in fall["parts"]) == fall["picoseconds"]
    case = next(case for case in found["cases"] if case["form"] == "loop" and case["rows"] == 256)
    assert case["floor"]["limit"] == "arithmetic"
    assert case["speedup"]["theoretical"] == pytest.approx(3.768, abs=1e-3)
    assert case["cross_check"][0]["stages"] == ["experts"]


def run(*arguments: str) -> Any:
    app = Typer()
    app.command()(command)
    return CliRunner().invoke(app, list(arguments))


def test_the_command_prints_accounts_and_writes_them(accounted: Path, accounts: Analysis, tmp_path: Path) -> None:
    result = run(str(accounted), "--json", str(tmp_path / "account.json"))
    assert result.exit_code == 0
    assert result.stdout.splitlines() == list(account_text.waterfalls(accounts))
    assert json.loads((tmp_path / "account.json").read_text()) == json.loads(json.dumps(as_json(accounts)))


def test_the_command_refuses_results_without_a_gap(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", [benchmark(record(head="dense"), samples(1e-3))])
    result = run(str(path))
    assert isinstance(result.exception, ReportError)
    assert "measure both to see the gap" in str(result.exception)


def test_results_of_version_1_have_accounts_without_floors(cpu_run: Path) -> None:
    result = run(str(cpu_run))
    assert result.exit_code == 0
    assert "attainable" not in result.stdout
    assert result.stdout.count("No form was measured in steps or traced here") == 8
