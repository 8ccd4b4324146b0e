"""What the compiler makes of the kernels for real targets, in a process without the interpreter."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import kernels
from kernels import inspect
from kernels.inspect import Job, Row
from kernels.launch import Launch

GOOD = Row("kernel", "", "bf16", "sm_90", registers=64, spill_bytes=0, shared_bytes=10, shared_limit=10)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Return the rows that `python -m kernels.inspect --json` writes."""
    path = tmp_path_factory.mktemp("inspect") / "rows.json"
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "kernels.inspect", "--json", str(path)]
    root = Path(kernels.__file__).parents[1]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "_grouped_gemm_kernel" in done.stdout
    written: list[dict[str, Any]] = json.loads(path.read_text())
    return written


def test_every_kernel_compiles_for_every_target(rows: list[dict[str, Any]]) -> None:
    assert [row for row in rows if row["error"]] == []
    names = {"_top_k_kernel", "_count_kernel", "_place_kernel", "_grouped_gemm_kernel", "_combine_kernel"}
    assert {(row["kernel"], row["target"]) for row in rows} == {
        (name, target) for name in names for target in ("sm_80", "sm_90", "sm_100")
    }
    products = {(row["dtype"], row["target"]) for row in rows if row["kernel"] == "_grouped_gemm_kernel"}
    assert len(products) == 9


def test_nothing_spills(rows: list[dict[str, Any]]) -> None:
    assert [row for row in rows if row["spill_bytes"] != 0] == []
    assert all(0 < row["registers"] <= 255 for row in rows)


def test_shared_memory_suffices(rows: list[dict[str, Any]]) -> None:
    assert [row for row in rows if row["shared_bytes"] > row["shared_limit"]] == []


def test_large_tiles_use_the_targets_own_tensor_core_instruction(rows: list[dict[str, Any]]) -> None:
    seen = set()
    for row in rows:
        settings = dict(pair.split("=") for pair in row["configuration"].split())
        if row["kernel"] != "_grouped_gemm_kernel" or int(settings["tile_rows"]) < 64:
            continue
        best = {"sm_80": "mma", "sm_90": "wgmma", "sm_100": "tcgen05"}[row["target"]]
        assert row["tensor_core"] == ("none" if row["dtype"] == "fp32" else best), row
        seen.add((row["target"], row["dtype"], settings["gather"], settings["tile_rows"]))
    assert len(seen) == 3 * 2 * (1 + 2 + 2)  # targets, products, fp32 at 64 rows and 16-bit at 64 and 128


def test_refuses_the_interpreter(capsys: pytest.CaptureFixture[str]) -> None:
    assert inspect.main([]) == 2
    assert capsys.readouterr().err == "kernels.inspect compiles for a GPU, so run it with TRITON_INTERPRET unset.\n"


@pytest.mark.parametrize(
    ("row", "status"),
    [
        (GOOD, 0),
        (Row(**{**vars(GOOD), "spill_bytes": 8}), 1),
        (Row(**{**vars(GOOD), "shared_bytes": 11}), 1),
        (Row("kernel", "", "bf16", "sm_90", error="ValueError: no"), 1),
    ],
    ids=["good", "spills", "too much shared memory", "no code"],
)
def test_exit_status(
    row: Row, status: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("TRITON_INTERPRET")
    monkeypatch.setattr(inspect, "inspect_all", lambda: [GOOD, row])
    assert inspect.main(["--json", str(tmp_path / "rows.json")]) == status
    assert json.loads((tmp_path / "rows.json").read_text())[1] == vars(row)
    assert (row.error or "64") in capsys.readouterr().out


def test_a_launch_is_specialised_as_triton_does_it() -> None:
    def parameter(name: str, constant: bool = False, general: bool = False) -> SimpleNamespace:
        return SimpleNamespace(name=name, is_constexpr=constant, do_not_specialize=general)

    kernel = SimpleNamespace(
        __module__="room",
        __name__="kernel",
        params=[
            parameter("a"),
            parameter("one"),
            parameter("any_one", general=True),
            parameter("even"),
            parameter("odd"),
            parameter("huge"),
            parameter("real"),
            parameter("block", constant=True),
        ],
    )
    arguments = {
        "a": torch.empty(3, dtype=torch.bfloat16),
        "one": 1,
        "any_one": 1,
        "even": 48,
        "odd": 47,
        "huge": 2**31,
        "real": 1.0,
        "block": 64,
    }
    assert inspect.specialise(Launch(kernel, (1,), arguments, warps=8, stages=3), "sm_90") == Job(
        module="room",
        kernel="kernel",
        signature=(
            ("a", "*bf16"),
            ("one", "constexpr"),
            ("any_one", "i32"),
            ("even", "i32"),
            ("odd", "i32"),
            ("huge", "i64"),
            ("real", "fp32"),
            ("block", "constexpr"),
        ),
        constants=(("one", 1), ("block", 64)),
        aligned=("a", "even", "huge"),
        warps=8,
        stages=3,
        target="sm_90",
    )


def test_a_failure_to_compile_is_a_row() -> None:
    job = Job("kernels.combine", "no_such_kernel", (("y", "*bf16"),), (), (), 4, 1, "sm_90")
    row = inspect.inspect(job)
    assert row.error is not None
    assert row.error.startswith("AttributeError")
    assert not row.good
