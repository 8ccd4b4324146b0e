"""`moegap doctor`: forms and, where asked for, ceilings in short."""

import sys

import pytest
import torch

from bench import cli
from bench.commands.doctor import _binary, _si
from bench.timing import ceilings
from reports.records.record import Ceilings, Copy

HERE = {"device": "cpu", "device_name": "a CPU", "cpu": "a CPU", "threads": 2, "measured_at": "2026-11-25T12:00:00"}


@pytest.fixture
def moegap(monkeypatch, capsys):
    """Run the command line and return what it said."""

    def run(*arguments):
        monkeypatch.setenv("COLUMNS", "160")
        monkeypatch.setattr(sys, "argv", ["moegap", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert not stop.value.code
        return capsys.readouterr().out

    return run


def measured(device, dtype):
    return Ceilings(
        **HERE,
        dtype=str(dtype).removeprefix("torch."),
        samples=5,
        flops_per_s=2.04e11 if dtype is torch.float32 else 4.1e11,
        product="512 x 512 x 512",
        copies=[Copy(working_set=2**17, bytes_per_s=1.12e11), Copy(working_set=2**27, bytes_per_s=2.5e10)],
        launch=7.8e-7,
        operator=1.04e-6,
        parallel=3.1e-5,
    )


def test_ceilings_are_measured_only_where_asked_for(moegap, monkeypatch):
    monkeypatch.setattr(ceilings, "measure_ceilings", measured)
    assert "FLOP/s" not in moegap("doctor")
    said = moegap("doctor", "--ceilings")
    for words in ("204 GFLOP/s", "410 GFLOP/s", "112 GB/s in 128 KiB", "25 GB/s in 128 MiB", "512 x 512 x 512"):
        assert words in said
    for words in ("a launch 780 ns", "an operator 1.04 µs", "waking threads 31 µs"):
        assert words in said
    assert "graph's replay" not in said


@pytest.mark.parametrize(
    ("value", "words"),
    [(2.04e11, "204 Gx"), (7.98e14, "798 Tx"), (1, "1 x"), (999.4, "999 x"), (999.6, "1 kx"), (7.8e-7, "780 nx"),
     (0, "0 nx"), (3.1e-5, "31 µx"), (0.0025, "2.5 mx")],
)  # fmt: skip
def test_three_digits_and_a_prefix(value, words):
    assert _si(value, "x") == words


def test_working_sets_in_words():
    assert [_binary(size) for size in (2**17, 2**21, 2**31, 3 * 2**19)] == ["128 KiB", "2 MiB", "2 GiB", "1.5 MiB"]
