"""What must not happen while something is timed: compiling, tuning, and Python's garbage collection.

Each is counted where it happens, so that a timed region reads and calls nothing more.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import triton
from triton.runtime.autotuner import Autotuner


class Disturbances:
    """Counts disturbances while entered; `message` names the first since entering or the last `reset`."""

    def __init__(self) -> None:
        self._triton_compiled = self._triton_tuned = self._collected = 0
        self._since = self._until = self._counts()
        self._entered = False

    def __enter__(self) -> Self:
        self._hook_before = triton.knobs.runtime.jit_post_compile_hook
        self._bench_before = Autotuner._bench
        triton.knobs.runtime.jit_post_compile_hook = _then(self._hook_before, self._on_triton_compiled)
        Autotuner._bench = _then(self._bench_before, self._on_triton_tuned)
        gc.callbacks.append(self._on_collection)
        self._entered = True
        self.reset()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._until = self._counts()
        self._entered = False
        gc.callbacks.remove(self._on_collection)
        Autotuner._bench = self._bench_before
        triton.knobs.runtime.jit_post_compile_hook = self._hook_before

    def reset(self) -> None:
        """Start counting again."""
        self._since = self._until = self._counts()

    def message(self) -> str:
        """Return what happened since entering or the last `reset`, until now or leaving, as a sentence; "" if nothing.

        If several happened, report the first of `_counts`: it causes the others.
        """
        counts = self._counts() if self._entered else self._until
        happened = (what for what, times in counts.items() if times != self._since[what])
        return next((f"{what} while the form was timed" for what in happened), "")

    def _counts(self) -> dict[str, int]:
        """Return how often each disturbance has happened so far in this process."""
        dynamo = sys.modules.get("torch._dynamo.utils")  # what compiles has imported it, and that takes seconds
        counters = dynamo.counters if dynamo else {"frames": {"total": 0}, "inductor": {}}
        return {
            "torch.compile compiled again": int(counters["frames"]["total"]),
            "torch.compile tuned its kernels": sum(counters["inductor"].values()),  # or looked them up
            "Triton compiled a kernel": self._triton_compiled,
            "Triton tuned a kernel": self._triton_tuned,
            "Python's garbage collector ran": self._collected,
        }

    def _on_triton_compiled(self) -> None:
        self._triton_compiled += 1

    def _on_triton_tuned(self) -> None:
        self._triton_tuned += 1

    def _on_collection(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._collected += 1


def _then(before: Callable[..., Any] | None, notice: Callable[[], None]) -> Callable[..., Any]:
    """Return a function that calls `notice` and does what `before` does, if there is one."""

    def noticed(*args: Any, **kwargs: Any) -> Any:
        notice()
        return before(*args, **kwargs) if before else None

    return noticed


@contextmanager
def quiet() -> Iterator[Callable[[], object]]:
    """Switch Python's garbage collector off inside; the function returned collects what is new.

    Objects that exist on entering are collected or frozen, so that later collections are quick. If the caller froze
    objects before, all stay frozen, because Python can only thaw all at once.
    """
    enabled, thaw = gc.isenabled(), not gc.get_freeze_count()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield gc.collect
    finally:
        if thaw:
            gc.unfreeze()
        if enabled:
            gc.enable()
