"""The numbers of the GPUs, and which GPU a device counts as."""

from dataclasses import fields
from types import SimpleNamespace

import pytest
import torch

from kernels.cost import machine
from kernels.cost.machine import (
    A100,
    B200,
    H100,
    H200,
    KNOWN,
    MI300X,
    MI355X,
    RTX_5090,
    Machine,
    assuming,
    derived,
    machine_of,
)


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


@pytest.mark.parametrize(("capability", "nearest"), [(75, A100), (86, A100), (90, H100), (103, B200), (120, RTX_5090)])
def test_an_unknown_machine_is_like_the_nearest_capability(capability: int, nearest: Machine) -> None:
    sizes = {"capability": capability, "multiprocessors": 10, "l2_bytes": 2**20, "shared_bytes": 99 * 1024}
    unknown = derived("Else", **sizes)
    assert {name: getattr(unknown, name) for name in sizes} == sizes
    assert unknown.name == "Else"
    assert unknown.half_rate == pytest.approx(nearest.half_rate * 10 / nearest.multiprocessors)


def test_rates_are_in_an_order_that_hardware_has() -> None:
    for known in KNOWN:
        assert known.dram_rate < known.l2_rate < known.multiprocessors * known.multiprocessor_rate * 1.2
        assert max(known.fp32_rate, known.tf32_rate) < known.half_rate
        assert (known.fp32_rate < known.tf32_rate) == (known is not RTX_5090)
        assert known.launch_seconds > known.wait_seconds > 0
        assert all(getattr(known, field.name) for field in fields(known) if field.name != "register_stages")
    assert H200.half_rate == H100.half_rate


def test_what_a_machine_can_do_follows_from_its_capability() -> None:
    assert {known.name for known in (*KNOWN, MI300X, MI355X) if known.asynchronous} == {"H100", "H200", "B200"}
    assert [known.name for known in (*KNOWN, MI300X, MI355X) if known.amd] == ["MI300X", "MI355X"]
    assert [known.name for known in (*KNOWN, MI300X, MI355X) if not known.chains] == ["A100", "MI300X", "MI355X"]
    assert not {MI300X, MI355X} & {*KNOWN}


def test_without_a_gpu_the_h100_is_the_reference() -> None:
    assert machine_of(torch.device("cpu")) is H100
    assert machine_of(torch.device("meta")) is H100


@pytest.mark.parametrize(
    ("known", "clock", "memory"),
    [(H100, 1.98e9, 2 * 2.619e9 * 5120 / 8), (H200, 1.98e9, 2 * 3.201e9 * 6144 / 8), (A100, 1.41e9, 2 * 1.593e9 * 640)],
    ids=lambda value: getattr(value, "name", ""),
)
def test_what_a_known_device_reports_is_close_to_the_table(known: Machine, clock: float, memory: float) -> None:
    assert device_of(known, clock=clock, memory=memory) is known


def test_what_a_device_reports_counts_more_than_the_table() -> None:
    slow = device_of(H200, clock=1.5e9, memory=4.0e12, l2_bytes=7, multiprocessors=78)
    assert (slow.l2_bytes, slow.multiprocessors, slow.boost_clock) == (7, 78, 1.5e9)
    assert slow.dram_rate == pytest.approx(0.88 * 4.0e12)
    assert slow.half_rate / H200.half_rate == pytest.approx(78 / 132 * 1.5 / 1.98)
    assert slow.multiprocessor_rate / H200.multiprocessor_rate == pytest.approx(1.5 / 1.98)
    assert device_of(H100, l2_bytes=60 * 2**20).l2_bytes == H200.l2_bytes


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
            clock_rate=1_410_000,
            memory_clock_rate=1_593_000,
            memory_bus_width=5120,
        )

    machine._machine.cache_clear()
    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    try:
        assert machine_of(torch.device("cuda", 3)) is machine_of(torch.device("cuda")) is A100
    finally:
        machine._machine.cache_clear()
    assert asked == [3]


def test_an_amd_gpu_is_never_taken_for_a_hopper(monkeypatch: pytest.MonkeyPatch) -> None:
    properties = SimpleNamespace(name="AMD Instinct MI300X", gcnArchName="gfx942:sramecc+:xnack-", major=9, minor=4)
    machine._machine.cache_clear()
    monkeypatch.setattr(torch.version, "hip", "6.4")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    with pytest.raises(ValueError, match=r"^AMD Instinct MI300X \(gfx942\S+\): .* NVIDIA GPUs only"):
        machine_of(torch.device("cuda", 0))
    with assuming(H100):
        assert machine_of(torch.device("cuda", 0)) is H100
