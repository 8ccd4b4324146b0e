"""The numbers of the GPUs, and which GPU a device counts as."""

from dataclasses import fields
from types import SimpleNamespace

import pytest
import torch

from kernels.cost import machine
from kernels.cost.machine import A100, B200, H100, H200, KNOWN, Machine, assuming, derived, machine_of


def device_of(known: Machine, **changes: object) -> Machine:
    names = ("capability", "multiprocessors", "l2_bytes", "shared_bytes")
    sizes = {name: getattr(known, name) for name in names}
    return derived(**{"name": f"NVIDIA {known.name} 80GB", **sizes, **changes})


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.name)
def test_a_known_machine_is_found_by_its_name(known: Machine) -> None:
    assert device_of(known) is known


def test_a_smaller_sibling_is_scaled() -> None:
    sibling = device_of(H100, name="NVIDIA H100 PCIe", multiprocessors=114)
    assert sibling.name == "NVIDIA H100 PCIe"
    assert sibling.half_rate / sibling.multiprocessors == pytest.approx(H100.half_rate / H100.multiprocessors)
    assert sibling.multiprocessor_rate == H100.multiprocessor_rate


@pytest.mark.parametrize(("capability", "nearest"), [(75, A100), (86, A100), (90, H100), (103, B200), (120, B200)])
def test_an_unknown_machine_is_like_the_nearest_capability(capability: int, nearest: Machine) -> None:
    sizes = {"capability": capability, "multiprocessors": 10, "l2_bytes": 2**20, "shared_bytes": 99 * 1024}
    unknown = derived("Else", **sizes)
    assert {name: getattr(unknown, name) for name in sizes} == sizes
    assert unknown.name == "Else"
    assert unknown.half_rate == pytest.approx(nearest.half_rate * 10 / nearest.multiprocessors)


def test_rates_are_in_an_order_that_hardware_has() -> None:
    for known in KNOWN:
        assert known.dram_rate < known.l2_rate < known.multiprocessors * known.multiprocessor_rate * 1.2
        assert known.fp32_rate < known.tf32_rate < known.half_rate
        assert known.launch_seconds > known.wait_seconds > 0
        assert all(getattr(known, field.name) for field in fields(known))
    assert H200.half_rate == H100.half_rate


def test_without_a_gpu_the_h100_is_the_reference() -> None:
    assert machine_of(torch.device("cpu")) is H100
    assert machine_of(torch.device("meta")) is H100


def test_an_assumed_machine_counts_until_the_end_of_the_context() -> None:
    with assuming(A100):
        assert machine_of(torch.device("meta")) is A100
        with assuming(B200):
            assert machine_of(torch.device("cuda", 7)) is B200
        assert machine_of(torch.device("cpu")) is A100
    assert machine_of(torch.device("cpu")) is H100


def test_a_cuda_device_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def properties(index: int) -> SimpleNamespace:
        asked.append(index)
        return SimpleNamespace(
            name="NVIDIA A100-SXM4-80GB",
            major=8,
            minor=0,
            multi_processor_count=108,
            L2_cache_size=40 * 2**20,
            shared_memory_per_block_optin=163 * 1024,
        )

    machine._machine.cache_clear()
    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    try:
        assert machine_of(torch.device("cuda", 3)) is machine_of(torch.device("cuda")) is A100
    finally:
        machine._machine.cache_clear()
    assert asked == [3]
