"""Recording of launches and the check of devices."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.launch.launch import launch, name_stages, recording, require_device


@triton.jit
def _double_kernel(x, out, N, block: tl.constexpr):
    n = tl.arange(0, block)
    tl.store(out + n, 2 * tl.load(x + n, mask=n < N), mask=n < N)


def double(x: Tensor) -> Tensor:
    """Return 2 x by a launch."""
    out = torch.empty_like(x)
    launch("combine", _double_kernel, (1,), {"x": x, "out": out, "N": len(x), "block": 4}, warps=2, stages=3)
    return out


def test_recorded_launches_do_not_run() -> None:
    x = torch.tensor([1.0, 2.0, 3.0])
    with recording() as records:
        assert double(x).isnan().all()
    (made,) = records
    assert (made.stage, made.kernel, made.grid, made.warps, made.stages) == ("combine", _double_kernel, (1,), 2, 3)
    assert (made.arguments["x"], made.arguments["N"]) == (x, 3)
    assert torch.equal(double(x), 2 * x)
    assert len(records) == 1


def test_launches_run_under_the_name_of_their_stage() -> None:
    seen = []

    @contextmanager
    def note(stage: str) -> Iterator[None]:
        seen.append(stage)
        yield

    name_stages(note)
    try:
        double(torch.ones(3))
    finally:
        name_stages(nullcontext)
    double(torch.ones(3))
    assert seen == ["combine"]


def test_all_tensors_must_share_a_device() -> None:
    with pytest.raises(ValueError, match="one device, but found x on cpu, w on meta"):
        require_device(x=torch.zeros(1), w=torch.zeros(1, device="meta"))


def test_a_cpu_tensor_needs_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    require_device(x=torch.zeros(1))
    monkeypatch.delenv("TRITON_INTERPRET")
    with pytest.raises(
        ValueError, match="x is on cpu: Triton needs CUDA tensors, or TRITON_INTERPRET=1 from the start"
    ):
        require_device(x=torch.zeros(1))
    with recording():
        require_device(x=torch.zeros(1, device="meta"))
