"""Which CUDA graph the current stream is captured into, and whether that graph still exists.

The driver holds a user object for a graph until the graph, everything instantiated from it and their last replays are
over. Then one of its threads posts a semaphore. That thread must not wait for Python, so no Python code runs in it.
"""

import ctypes

import torch

try:
    from cuda.bindings import driver
except ImportError:  # torch for CUDA needs it, other builds do not
    driver = None

_LIBC = ctypes.CDLL(None)
_LIBC.calloc.restype = ctypes.c_void_p
_SEMAPHORE = 64
"""Bytes, more than a semaphore needs on any Linux."""


class Lifetime:
    """Whether a graph still exists: `over` is False until the C function at address `end` is called with `pointer`."""

    def __init__(self) -> None:
        # never freed: a graph may end after Python does
        self.pointer: int = _LIBC.calloc(1, _SEMAPHORE)
        _LIBC.sem_init(ctypes.c_void_p(self.pointer), 0, 0)
        self.end = ctypes.cast(_LIBC.sem_post, ctypes.c_void_p).value

    @property
    def over(self) -> bool:
        """Whether the graph, its instances and their replays are over."""
        value = ctypes.c_int()
        _LIBC.sem_getvalue(ctypes.c_void_p(self.pointer), ctypes.byref(value))
        return value.value > 0


def capture_number() -> int | None:
    """Return the number of the capture under way on the current stream, or None if the driver does not say.

    The driver numbers all captures of a process, and gives no number twice.
    """
    information = _information()
    return None if information is None else int(information[0])


def lifetime() -> Lifetime | None:
    """Return the lifetime of the graph that the current stream is captured into, or None if the driver refuses."""
    information = _information()
    if information is None:
        return None
    life = Lifetime()
    no_wait = int(driver.CUuserObject_flags.CU_USER_OBJECT_NO_DESTRUCTOR_SYNC)
    move = int(driver.CUuserObjectRetain_flags.CU_GRAPH_USER_OBJECT_MOVE)
    error, held = driver.cuUserObjectCreate(life.pointer, driver.CUhostFn(life.end), 1, no_wait)
    if error:
        return None
    (error,) = driver.cuGraphRetainUserObject(information[1], held, 1, move)
    return None if error else life


def _information() -> tuple[int, object] | None:
    """Return number and graph of the capture under way, or None without a driver that knows them."""
    if driver is None:
        return None
    try:
        error, _, number, graph, *_ = driver.cuStreamGetCaptureInfo(torch.cuda.current_stream().cuda_stream)
    except RuntimeError:  # an older driver lacks the function
        return None
    return None if error else (number, graph)
