"""Stages by a second method: ranges of the profiler, or names of operators."""

import pytest
import torch

from bench.execution.form import Form, torch_runner
from bench.execution.stages import CALL
from bench.forms import form
from bench.profile.stage_times import stage_times
from models.config import head_config
from models.heads.heads import build_head


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
    config = head_config("sparse", features=16, classes=3, hidden=8, experts=2, k=1)
    head = build_head(config).eval().requires_grad_(False)
    x = torch.randn(64, 16)
    found = stage_times(form(name), form(name).prepare(head, x), head, x)
    assert stages <= set(found.seconds)
    assert all(0 < seconds < 10 for seconds in found.seconds.values())
    assert found.by == ("names" if name == "onnxruntime" else "ranges")


def test_what_an_engines_profile_takes_between_nodes_counts_nowhere():
    def event(name, category, start, length, **args):
        return {"ph": "X", "name": name, "cat": category, "pid": 1, "tid": 1, "ts": start, "dur": length, "args": args}

    def events(head, x, calls):
        call = event(CALL, "user_annotation", 0, 100)
        nodes = ("Gemm", 10, 30), ("Cast", 50, 20)
        return [call, *(event(name, "cpu_op", *times, provider="Some") for name, *times in nodes)]

    head = build_head(head_config("dense", features=4, classes=3, hidden=2)).eval().requires_grad_(False)
    x = torch.randn(2, 4)
    engine = Form("engine", 0, "", lambda *_: None, lambda head, x: torch_runner(head, x), events=events)
    found = stage_times(engine, engine.prepare(head, x), head, x)
    assert found.seconds == {"experts": pytest.approx(30e-6), "other": pytest.approx(20e-6)}
    assert found.by == "names"
