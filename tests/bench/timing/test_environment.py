"""The environment of a measurement."""

from datetime import datetime

import torch

from bench.timing import environment

CPU = torch.device("cpu")


def test_a_snapshot_says_what_a_reader_needs():
    seen = environment.snapshot(CPU)
    assert seen["threads"] == torch.get_num_threads()
    assert seen["versions"]["torch"] == torch.__version__.split("+")[0]
    assert datetime.fromisoformat(seen["measured_at"]).tzinfo is not None
    assert seen["cpu"]
    assert seen["device_name"] == seen["cpu"]


def test_outside_a_checkout_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    environment.commit.cache_clear()
    assert environment.commit() == {"commit": "", "dirty": None}
    environment.commit.cache_clear()


def test_free_memory_is_plausible():
    assert 2**20 < environment.available_memory(CPU) < 2**50
