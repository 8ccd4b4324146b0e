"""How long a run will take, guessed."""

import pytest
import torch

from bench import forms
from bench.cases.case import Case, Shape
from bench.cases.estimate import STEPS, estimated_seconds
from bench.subjects.subject import preset_subjects
from bench.suites.suite import groups, suite_named
from bench.timing.sampling import LEAST_BLOCKS
from reports.records.record import Ceilings, Copy

CPU = torch.device("cpu")
PEAK = 1e11


@pytest.fixture(scope="module")
def paper():
    return preset_subjects()


def ceilings():
    return Ceilings(
        device="cpu", device_name="a CPU", cpu="a CPU", threads=2, dtype="float32", measured_at="2026-01-01T00:00:00",
        samples=5, flops_per_s=PEAK, product="8 x 8 x 8", copies=[Copy(working_set=8, bytes_per_s=1e9)], launch=1e-6,
        operator=1e-6,
    )  # fmt: skip


def seconds(subject, name, per_case=1.0, **shape):
    case = Case(
        subject, name, Shape(**{"part": "head", "rows": 1, "dtype": torch.float32, "device": CPU, **shape}), "wall"
    )
    return estimated_seconds([[case]], per_case, [ceilings()])


def test_a_short_case_takes_its_setup_and_its_sampling_and_that_of_its_steps(paper):
    dense = paper[0]
    assert seconds(dense, "onnxruntime") == pytest.approx(forms.form("onnxruntime").setup + 1.0, abs=0.01)
    assert seconds(dense, "eager") == pytest.approx(forms.form("eager").setup + (1 + STEPS) * 1.0, abs=0.01)
    assert seconds(dense, "eager", cache="cold") == pytest.approx(forms.form("eager").setup + 1.0, abs=0.01)
    assert seconds(dense, "eager", passes="training") == pytest.approx(forms.form("eager").setup + 1.0, abs=0.01)
    assert seconds(dense, "onnxruntime", passes="training") == 0


def test_a_long_case_takes_as_many_calls_as_blocks_are_needed(paper):
    least = LEAST_BLOCKS * paper[0].backbone_flops * 256 / PEAK
    assert seconds(paper[0], "eager", part="classifier", rows=256) > least


def test_clocks_and_caches_share_a_preparation_and_forms_their_rows(paper):
    shapes = [Shape("head", 2**20, torch.float32, CPU, cache=caches) for caches in ("warm", "cold")]
    one, both = ([Case(paper[0], "onnxruntime", shape, "wall") for shape in some] for some in (shapes[:1], shapes))
    other = [Case(paper[0], "eager", shapes[0], "wall")]
    sampled = estimated_seconds([both], 1000.0, [ceilings()]) - estimated_seconds([one], 1000.0, [ceilings()])
    assert sampled == pytest.approx(1000.0)
    rows = estimated_seconds([one], 1000.0, [ceilings()]) - forms.form("onnxruntime").setup - 1000.0
    assert rows > 1.0
    together = estimated_seconds([one + other], 1000.0, [ceilings()], steps=False)
    assert together == pytest.approx(rows + 2000.0 + forms.form("onnxruntime").setup + forms.form("eager").setup)


def test_what_cannot_run_takes_no_time(paper):
    assert seconds(paper[0], "loop") == 0


def test_a_suite_takes_the_sum_of_its_cases(paper):
    wanted = list(groups(suite_named("paper"), paper, ["eager"], CPU, [torch.float32]))
    parts = [estimated_seconds([group], 1.0, [ceilings()]) for group in wanted]
    assert estimated_seconds(wanted, 1.0, [ceilings()]) == pytest.approx(sum(parts))
    assert min(parts) > 0
