"""Recording of launches and the check of devices."""

import pytest
import torch

from kernels.combine import combine
from kernels.launch import recording, require_device


def test_recorded_launches_do_not_run() -> None:
    y, weights, slots = torch.zeros(6, 3), torch.zeros(3, 2), torch.zeros(3, 2, dtype=torch.int32)
    with recording() as records:
        out = combine(y, weights, slots)
    assert out.isnan().all()
    (launch,) = records
    assert launch.kernel.__name__ == "_combine_kernel"
    assert launch.grid == (1, 1)
    assert (launch.arguments["N"], launch.arguments["C"], launch.arguments["k"]) == (3, 3, 2)
    assert combine(y, weights, slots).count_nonzero() == 0
    assert len(records) == 1


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
