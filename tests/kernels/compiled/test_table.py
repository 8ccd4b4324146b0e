"""One line for each kernel, the numbers of several versions side by side."""

from dataclasses import replace

from kernels.compiled.row import Compiled
from kernels.compiled.table import cells, markdown, table, together

ROW = Compiled("_k_kernel", "depth=64", "bf16", "sm_90", registers=64, spill_bytes=0, shared_bytes=9, shared_limit=9)
BAD = Compiled("_other_kernel", "", "bf16", "sm_90", error="ValueError: no")


def test_numbers_that_differ_stand_side_by_side() -> None:
    other = replace(ROW, registers=72, spill_bytes=8)
    assert cells([ROW, other])[:7] == ["k", "depth=64", "bf16", "sm_90", "64 / 72", "0 / 8", "9"]
    assert cells([ROW, other])[-1] == "- / spills"


def test_rows_of_the_same_kernel_come_together() -> None:
    other = replace(ROW, registers=72)
    assert together([[ROW, BAD], [other]]) == [[ROW, other], [BAD]]
    assert together([[ROW], [replace(ROW, aligned=True)]]) == [[ROW], [replace(ROW, aligned=True)]]


def test_markdown_holds_every_row() -> None:
    assert markdown([[ROW], [BAD]]).splitlines()[2:] == [
        "| k | depth=64 | bf16 | sm_90 | 64 | 0 | 9 | - | - | - | - | - | none | - | - | none | 0 | - |",
        "| other |  | bf16 | sm_90 | - | - | - | - | - | - | - | - | none | - | - | none | 0 | ValueError: no |",
    ]


def test_a_kernel_with_a_fault_is_red() -> None:
    view = table([[ROW], [ROW, replace(ROW, spill_bytes=8)]], ["3.9.0", "3.6.0"])
    assert [row.style for row in view.rows] == [None, "bold red"]
    assert view.title == "Kernels compiled ahead of time by Triton 3.9.0 / 3.6.0"
