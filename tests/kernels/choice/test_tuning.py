"""Tuned options: which calls use the entries of a file, and what happens without a good file."""

import json
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import triton

from kernels.choice import tuning
from kernels.choice.choice import choose
from kernels.choice.tuning import VERSION, Entry, Tuned, layer_of, load, options_for, path_of, save, tuned
from kernels.cost.machine import B200, H100, assuming
from kernels.paths.fused_rows import FusedRows
from kernels.paths.fused_tiles import FusedTiles
from kernels.paths.grouped import Grouped
from kernels.problem.options import Product, Router
from kernels.problem.problem import Problem

PAPER = Problem(N=64, D=512, H=64, E=8, C=10, k=2, M=128, dtype=torch.bfloat16, described=(True, False))
CUDA = torch.device("cuda", 0)
DEVICE = "NVIDIA H100 80GB HBM3"
TILES = FusedTiles(tile_rows=64, experts=1, slices=1, hidden=64, depth=64, warps=4, stages=3)
ROWS = FusedRows(slices=1, hidden=64, depth=128, warps=8)
TILE = Product(columns=64, depth=64, warps=4, stages=3)
GROUPED = Grouped(64, Router(tile_rows=64, depth=64, warps=4, stages=3), replace(TILE, described=True), TILE)
CONTENTS = Tuned(
    DEVICE,
    VERSION,
    torch="2.15.0",
    date="2026-11-21",
    samples=15,
    machine={"launch_seconds": 1.2e-6},
    entries=(
        Entry(layer_of(PAPER), 16, ROWS, 4e-6),
        Entry(layer_of(PAPER), 1024, TILES, 5e-6),
        Entry(layer_of(PAPER), 65536, GROUPED, 6e-5),
    ),
)


@pytest.fixture(autouse=True)
def device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Let there seem to be a GPU and no interpreter, with an empty folder of tuned options; yield the device's path."""

    def forget() -> None:
        for cached in (tuning._tuned, tuning._entries, tuning._name):
            cached.cache_clear()

    forget()
    monkeypatch.setattr(tuning, "FOLDER", tmp_path)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: DEVICE)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.delenv("TRITON_INTERPRET")
    yield path_of(DEVICE)
    forget()


def at(N: int, **changes: Any) -> Problem:
    return replace(PAPER, N=N, M=N * PAPER.k, **changes)


def test_a_file_comes_back_as_it_was_saved(device: Path) -> None:
    assert device.name == f"nvidia-h100-80gb-hbm3-triton-{VERSION}.json"
    save(device, CONTENTS)
    assert load(device, DEVICE) == CONTENTS
    assert json.loads(device.read_text())["entries"][0]["options"]["path"] == "FusedRows"
    assert [path.name for path in device.parent.iterdir()] == [device.name]


@pytest.mark.parametrize(
    ("N", "options"), [(1, ROWS), (16, ROWS), (100, ROWS), (200, TILES), (4096, TILES), (30000, GROUPED)]
)
def test_the_nearest_number_of_rows_serves(device: Path, N: int, options: object) -> None:
    save(device, CONTENTS)
    assert tuned(at(N), CUDA) == options_for(at(N), torch.device("cuda")) == options


@pytest.mark.parametrize(
    "change",
    [
        {"D": 513},
        {"E": 9},
        {"activation": "silu"},
        {"dtype": torch.float16},
        {"precision": "tf32"},
        {"routing": "flat"},
    ],
    ids=str,
)
def test_another_layer_is_chosen_by_the_model(device: Path, change: dict[str, Any]) -> None:
    save(device, CONTENTS)
    problem = at(64, **change)
    assert tuned(problem, CUDA) is None
    with assuming(B200):
        assert options_for(problem, CUDA) == choose(problem, B200)


def test_options_that_a_call_does_not_allow_are_left(device: Path) -> None:
    save(device, replace(CONTENTS, entries=CONTENTS.entries[1:]))
    assert tuned(at(65536, described=(False, False)), CUDA) is None
    save(device, replace(CONTENTS, entries=CONTENTS.entries[:1]))
    tuning._entries.cache_clear()
    assert tuned(at(2**20), CUDA) is None  # more sums than there are tickets


def test_a_device_without_a_file_is_warned_of_once() -> None:
    with pytest.warns(UserWarning, match=f"^no tuned kernel options for {DEVICE} with Triton {VERSION}"):
        assert tuned(at(1), CUDA) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with assuming(H100):
            assert options_for(at(2), CUDA) == choose(at(2), H100)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"device": "NVIDIA A100"}, "made on NVIDIA A100"),
        ({"triton": "1.0"}, r"with Triton 1\.0"),
        ({"entries": [{"N": 1}]}, "not of the form"),
        ({"entries": 7}, "not of the form"),
        ({"surprise": 1}, "not of the form"),
        ({"entries": [{"N": 0}]}, "an entry has N = 0"),
    ],
    ids=str,
)
def test_a_broken_or_foreign_file_is_warned_of_once_and_not_used(
    device: Path, change: dict[str, Any], message: str
) -> None:
    save(device, CONTENTS)
    device.write_text(json.dumps({**json.loads(device.read_text()), **change}))
    with pytest.warns(UserWarning, match=message):
        assert tuned(at(1), CUDA) is None
    assert tuned(at(2), CUDA) is None  # a second warning would be an error


@pytest.mark.parametrize("text", ["", "{", "[]", "7"])
def test_what_is_no_such_json_is_warned_of(device: Path, text: str) -> None:
    device.write_text(text)
    with pytest.warns(UserWarning, match=r"is not used, the cost model chooses: it is no"):
        assert tuned(at(1), CUDA) is None


@pytest.mark.parametrize("place", ["cpu", "meta", "interpreter"])
def test_nothing_is_said_without_a_real_gpu(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if place == "interpreter":
        monkeypatch.setenv("TRITON_INTERPRET", "1")
        assert triton.knobs.runtime.interpret
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert tuned(PAPER, torch.device("cuda" if place == "interpreter" else place)) is None


def test_every_shipped_file_is_good() -> None:
    for path in Path(tuning.__file__).with_name("tuned").glob("*.json"):
        contents = json.loads(path.read_text())
        assert load(path, contents["device"]).entries
