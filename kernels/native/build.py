"""Builds the native kernel at its first use on a machine, into a cache, and loads it.

The compiler is torch's extension builder; the cache is keyed by source, flags, torch and CPU.
"""

import fcntl
import hashlib
import logging
import os
import platform
import shlex
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch

logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it warns of a CUDA compiler without a GPU

SOURCE = Path(__file__).with_name("moe.cpp")
FLAGS = ("-O3", "-std=c++20", "-fopenmp", "-fno-math-errno", "-fno-trapping-math")
ISA_FLAGS: dict[str, tuple[str, ...]] = {
    "AVX512": ("-mavx512f", "-mavx512dq", "-mavx512vl", "-mavx512bw", "-mfma", "-mf16c"),
    "AVX2": ("-mavx2", "-mfma", "-mf16c"),
}
"""Flags for the instructions that torch itself uses on this CPU; others, such as NEON, are on by default."""


class BuildError(RuntimeError):
    """The native kernel cannot be built here; the message says why."""


def missing() -> str | None:
    """Return why the native kernel cannot be built or loaded here, in one sentence, or None."""
    if _library().exists() or shutil.which(_compiler()):
        return None
    return f"the native kernel needs a C++ compiler once and finds no {_compiler()}; install g++, or set CXX"


@cache
def load() -> None:
    """Load the operators of the native kernel, which is built if this is its first use on this machine.

    Flags in the environment variable MOEGAP_NATIVE_FLAGS follow the usual ones. Raises `BuildError`.
    """
    library = _library()
    if library.exists():
        torch.ops.load_library(library)
    elif reason := missing():
        raise BuildError(reason)
    else:
        _build(library)


def _build(library: Path) -> None:
    """Build and load; processes take turns, and the result moves into the cache whole."""
    from torch.utils import cpp_extension  # half a second

    library.parent.mkdir(parents=True, exist_ok=True)
    with _alone_in(library.parent), tempfile.TemporaryDirectory(dir=library.parent) as folder, _scripts_on_path():
        if library.exists():
            torch.ops.load_library(library)
            return
        try:
            cpp_extension.load(
                library.stem,
                [str(SOURCE)],
                extra_cflags=_flags(),
                extra_ldflags=["-fopenmp"],  # the library of that name that torch has loaded already
                build_directory=folder,
                is_python_module=False,
                is_standalone=False,
            )
        except (RuntimeError, OSError) as error:
            raise BuildError(f"the native kernel cannot be built: {error}") from error
        (Path(folder) / library.name).replace(library)


def _library() -> Path:
    """Return where the library lies once it is built."""
    parts = (SOURCE.read_text(), *_flags(), _compiler(), torch.__version__, platform.machine(), sys.platform)
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    root = os.environ.get("TORCH_EXTENSIONS_DIR") or Path.home() / ".cache" / "torch_extensions"
    return Path(root) / "moegap" / f"moegap_native_{key}.so"


def _flags() -> list[str]:
    capability = torch.backends.cpu.get_cpu_capability()
    isa: list[str] = []
    if capability in ISA_FLAGS:
        isa = [*ISA_FLAGS[capability], f"-DCPU_CAPABILITY={capability}", f"-DCPU_CAPABILITY_{capability}"]
    return [*FLAGS, *isa, *shlex.split(os.environ.get("MOEGAP_NATIVE_FLAGS", ""))]


def _compiler() -> str:
    return os.environ.get("CXX", "c++")


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Wait until no other process is inside for this folder; a process that ends leaves it."""
    entry = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(entry, fcntl.LOCK_EX)
        yield
    finally:
        os.close(entry)


@contextmanager
def _scripts_on_path() -> Iterator[None]:
    """Let the builder find the `ninja` that is installed beside this Python."""
    before = os.environ.get("PATH", "")
    os.environ["PATH"] = os.pathsep.join((sysconfig.get_path("scripts"), before))
    try:
        yield
    finally:
        os.environ["PATH"] = before
