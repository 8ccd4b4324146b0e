"""Anchors: they do what they say, whatever the head, and count it."""

import pytest
import torch

from bench.forms import form
from bench.forms.anchors import COPIED, SIZE
from tests.bench import oracle

CPU = torch.device("cpu")
CUDA = torch.device("cuda")


@pytest.mark.parametrize("kind", ["dense", "soft", "sparse"])
@pytest.mark.parametrize("name", ["copy", "peak"])
def test_an_anchor_runs_beside_any_head_and_has_nothing_to_check(name, kind):
    head = oracle.new_head(kind)
    x = oracle.rows(head, 5)
    chosen = form(name)
    assert chosen.unavailable(head.config, CPU, x.dtype) is None
    assert bool(chosen.prepare(head, x)(x).isfinite().all())
    assert (chosen.computes, chosen.expected) == ("nothing", None)


def test_counts_of_the_anchors():
    config = oracle.new_head("sparse").config
    assert form("empty").work(config, 1, torch.float32, CPU, None) == (0, 0)
    assert form("copy").work(config, 1, torch.float32, CUDA, None) == (0, 2**31)
    assert form("peak").work(config, 1, torch.bfloat16, CUDA, None) == (2 * 8192**3, 6 * 8192**2)


def test_a_copy_moves_all_it_counts_and_a_peak_multiplies_all():
    head = oracle.new_head("dense")
    x = oracle.rows(head, 1)
    copied, product = form("copy").prepare(head, x)(x), form("peak").prepare(head, x)(x)
    assert copied.nbytes == COPIED["cpu"]
    assert product.shape == (SIZE["cpu"], SIZE["cpu"])


def test_an_empty_launch_needs_a_gpu():
    assert "CUDA" in form("empty").unavailable(oracle.new_head("dense").config, CPU, torch.float32)
