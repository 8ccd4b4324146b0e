"""What the tuned compiles are given: one graph each, and the head's outputs."""

import pytest
import torch

from bench.forms import form
from bench.forms.compile import grouped, isolated, plain, wide
from tests.bench import oracle

HEADS = [
    ("dense", {"activation": "swiglu"}),
    ("soft", {}),
    ("sparse", {"features": 64, "hidden": 16, "experts": 8, "classes": 10}),
    ("sparse", {"features": 64, "hidden": 24, "experts": 6, "classes": 64, "activation": "swiglu"}),
]


@pytest.mark.parametrize(("kind", "changes"), HEADS, ids=str)
@pytest.mark.parametrize("make", [plain, wide, grouped], ids=["plain", "wide", "grouped"])
def test_what_is_compiled_is_one_graph(make, kind, changes):
    if (kind != "sparse" and make is grouped) or (kind == "sparse" and make is plain):
        pytest.skip("no such form, or tested with its policies in test_forms")
    head = oracle.new_head(kind, dtype=torch.bfloat16, **changes)
    x = oracle.rows(head, 33)
    with torch.inference_mode():
        run = torch.compile(isolated(make(head)), fullgraph=True, dynamic=False, backend="aot_eager")
        assert oracle.deviation(run(x), head, x) < 2.5e-2


@pytest.mark.parametrize("name", ["compile_max", "compile_grouped_mm"])
def test_tuning_is_left_out_where_it_makes_no_sense(name):
    device = torch.device("cuda")
    config = oracle.new_head("sparse").config
    assert "max-autotune" in form(name).unavailable(config, torch.device("cpu"), torch.bfloat16)
    assert form(name).unavailable(config, device, torch.bfloat16) is None
    wasteful = config.model_copy(update={"experts": 64})
    assert ("32 times" in (form(name).unavailable(wasteful, device, torch.bfloat16) or "")) == (name == "compile_max")
