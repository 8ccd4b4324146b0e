"""Stages by a second method: ranges of the profiler, or names of operators."""

import pytest
import torch

from bench.forms import form
from bench.stage_times import stage_times
from models.config import head_config
from models.heads import build_head


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("eager", {"route", "dispatch", "experts", "combine"}),
        ("loop", {"route", "dispatch", "experts", "combine"}),
        ("onnxruntime", {"experts", "route", "dispatch", "combine"}),
    ],
)
def test_a_form_has_a_time_for_every_stage(name, stages):
    torch.manual_seed(0)
    head = build_head(head_config("sparse", features=16, classes=3, hidden=8, experts=4)).eval().requires_grad_(False)
    x = torch.randn(64, 16)
    found = stage_times(form(name), form(name).prepare(head, x), head, x)
    assert stages <= set(found.seconds)
    assert all(0 < seconds < 10 for seconds in found.seconds.values())
    assert found.by == ("names" if name == "onnxruntime" else "ranges")
