"""A graph's end is seen, and the driver is asked for it in the way it wants."""

import ctypes
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from kernels.launch import captures
from kernels.launch.captures import Lifetime, capture_number, lifetime


def end(life: Lifetime) -> None:
    """End a graph as the driver does: call the C function with the pointer."""
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(life.end)(life.pointer)


def test_a_lifetime_is_over_once_its_end_is_called() -> None:
    life, other = Lifetime(), Lifetime()
    assert not life.over
    end(life)
    assert life.over
    assert life.over
    assert not other.over


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Stand in for the driver during capture 42 of the stream 7."""
    held: list[Any] = []

    def create(pointer: int, end: int, references: int, flags: int) -> tuple[int, Any]:
        assert (references, flags) == (1, 1)
        return 0, (pointer, end)

    def retain(graph: str, held_object: Any, count: int, flags: int) -> tuple[int]:
        assert (graph, count, flags) == ("graph", 1, 1)
        held.append(held_object)
        return (0,)

    stand_in = SimpleNamespace(
        held=held,
        cuStreamGetCaptureInfo=lambda stream: (0, "active", 42, "graph", [], [], 0) if stream == 7 else (1,) * 7,
        cuUserObjectCreate=create,
        cuGraphRetainUserObject=retain,
        CUhostFn=lambda address: address,
        CUuserObject_flags=SimpleNamespace(CU_USER_OBJECT_NO_DESTRUCTOR_SYNC=1),
        CUuserObjectRetain_flags=SimpleNamespace(CU_GRAPH_USER_OBJECT_MOVE=1),
    )
    monkeypatch.setattr(captures, "driver", stand_in)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(cuda_stream=7))
    return stand_in


def test_the_graph_under_capture_holds_what_tells_its_end(driver: SimpleNamespace) -> None:
    assert capture_number() == 42
    life = lifetime()
    assert life is not None
    assert driver.held == [(life.pointer, life.end)]


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("cuStreamGetCaptureInfo", (1,) * 7),
        ("cuUserObjectCreate", (1, None)),
        ("cuGraphRetainUserObject", (1,)),
    ],
)
def test_a_driver_that_refuses_gives_no_lifetime(
    driver: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, name: str, answer: tuple[Any, ...]
) -> None:
    monkeypatch.setattr(driver, name, lambda *arguments: answer)
    assert lifetime() is None


def test_without_the_driver_a_capture_has_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captures, "driver", None)
    assert capture_number() is None
    assert lifetime() is None


def test_the_real_driver_takes_these_arguments() -> None:
    driver = pytest.importorskip("cuda.bindings.driver")
    assert int(driver.CUhostFn(Lifetime().end)) == Lifetime().end
    assert int(driver.CUuserObject_flags.CU_USER_OBJECT_NO_DESTRUCTOR_SYNC) == 1
    assert int(driver.CUuserObjectRetain_flags.CU_GRAPH_USER_OBJECT_MOVE) == 1
