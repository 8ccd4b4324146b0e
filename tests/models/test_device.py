import pytest
import torch

from models.device import DeviceError, device_name, multiplies_bfloat16, pick_device
from models.settings import ConfigError


def test_cpu() -> None:
    assert pick_device("cpu") == torch.device("cpu")
    assert device_name(torch.device("cpu"))


def test_unknown_device_is_refused_with_the_choices() -> None:
    with pytest.raises(ConfigError, match="unknown device 'tpu'; choose one of auto, cpu, cuda"):
        pick_device("tpu")


def test_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto").type == "cpu"
    with pytest.raises(DeviceError, match="cuda is not available here; choose --device cpu"):
        pick_device("cuda")


@pytest.mark.gpu
def test_with_a_gpu() -> None:
    assert pick_device("auto").type == "cuda"
    assert device_name(pick_device("cuda"))


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["fma avx512f avx512_bf16 avx512vl"], True),
        (["fp asimd bf16 i8mm"], True),
        (["fma avx2", "fma avx2 amx_bf16"], True),
        (["fma avx2 avx512f"], False),
        ([], False),
    ],
)
def test_a_cpu_says_whether_it_multiplies_bfloat16(
    lines: list[str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.device._cpu_info", lambda names: iter(lines))
    assert multiplies_bfloat16() is expected
