"""The first screen: the answers of the leading setting, its table by rows, and all others below."""

from __future__ import annotations

from pathlib import Path

from reports.account.account import account
from reports.account.account_section import explained
from reports.front.verdict_section import lead, verdict_section
from reports.output import markdown
from reports.output.blocks import Answer, Beside, Details, Facts, Section, Table
from reports.reading.load import load
from reports.speed.analysis import Analysis, analyse
from reports.speed.verdicts import answers
from tests.reports.synthetic import benchmark, ceilings, record, samples, write
from tests.reports.within import within


def shown(analysis: Analysis) -> Section:
    return verdict_section(analysis, explained(account(analysis)), [], [])


def by_rows(section: Section) -> list[dict[str, str]]:
    """Return the rows of the table on the first screen by their headings."""
    table = within(section, Table)[0]
    titles = [column.title for column in table.columns]
    return [dict(zip(titles, row, strict=True)) for row in table.rows]


def test_one_table_has_every_number_of_rows_of_every_head(accounts: Analysis) -> None:
    section = shown(accounts)
    rows = by_rows(section)
    assert [(row["head"], row["rows"]) for row in rows] == [
        (head, rows) for head in ("sparse", "soft") for rows in ("1", "32", "256", "2,048")
    ]
    by_size = {(speedup.head.kind, f"{speedup.rows:,}"): speedup for speedup in answers(accounts)[0].speedups}
    for row in rows[:4]:
        best = by_size[row["head"], row["rows"]].best
        assert row["realised"].startswith(f"{best.realised.value:.2f}")
        assert row["verdict"] == best.verdict
        assert row["best form"] == best.case.record.form
    (facts,) = within(section, Facts)
    assert facts.title == "State of the machine"


def test_the_largest_loss_is_the_largest_part_on_top_of_the_floors(accounts: Analysis) -> None:
    falls = {one.case: one.waterfall for one in account(accounts)}
    for row, speedup in zip(by_rows(shown(accounts)), answers(accounts)[0].speedups, strict=False):
        fall = falls[speedup.best.case]
        above = {part.name: part.picoseconds for part in fall.parts if part.picoseconds > 0}
        on_top = {
            name: size
            for name, size in above.items()
            if name not in ("arithmetic at peak", "memory floor", "launch floor")
        }
        name = max(on_top, key=on_top.__getitem__)
        assert row["largest loss"] == f"{name}, {100 * on_top[name] / sum(above.values()):.0f} %"


def test_answers_of_other_settings_are_folded_away_and_none_is_lost(tmp_path: Path) -> None:
    entries = [
        benchmark(record(head=head, threads=threads, group_id=str(threads), case_id=f"{head}{threads}"), samples(time))
        for threads in (1, 2)
        for head, time in (("dense", 2e-3), ("sparse", 1e-3))
    ]
    analysis = analyse(load([write(tmp_path / "run.json", entries)]))
    first, others = lead(answers(analysis))
    assert [answer.machine for answer in first] == ["CPU timings on AMD EPYC 7B13, 2 threads"]
    assert [answer.machine for answer in others] == ["CPU timings on AMD EPYC 7B13, 1 thread"]
    section = shown(analysis)
    assert len(within(section, Answer)) == 1
    (details,) = within(section, Details)
    assert details.title.startswith("1 other answer")
    assert within(details, Table)[0].rows[0][2] == "CPU timings on AMD EPYC 7B13, 1 thread"


def test_a_pair_of_unequal_size_does_not_lead(tmp_path: Path) -> None:
    entries = [
        benchmark(record(head=head, suite=suite, case_id=f"{head} {suite}", **size), samples(1e-3))
        for suite, experts in (("demo", 4), ("paper", 8))
        for head, size in (("dense", {}), ("sparse", {"experts": experts, "rows_per_expert": []}))
    ]
    analysis = analyse(load([write(tmp_path / "run.json", entries)]))
    first, others = lead(answers(analysis))
    assert [answer.setting.suite for answer in first] == ["paper"]
    assert [answer.setting.suite for answer in others] == ["demo"]
    assert lead([]) == ([], [])


def test_what_is_attainable_has_the_span_of_all_ceilings_of_the_machine(tmp_path: Path) -> None:
    entries = [
        benchmark(record(head="dense", flops=40_000_000, least_bytes=1_000_000), samples(4e-3)),
        benchmark(record(flops=10_000_000, least_bytes=2_500_000), samples(2e-3)),
    ]
    later = ceilings(flops_per_s=400e9, measured_at="2026-11-03T13:00:00+00:00")
    # 201 us against 101 us, and with twice the peak 101 us against 101 us
    for given, expected in (([ceilings()], "1.99×"), ([ceilings(), later], "1.99× (1.00 to 1.99)")):
        analysis = analyse(load([write(tmp_path / "run.json", entries, ceilings=given)]))
        assert by_rows(shown(analysis))[0]["attainable"] == expected


def test_markdown_has_the_same_blocks_in_the_same_order(accounts: Analysis) -> None:
    section = shown(accounts)
    text = markdown.rendered(section)
    (beside,) = within(section, Beside)
    places = [
        text.index(words)
        for words in ("**The sparse head is", "**The soft head is", "| head | rows |", "State of the machine")
    ]
    assert places == sorted(places)
    assert isinstance(beside.blocks[0], Table)
    assert all(f"| {row['realised']} |" in text for row in by_rows(section))
