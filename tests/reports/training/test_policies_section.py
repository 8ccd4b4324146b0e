"""The section on routing policies: its numbers beside scipy's, and words that follow the interval."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from reports.output.blocks import Chart, Details, Panel, Table, Text
from reports.reading.files import read
from reports.reading.inputs import gather
from reports.records.policy_study import PolicyRun, PolicyStudy
from reports.training import policies_section as policies
from tests.reports import studies
from tests.reports.within import within

DYNAMIC = ("top_p", "threshold", "expert_choice")
FIXED = ("top_k", "capacity")


def study(folder: Path, **fields: Any) -> PolicyStudy:
    path = studies.write(folder / "policies.json", studies.policies(**fields))
    return gather(read([path])).studies.policies[0]


def runs(gap: float, noise: float, seeds: tuple[int, ...] = studies.SEEDS) -> list[dict[str, Any]]:
    """Return runs whose dynamic policies are `gap` better, up to `noise` that no seed shares."""
    rng = np.random.default_rng(5)
    result = []
    for policy in studies.POLICIES:
        for seed in seeds:
            accuracy = 0.88 + gap * (policy in DYNAMIC) + noise * float(rng.uniform(-1, 1))
            result.append(studies.policy_run(policy, seed, test_accuracy=accuracy))
    return result


def test_the_interval_is_that_of_a_paired_t_test(tmp_path: Path) -> None:
    content = study(tmp_path)
    table = {(run.policy, run.seed): run.test_accuracy for run in content.runs}
    sides = [
        [np.mean([table[policy, seed] for policy in names]) for seed in studies.SEEDS] for names in (DYNAMIC, FIXED)
    ]
    expected = stats.ttest_rel(*sides).confidence_interval(0.95)
    found = policies.contest(policies.by_policy(content))
    assert found is not None
    assert (found.difference.low, found.difference.high) == pytest.approx((expected.low, expected.high))
    assert f"95 % interval +{100 * expected.low:.2f} to +{100 * expected.high:.2f}, paired over 3" in policies.answer(
        content
    )


@pytest.mark.parametrize(
    ("gap", "noise", "expected"),
    [
        (
            0.02,
            1e-4,
            "Dynamic routing (top_p, threshold and expert_choice) is more accurate than fixed capacity (top_k",
        ),
        (-0.02, 1e-4, "is less accurate than fixed capacity"),
        (0.0, 0.02, "No difference is shown between dynamic routing"),
    ],
)
def test_the_words_follow_the_interval(tmp_path: Path, gap: float, noise: float, expected: str) -> None:
    answer = policies.answer(study(tmp_path, runs=runs(gap, noise)))
    assert expected in answer
    assert ("which contains 0" in answer) == (gap == 0)
    assert "at equal parameters (276,064)" in answer
    assert "2.20 against 1.96 experts per row" in answer


def test_one_seed_allows_no_interval(tmp_path: Path) -> None:
    answer = policies.answer(study(tmp_path, runs=runs(0.02, 0, seeds=(4,))))
    assert "+2.00 points" in answer
    assert "1 seed on a side allow no interval, so this decides nothing" in answer


def test_a_policy_with_settings_is_on_its_side(tmp_path: Path) -> None:
    found = [
        studies.policy_run("top_p", seed, test_accuracy=0.9) | {"policy": "top_p:mass=0.6"} for seed in studies.SEEDS
    ]
    found += [studies.policy_run("top_k", seed, test_accuracy=0.8) for seed in studies.SEEDS]
    sides = policies.contest(policies.by_policy(study(tmp_path, runs=found)))
    assert sides is not None
    assert (sides.dynamic, sides.fixed) == (("top_p:mass=0.6",), ("top_k",))
    assert sides.difference.value == pytest.approx(0.1)


def test_a_policy_that_nobody_knows_is_on_the_side_that_its_rows_say(tmp_path: Path) -> None:
    found = [run for run in runs(0.02, 1e-4) if run["policy"] == "top_k"]
    found += [run | {"policy": "new"} for run in runs(0.02, 1e-4) if run["policy"] == "top_p"]
    found += [run | {"policy": "full"} for run in runs(0.02, 1e-4) if run["policy"] == "capacity"]
    assert policies.sides(policies.by_policy(study(tmp_path, runs=found))) == (("new",), ("top_k", "full"))


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("dropped", [0.0, 0.01, 0.4, 0.99])
def test_no_share_of_dropped_assignments_makes_a_policy_dynamic(k: int, dropped: float) -> None:
    rows = np.random.default_rng(2).binomial(1, 1 - dropped, 200)  # the worst case: a row keeps all or nothing
    run = studies.policy_run("capacity", 0) | {
        "experts_per_row_mean": k * rows.mean(),
        "experts_per_row_std": k * rows.std(),
        "dropped": 1 - rows.mean(),
    }
    assert PolicyRun.model_validate(run).dynamic is False
    assert PolicyRun.model_validate(run | {"experts_per_row_std": k * rows.std() + 0.02}).dynamic is bool(rows.any())
    assert PolicyRun.model_validate(run | {"experts_per_row_std": None}).dynamic is None


def test_sides_of_other_seeds_are_unpaired(tmp_path: Path) -> None:
    dynamic = [run for run in runs(0.02, 1e-4, (0, 1, 2)) if run["policy"] in DYNAMIC]
    fixed = [run for run in runs(0.02, 1e-4, (7, 8, 9)) if run["policy"] in FIXED]
    assert "unpaired, 3 seeds or more a side" in policies.answer(study(tmp_path, runs=[*dynamic, *fixed]))


def test_a_seed_that_a_policy_lacks_does_not_count(tmp_path: Path) -> None:
    kept = [run for run in runs(0.02, 1e-4) if (run["policy"], run["seed"]) != ("top_p", 1)]
    found = policies.contest(policies.by_policy(study(tmp_path, runs=kept)))
    assert found is not None
    assert (found.difference.n, found.difference.paired) == (2, True)


def test_a_missing_side_is_said(tmp_path: Path) -> None:
    kept = [run for run in runs(0.02, 1e-4) if run["policy"] in ("dense", "top_p")]
    answer = policies.answer(study(tmp_path, runs=kept))
    assert "is not answered: there is no run of fixed capacity; `moegap policies`" in answer


def test_unequal_parameters_are_said(tmp_path: Path) -> None:
    changed = [run | ({"parameters": 500_000} if run["policy"] == "top_p" else {}) for run in runs(0.02, 1e-4)]
    assert "at unequal parameters (276,064 to 500,000)" in policies.answer(study(tmp_path, runs=changed))


def panel_of(study: PolicyStudy) -> Panel:
    (panel,) = within(policies.policies_section([study]), Panel)
    return panel


def test_the_table_has_every_measure(tmp_path: Path) -> None:
    panel = panel_of(study(tmp_path))
    titles = [column.title for column in within(panel, Table)[0].columns]
    row = dict(zip(titles, next(row for row in within(panel, Table)[0].rows if row[0] == "capacity"), strict=True))
    own = 100 * np.array([run["test_accuracy"] for run in studies.policies()["runs"] if run["policy"] == "capacity"])
    assert row["test accuracy"] == f"{own.mean():.2f} ± {own.std(ddof=1):.2f} %"
    assert row["experts per row"] == "1.93 ± 0.00"
    assert row["dropped"] == "3.50 ± 0.00 %"
    assert row["expert and class, nats"] == "0.950 ± 0.050"
    assert "expert and domain, nats" not in titles
    base = next(row for row in within(panel, Table)[0].rows if row[0] == "top_k")
    assert base[titles.index("points beyond top_k")] == ""


def test_domains_have_their_column(tmp_path: Path) -> None:
    mixed = [run | {"domain_information": 0.4} for run in studies.policies()["runs"]]
    panel = panel_of(study(tmp_path, runs=mixed, domains=["cifar10", "digits"]))
    assert "expert and domain, nats" in [column.title for column in within(panel, Table)[0].columns]
    assert panel.title.endswith("domains cifar10 and digits")


def test_latency_is_a_median_with_its_interval_or_a_reason(tmp_path: Path) -> None:
    (table,) = within(within(panel_of(study(tmp_path)), Details), Table)
    first = studies.policies()["latency"][0]
    assert table.rows[0][:4] == ("top_k", "eager", "256", f"{1e6 * np.median(first['seconds']):.0f} µs")
    assert " to " in table.rows[0][4]
    assert table.rows[-1][0] == "expert_choice"
    assert table.rows[-1][-1].startswith("unavailable: This policy depends on the whole batch")


def test_failed_trainings_are_told(tmp_path: Path) -> None:
    failed = [{"policy": "top_p", "seed": 2, "reason": "The loss is no number."}]
    panel = panel_of(study(tmp_path, failed=failed))
    assert [text.words for text in within(panel, Text) if text.style == "note"] == [
        "top_p with seed 2 has no result: The loss is no number."
    ]


def test_the_charts_hold_every_seed(tmp_path: Path) -> None:
    operations, experts = within(panel_of(study(tmp_path)), Chart)
    points = [row for rows in studies.layers(operations.spec) for row in rows if "seed" in row]
    assert len(points) == len(studies.POLICIES) * len(studies.SEEDS)
    assert operations.message.startswith("Test accuracy at FLOPs per row of the head, most accurate first: top_p 89.0")
    assert "dense" not in experts.message


def test_a_run_without_costs_has_a_table_and_no_chart(tmp_path: Path) -> None:
    bare = [{"policy": "dense", "seed": 0, "head": "dense", "folder": "dense-seed0", "test_accuracy": 0.5}]
    panel = panel_of(study(tmp_path, runs=bare, latency=[]))
    assert within(panel, Chart) == within(panel, Details) == []
    assert [row[:3] for row in within(panel, Table)[0].rows] == [("dense", "1", "50.00 %")]
