"""What the compiler makes of the kernels for real targets, in a process without the interpreter."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kernels import inspect
from kernels.compiled.row import Compiled
from tests.kernels.process import OLDEST, run_compiled

GOOD = Compiled("_k_kernel", "", "bf16", "sm_90", registers=64, spill_bytes=0, shared_bytes=10, shared_limit=10)
SAMPLES = {"3.9": ("sm_80", "sm_90", "sm_100"), "3.6": ("sm_90",)}
"""The targets of the sample by version: this one, and the oldest that is supported."""
FORWARD = {
    "_route_kernel",
    "_count_kernel",
    "_dispatch_kernel",
    "_grouped_gemm_kernel",
    "_combine_kernel",
    "_fused_tiles_kernel",
    "_fused_rows_kernel",
}
BACKWARD = {"_activation_gradient_kernel", "_weight_gradient_kernel", "_bias_gradient_kernel"}
MULTIPLY = {"_route_kernel", "_grouped_gemm_kernel", "_fused_tiles_kernel", "_weight_gradient_kernel"}


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """Return the rows that `python -m kernels.inspect --sample --json` writes with each version of Triton."""
    written = {}
    for version, targets in SAMPLES.items():
        path = tmp_path_factory.mktemp("inspect") / "rows.json"
        asked = [f"--target={target}" for target in targets]
        done = run_compiled(
            *("-m", "kernels.inspect", "--sample", "--json", str(path), *asked),
            before=OLDEST if version == "3.6" else None,
        )
        assert path.exists(), done.stderr
        ((compiler, rows),) = json.loads(path.read_text()).items()
        assert compiler.startswith(version)
        assert done.returncode == 0, [row for row in rows if row["faults"]]
        assert "grouped_gemm" in done.stdout
        written[version] = rows
    return written


@pytest.fixture
def rows(versions: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the rows of all versions."""
    return [row for rows in versions.values() for row in rows]


def test_both_versions_compile_every_kernel(versions: dict[str, list[dict[str, Any]]]) -> None:
    for version, targets in SAMPLES.items():
        compiled = {(row["kernel"], row["target"]) for row in versions[version] if not row["error"]}
        assert compiled - {("specialised_gemm_kernel", "sm_90")} == {
            *((name, target) for name in MULTIPLY | {"_fused_rows_kernel"} for target in targets),
            *((name, "sm_90") for name in FORWARD | BACKWARD),
        }


def test_gluon_compiles_with_the_oldest_version(versions: dict[str, list[dict[str, Any]]]) -> None:
    (row,) = [row for row in versions["3.6"] if row["kernel"] == "specialised_gemm_kernel"]
    assert row["wgmmas"].endswith("64x256x16")
    assert row["step_instructions"] < 60


def test_nothing_spills(rows: list[dict[str, Any]]) -> None:
    assert [row for row in rows if row["spill_bytes"] != 0] == []
    assert all(0 < row["registers"] <= 255 for row in rows)


def test_16_bit_products_use_the_targets_own_tensor_core(rows: list[dict[str, Any]]) -> None:
    products = [row for row in rows if row["products"] and row["target"] in ("sm_80", "sm_90")]
    assert {(row["kernel"], row["target"]) for row in products} >= {
        (name, target) for name in MULTIPLY for target in ("sm_80", "sm_90")
    }
    for row in products:
        assert row["tensor_cores"] == ("mma" if row["target"] == "sm_80" or row["short"] else "wgmma"), row


def test_several_wgmmas_are_in_flight(rows: list[dict[str, Any]]) -> None:
    products = [row for row in rows if row["wgmmas"]]
    assert {row["kernel"] for row in products} >= MULTIPLY - {"_route_kernel"}
    assert [row for row in products if row["serialised"] or row["remarks"]] == []
    assert any("64x256x16" in row["wgmmas"] for row in products)


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


@pytest.fixture
def compiles(monkeypatch: pytest.MonkeyPatch) -> list[Compiled]:
    """Return the rows that the compiler is said to return."""
    made: list[Compiled] = [GOOD]
    monkeypatch.delenv("TRITON_INTERPRET")
    monkeypatch.setattr(inspect, "inspect_all", lambda jobs: made)
    monkeypatch.setattr(inspect, "jobs", lambda targets, layers=(): [])
    return made


@pytest.mark.parametrize(
    ("row", "status"),
    [
        (GOOD, 0),
        (replace(GOOD, spill_bytes=8), 1),
        (Compiled("_k_kernel", "", "bf16", "sm_90", error="ValueError: no"), 1),
    ],
    ids=["good", "spills", "no code"],
)
def test_exit_status(
    row: Compiled, status: int, compiles: list[Compiled], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compiles.append(row)
    assert inspect.main(["--json", str(tmp_path / "rows.json")]) == status
    (written,) = json.loads((tmp_path / "rows.json").read_text()).values()
    assert inspect.restored(written[1]) == row
    assert written[1]["faults"] == row.faults
    assert (row.error or "64") in capsys.readouterr().out


def test_another_version_stands_beside(
    compiles: list[Compiled], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "triton").mkdir()
    monkeypatch.setattr(inspect, "elsewhere", lambda folder, arguments: ("3.6.0", [replace(GOOD, spill_bytes=8)]))
    assert inspect.main(["--beside", str(tmp_path)]) == 1
    assert "0 / 8" in capsys.readouterr().out


def test_a_folder_without_triton_is_refused(
    compiles: list[Compiled], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compiles.clear()
    assert inspect.main(["--beside", str(tmp_path)]) == 2
    assert capsys.readouterr() == ("", f"{tmp_path} holds no Triton: `make kernels` installs one.\n")
