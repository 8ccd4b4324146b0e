"""What the compiler makes of the kernels for real targets, in a process without the interpreter."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from triton.tools.tensor_descriptor import TensorDescriptor

from kernels import inspect
from kernels.inspect import TARGETS, Compiled, Job
from kernels.launch.launch import Launch
from tests.kernels.compiled import run_compiled

GOOD = Compiled("_k_kernel", "", "bf16", "sm_90", registers=64, spill_bytes=0, shared_bytes=10, shared_limit=10)
KERNELS = {
    "_route_kernel",
    "_count_kernel",
    "_dispatch_kernel",
    "_grouped_gemm_kernel",
    "_combine_kernel",
    "_fused_tiles_kernel",
    "_fused_rows_kernel",
}
MULTIPLY = {"_route_kernel", "_grouped_gemm_kernel", "_fused_tiles_kernel"}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Return the rows that `python -m kernels.inspect --sample --json` writes."""
    path = tmp_path_factory.mktemp("inspect") / "rows.json"
    done = run_compiled("-m", "kernels.inspect", "--sample", "--json", str(path))
    written: list[dict[str, Any]] = json.loads(path.read_text())
    assert done.returncode == 0, [row for row in written if not row["good"]]
    assert "grouped_gemm" in done.stdout
    return written


def test_every_kernel_compiles_for_every_target(rows: list[dict[str, Any]]) -> None:
    assert [row for row in rows if row["error"]] == []
    assert {(row["kernel"], row["target"]) for row in rows} == {
        (name, target) for name in KERNELS for target in TARGETS
    }


def test_nothing_spills(rows: list[dict[str, Any]]) -> None:
    assert [row for row in rows if row["spill_bytes"] != 0] == []
    assert all(0 < row["registers"] <= 255 for row in rows)


def test_shared_memory_suffices(rows: list[dict[str, Any]]) -> None:
    assert [row for row in rows if row["shared_bytes"] > row["shared_limit"]] == []


def test_16_bit_products_use_the_targets_own_tensor_core(rows: list[dict[str, Any]]) -> None:
    seen = set()
    for row in rows:
        if row["products"] and row["target"] in ("sm_80", "sm_90"):
            assert row["tensor_cores"] == {"sm_80": "mma", "sm_90": "wgmma"}[row["target"]], row
            seen.add((row["kernel"], row["target"]))
    assert seen == {(name, target) for name in MULTIPLY for target in ("sm_80", "sm_90")}
    assert {row["kernel"] for row in rows if row["dtype"] in ("fp16", "bf16") and row["products"]} == MULTIPLY


def test_several_wgmmas_are_in_flight(rows: list[dict[str, Any]]) -> None:
    products = [row for row in rows if row["wgmmas"] > 1]
    assert {row["kernel"] for row in products} == MULTIPLY
    assert [row for row in products if row["full_waits"] >= row["wgmmas"]] == []


def test_exact_fp32_products_use_no_tensor_core(rows: list[dict[str, Any]]) -> None:
    exact = [row for row in rows if row["dtype"] == "fp32" and "precision=tf32" not in row["configuration"]]
    assert {row["kernel"] for row in exact} >= MULTIPLY
    assert {row["tensor_cores"] for row in exact} == {"none"}


def test_aligned_rows_are_read_wide_and_ahead(rows: list[dict[str, Any]]) -> None:
    products = [row for row in rows if row["products"] and "stages=1" not in row["configuration"].split()]
    assert products
    for row in products:
        if row["aligned"]:
            assert row["copies"] != "none", row
            assert row["widest_load"] == 16 or "tma" in row["copies"], row


def test_refuses_the_interpreter(capsys: pytest.CaptureFixture[str]) -> None:
    assert inspect.main([]) == 2
    assert capsys.readouterr().err == "kernels.inspect compiles for a GPU, so run it with TRITON_INTERPRET unset.\n"


@pytest.mark.parametrize(
    ("row", "status"),
    [
        (GOOD, 0),
        (Compiled(**{**vars(GOOD), "spill_bytes": 8}), 1),
        (Compiled(**{**vars(GOOD), "shared_bytes": 11}), 1),
        (Compiled(**{**vars(GOOD), "products": True, "tensor_cores": "mma"}), 1),
        (Compiled(**{**vars(GOOD), "products": True, "tensor_cores": "wgmma mma"}), 1),
        (Compiled(**{**vars(GOOD), "products": True, "tensor_cores": "wgmma"}), 0),
        (Compiled(**{**vars(GOOD), "wgmmas": 8, "full_waits": 8}), 1),
        (Compiled(**{**vars(GOOD), "wgmmas": 8, "full_waits": 7}), 0),
        (Compiled("_k_kernel", "", "bf16", "sm_90", error="ValueError: no"), 1),
    ],
    ids=[
        "good",
        "spills",
        "too much shared memory",
        "slow unit",
        "two units",
        "fastest unit",
        "serialised",
        "in flight",
        "no code",
    ],
)
def test_exit_status(
    row: Compiled, status: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("TRITON_INTERPRET")
    monkeypatch.setattr(inspect, "inspect_all", lambda jobs: [GOOD, row])
    monkeypatch.setattr(inspect, "jobs", lambda targets: [])
    assert inspect.main(["--json", str(tmp_path / "rows.json")]) == status
    assert json.loads((tmp_path / "rows.json").read_text())[1] == {**vars(row), "good": row.good}
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
            parameter("nothing"),
            parameter("described"),
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
        "nothing": None,
        "described": TensorDescriptor(torch.empty(4, 64, 64).half(), [4, 64, 64], [4096, 64, 1], [1, 16, 64]),
        "block": 64,
    }
    assert inspect.specialise(Launch("experts", kernel, (1,), arguments, warps=8, stages=3), "sm_90") == Job(
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
            ("nothing", "constexpr"),
            ("described", "tensordesc<fp16[1,16,64]>"),
            ("block", "constexpr"),
        ),
        constants=(("one", 1), ("nothing", None), ("block", 64)),
        aligned=("a", "even", "huge"),
        warps=8,
        stages=3,
        target="sm_90",
    )


def test_the_sample_holds_the_largest_tiles() -> None:
    def job(target: str = "sm_90", kernel: str = "k", stages: int = 1, **constants: object) -> Job:
        return Job("room", kernel, (("y", "*bf16"),), tuple(constants.items()), (), 4, stages, target)

    small, deep = job(block_n=16, gather=True), job(block_n=16, gather=True, stages=3)
    wide, straight = job(block_n=64, gather=True), job(block_n=8, gather=False)
    old = [job("sm_80", block_n=4, gather=True), job("sm_80", block_n=4, gather=False, stages=3)]
    fp32 = Job("room", "k", (("y", "*fp32"),), (("block_n", 8), ("gather", True)), (), 4, 1, "sm_90")
    other = job(kernel="other", block_n=8, gather=True)
    assert {*inspect.sample([small, wide, deep, straight, fp32, *old, other])} == {wide, straight, fp32, old[1], other}
    assert job(block_n=64, columns=2, stages=3).tile == 384


def test_a_failure_to_compile_is_a_row() -> None:
    job = Job("kernels.ops.combine", "no_such_kernel", (("y", "*bf16"),), (), (), 4, 1, "sm_90")
    row = inspect.inspect(job)
    assert row.error is not None
    assert row.error.startswith("AttributeError")
    assert not row.good


@pytest.mark.parametrize(
    ("ptx", "width"),
    [
        ("ld.global.v4.b32 {%r1, %r2, %r3, %r4}, [ %rd1 + 0 ];", 16),
        ("@%p1 ld.global.L1::evict_last.v2.b64 { %rd3, %rd4 }, [ %rd1 ];", 16),
        ("ld.global.b16 %rs1, [ %rd1 ];", 2),
        ("cp.async.cg.shared.global [ %r1 + 0 ], [ %rd1 + 0 ], 0x10, %r2;", 16),
        ("cp.async.ca.shared.global [ %r1 + 0 ], [ %rd1 + 0 ], 0x4, %r2;", 4),
        ("st.global.v4.b32 [ %rd1 ], { %r1, %r2, %r3, %r4 };", 0),
    ],
)
def test_the_widest_load_is_found(ptx: str, width: int) -> None:
    assert inspect._widest_load(ptx) == width


def test_markdown_holds_every_row() -> None:
    bad = Compiled("_k_kernel", "", "bf16", "sm_90", error="ValueError: no")
    assert inspect.markdown([GOOD, bad]).splitlines()[2:] == [
        "| k |  | bf16 | sm_90 | 64 | 0 | 10 | none | 0 | 0 | none | 0 |",
        "| k |  | bf16 | sm_90 | ValueError: no |",
    ]
