"""Forms of packages that need not be installed: they say what is missing and which heads they cannot run."""

import sys
from importlib.util import find_spec

import pytest
import torch

from bench.errors import UnavailableError
from bench.forms import form
from models.config import head_config
from tests.bench import oracle

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
PLAIN = {"activation": "swiglu", "standardise": False, "experts": 8}
PACKAGES = {"liger": "liger_kernel", "moe_ops": "moe_ops"}


def config(kind="sparse", **changes):
    return head_config(kind, **({**PLAIN, **changes} if kind == "sparse" else changes))


@pytest.mark.parametrize("name", PACKAGES)
def test_a_missing_package_is_named_with_its_fix(name):
    if find_spec(PACKAGES[name]):
        pytest.skip("it is installed")
    assert "pip install" in form(name).unavailable(config(), CUDA, torch.bfloat16)


@pytest.fixture
def installed(monkeypatch):
    for name in PACKAGES:
        monkeypatch.setattr(sys.modules[f"bench.forms.packages.{name}"], "find_spec", lambda name: object())


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("name", "refused", "words"),
    [
        ("liger", config(activation="relu"), "swiglu, not relu"),
        ("liger", config(policy="top_p"), "k experts for every row"),
        ("liger", config("dense"), "k experts for every row"),
        ("moe_ops", config(standardise=True), "knows no other gate"),
        ("moe_ops", config(weights_over="all"), "knows no other gate"),
        ("moe_ops", config("soft"), "knows no other gate"),
        ("moe_ops", config(experts=60), "power of two"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_head_that_they_do_not_compute_is_refused(name, refused, words):
    assert words in form(name).unavailable(refused, CUDA, torch.bfloat16)
    assert form(name).unavailable(config(), CUDA, torch.bfloat16) is None
    assert "CUDA" in form(name).unavailable(config(), CPU, torch.bfloat16)


def test_moe_ops_takes_no_float32(installed):
    assert "bfloat16" in form("moe_ops").unavailable(config(), CUDA, torch.float32)


@pytest.mark.parametrize(
    ("name", "modules"), [("liger", ("liger_kernel", "liger_kernel.ops", "liger_kernel.ops.fused_moe")),
                          ("moe_ops", ("moe_ops",))],
)  # fmt: skip
def test_biases_are_refused_once_they_are_seen(name, modules, monkeypatch):
    class Stub:
        def __getattr__(self, name):
            return None

    for module in modules:
        monkeypatch.setitem(sys.modules, module, Stub())
    head = oracle.new_head("sparse", **PLAIN)
    with pytest.raises(UnavailableError, match="no biases"):
        form(name).prepare(head, oracle.rows(head, 3))
