"""Building: what the cache is keyed by, what becomes of a failure, and the kernel under sanitizers."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch.utils import cpp_extension

from kernels.native import build
from kernels.native.build import BuildError, load, missing
from tests.kernels.process import ROOT

MATRIX = """
import torch
from kernels.native.layer import Native
from tests.kernels.calls import AWKWARD, KINDS, assert_right, new_call
from tests.kernels.native.calls import PLANS, solve

for N, D, H, E, k, C in [*AWKWARD, (150, 300, 33, 3, 2, 40)]:
    for place, plan in enumerate(PLANS):
        for kind in KINDS:
            activation = ("relu", "gelu", "silu", "swiglu")[place]
            dtype = torch.bfloat16 if D % 2 == 0 else torch.float32
            call = new_call(N, D, H, E, C, dtype, k=k, kind=kind, activation=activation, standardise=True)
            assert_right(solve(call, plan), call)
print("every call is right", flush=True)

call = new_call(9, 16, 16, 4, 5, kind="top_k")
layer = Native(call.experts)
layer._packed = (*layer._packed[:2], layer.w2[:1].clone(), *layer._packed[3:])
layer(call.x, call.routing)
print("not reached")
"""


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache in which nothing is built, and `load` as if it had never run."""
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    load.cache_clear()
    yield tmp_path
    load.cache_clear()


def test_without_a_compiler_one_sentence_says_so(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    reason = "the native kernel needs a C++ compiler once and finds no no-such-compiler; install g++, or set CXX"
    assert missing() == reason
    with pytest.raises(BuildError, match=re.escape(reason)):
        load()


def test_what_was_built_needs_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    load()
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert missing() is None


def test_what_another_process_built_meanwhile_is_not_built_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load()
    built = build._library()
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))

    @contextmanager
    def waiting(folder: Path) -> Iterator[None]:
        build._library().symlink_to(built)
        yield

    monkeypatch.setattr(build, "_alone_in", waiting)
    monkeypatch.setattr(cpp_extension, "load", lambda *everything, **options: pytest.fail("built again"))
    build._build(build._library())


def test_a_build_that_fails_leaves_nothing(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOEGAP_NATIVE_FLAGS", "--no-such-flag")
    with pytest.raises(BuildError, match="the native kernel cannot be built"):
        load()
    assert not [path for path in empty_cache.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("name", "value"), [("__version__", "9.9"), ("SOURCE", None), ("flags", "-O1"), ("compiler", "clang++")]
)
def test_the_cache_tells_builds_apart(
    name: str, value: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = build._library()
    if name == "__version__":
        monkeypatch.setattr(torch, name, value)
    elif name == "SOURCE":
        changed = tmp_path / "moe.cpp"
        changed.write_text(build.SOURCE.read_text() + "\n")
        monkeypatch.setattr(build, name, changed)
    else:
        monkeypatch.setenv({"flags": "MOEGAP_NATIVE_FLAGS", "compiler": "CXX"}[name], str(value))
    assert build._library() != before


def test_sanitizers_find_nothing_but_a_fault_that_was_made() -> None:
    """Addresses and undefined behaviour over the shapes, and then with weights of one expert where four are needed."""
    libraries = [
        subprocess.run(["c++", f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    environment = os.environ | {
        "MOEGAP_NATIVE_FLAGS": "-O0 -g1 -fsanitize=address,undefined -fno-sanitize-recover=all",
        "LD_PRELOAD": ":".join(libraries),
        "ASAN_OPTIONS": "detect_leaks=0",
    }
    command = [sys.executable, "-c", MATRIX]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert result.stdout == "every call is right\n", result.stderr[-3000:]
    assert "heap-buffer-overflow" in result.stderr
    assert result.returncode != 0
