"""The picture that `moegap sharpness` leaves."""

import copy

import pytest
import vl_convert

from reports.records.sharpness import Sharpness
from reports.training.sharpness_section import picture

PART = {
    "subset": "train",
    "images": 8,
    "loss": 0.5,
    "blocks": [],
    "density": {"grid": [0.0, 1.0, 2.0], "density": [0.1, 0.8, 0.1], "probes": 1, "steps": 3},
    "lines": [
        {
            "direction": name,
            "range": extent,
            "alphas": [-width, 0.0, width],
            "losses": [0.6, 0.5, 0.7],
            "rerouted": [1, 0, 0],
        }
        for name in ("top eigenvector", "random 0")
        for extent, width in (("small", 1e-6), ("paper", 0.5))
    ],
    "surface": {"alphas": [-1, 0, 1], "betas": [-1, 0, 1], "losses": [[3, 2, 3], [2, 0.5, 2], [3, 2, 3]]},
    "sam": None,
}  # fmt: skip
FILE = {
    "format": 1, "kind": "sharpness", "command": "moegap sharpness", "environment": {}, "checkpoint": "here",
    "head": "sparse", "policy": "top_k", "data": "digits", "parts": [PART, {**copy.deepcopy(PART), "subset": "test"}],
}  # fmt: skip


def test_every_chart_of_every_subset_is_drawn():
    svg = picture(Sharpness.model_validate(FILE))
    assert svg.startswith("<svg")
    for words in (
        "8 train images",
        "8 test images",
        "small range",
        "paper range",
        "Sharpness of here on digits",
        "spectral density",
    ):
        assert words in svg
    assert svg.count("rise of the loss, nats") >= 6
    assert "currentColor" not in svg
    assert len(vl_convert.svg_to_png(svg)) > 10_000


def test_what_is_missing_is_left_out():
    alone = {**PART, "lines": [], "surface": None}
    svg = picture(Sharpness.model_validate({**FILE, "parts": [alone]}))
    assert "spectral density" in svg
    assert "small range" not in svg
    assert picture(Sharpness.model_validate({**FILE, "parts": [{**alone, "density": None}]})) is None


@pytest.mark.parametrize("head", ["dense", "soft"])
def test_heads_without_a_policy_have_their_look(head):
    assert picture(Sharpness.model_validate({**FILE, "head": head, "policy": None}))
