"""Checks of options before torch is imported, which takes seconds, so that a typo is answered at once.

What these let through is checked again by whoever uses it; tests hold the names to those that there are.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import TypeVar, get_args

from bench.errors import BenchError
from models.settings import Activation, check_choice

DEVICES = ("auto", "cpu", "cuda")
DTYPES = ("float32", "float16", "bfloat16")
HEADS = ("dense", "soft", "sparse", "all")
PRESETS = ("demo", "quick", "fast", "paper", "paper-fixed")
BACKBONES = ("identity", "small", "fast", "resnet18")
SUITES = ("demo", "paper", "batch", "routing", "models")
SKEWS = ("balanced", "uniform", "zipf1", "zipf2", "hot", "one")
SUBSETS = ("train", "test")
ACTIVATIONS = get_args(Activation)
ENTRY_POINTS = "moegap.forms"
FORM = re.compile(r'\bForm\(\s*(f?)"([^"{]*)')
"""The name of a form in its source, or how it begins."""

Value = TypeVar("Value")


def one_of(what: str, names: tuple[str, ...]) -> Callable[[Value], Value]:
    """Return a callback of an option that takes one or more of `names`; raises `ConfigError` for another."""

    def check(value: Value) -> Value:
        for name in value if isinstance(value, list) else [value]:
            if name is not None:
                check_choice(what, str(name), names)
        return value

    return check


def checked_forms(names: list[str] | None) -> list[str] | None:
    """Return the names; raises `BenchError` if one is surely no form: no file has it, and no other package has any."""
    if not names or entry_points(group=ENTRY_POINTS):
        return names
    sources = (Path(__file__).parent / "forms").rglob("*.py")
    known = [(begins, name) for source in sorted(sources) for begins, name in FORM.findall(source.read_text())]
    for name in names:
        if not any(name.startswith(form) if begins else name == form for begins, form in known):
            whole = ", ".join(form for begins, form in known if not begins)
            raise BenchError(f"unknown form {name!r}; choose one of {whole}; `moegap doctor` lists all")
    return names


def checked_form(name: str) -> str:
    """Return the name as `checked_forms` does."""
    checked_forms([name])
    return name


def checked_threads(threads: int | None) -> int | None:
    """Return the number; raises `BenchError` if the machine has fewer cores, since it might not start as many."""
    cores = os.cpu_count() or 1
    if threads is not None and threads > cores:
        raise BenchError(f"--threads {threads} is more than the {cores} cores of this machine; choose at most {cores}")
    return threads


def checked_checkpoint(path: Path) -> Path:
    """Return the path; raises `BenchError` if it is no folder."""
    if not path.is_dir():
        raise BenchError(f"there is no checkpoint folder {path}; train one with `moegap train --out {path}`")
    return path


def checked_checkpoints(paths: list[Path] | None) -> list[Path] | None:
    """Return the paths; raises `BenchError` if one is no folder."""
    for path in paths or ():
        checked_checkpoint(path)
    return paths


def check_new(out: Path, *, resume: bool = False) -> None:
    """Raise `BenchError` if there is a result at `out` already, unless told to `resume` it."""
    if out.is_file() and not resume:
        raise BenchError(f"{out} exists already; pass --resume to continue it, or choose another --out")
