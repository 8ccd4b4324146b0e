"""What a launch makes of a kernel, and which of many kernels the sample holds."""

from types import SimpleNamespace

import torch
from triton.tools.tensor_descriptor import TensorDescriptor

from kernels.compiled.job import Job, specialise
from kernels.compiled.jobs import sample
from kernels.launch.launch import Launch


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
    assert specialise(Launch("experts", kernel, (1,), arguments, warps=8, stages=3), "sm_90") == Job(
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
    def job(target: str = "sm_90", kernel: str = "k", stages: int = 1, kind: str = "bf16", **constants: object) -> Job:
        return Job("room", kernel, (("y", f"*{kind}"),), tuple(constants.items()), (), 4, stages, target)

    small, staged = job(depth=1, block_n=16, swapped=True), job(depth=1, block_n=16, swapped=True, stages=3)
    wide, straight = job(depth=1, block_n=64, swapped=True), job(depth=1, block_n=8, swapped=False)
    old = [job("sm_80", depth=1, block_n=4, swapped=True), job("sm_80", depth=1, block_n=4, swapped=False, stages=3)]
    fp32 = {target: job(target, kind="fp32", depth=1, block_n=8) for target in ("sm_80", "sm_90")}
    other = job(kernel="other", depth=1, block_n=8, swapped=True)
    adds = {
        (target, kind): job(target, "adds", kind=kind, block_n=8)
        for target in ("sm_80", "sm_90")
        for kind in ("bf16", "fp32")
    }
    assert {*sample([small, wide, staged, straight, *fp32.values(), *old, other, *adds.values()])} == {
        *(wide, straight, fp32["sm_80"], old[1], other, adds["sm_90", "bf16"])
    }
    assert job(block_n=64, columns=2, stages=3).tile == 384


def test_tiles_of_few_rows_are_short_unless_their_rows_are_columns() -> None:
    def short(**constants: object) -> bool:
        return Job("room", "k", (), tuple(constants.items()), (), 4, 1, "sm_90").short

    assert short(tile_rows=32)
    assert short(block_n=16, rows_axis=0)
    assert not short(block_n=16, rows_axis=1)
    assert not short(tile_rows=32, swapped=True)
    assert not short(tile_rows=64)


def test_the_parts_that_can_be_loaded_at_once() -> None:
    def summed(kernel: str, **constants: object) -> int:
        return Job("room", kernel, (), tuple(constants.items()), (), 4, 1, "sm_90").summed

    assert summed("_fused_tiles_kernel", parts=4, block_n=16, block_c=16) == 4
    assert summed("_route_kernel", splits=3, tile_rows=16, block_e=16) == 3
    assert summed("_route_kernel", splits=1, tile_rows=16, block_e=16) == 1
    assert summed("_fused_tiles_kernel", parts=128, block_n=16, block_c=16) == 8
    assert summed("_combine_kernel", parts=4, block_n=16, block_c=16) == 1
