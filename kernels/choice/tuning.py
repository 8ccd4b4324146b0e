"""The options of a call: those timed on this device if there are any, else the choice of the cost model.

`python -m kernels.tune` writes a file `tuned/<device>-triton-<version>.json` with

    device, triton, torch, date    the device, versions and day of the measurement
    samples                        graph replays behind each median
    machine                        measured numbers of the device, by their names in `kernels.cost.machine.Machine`
    entries                        for each layer and N: sizes, options and their median seconds

N rows, D input width, H hidden width of one expert, E experts, k experts per row, C output width, M assignments.
"""

import json
import math
import re
import warnings
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import triton

from kernels.choice.choice import choose
from kernels.cost.machine import machine_of
from kernels.paths.options import Options
from kernels.paths.paths import decode
from kernels.problem.problem import Problem

PAPER = Problem(N=1, D=512, H=64, E=8, C=10, k=2, M=2, dtype=torch.bfloat16, activation="gelu", described=(True, False))
"""The head of arXiv 2601.15021 at one row; the rows of w2 are too narrow for a descriptor."""

LANGUAGE = Problem(N=1, D=2048, H=768, E=128, C=2048, k=8, M=8, dtype=torch.bfloat16, activation="interleaved_swiglu")
"""A layer of Qwen3-30B-A3B at one row, its weights prepared by `Experts.interleaved`."""

FOLDER = Path(__file__).with_name("tuned")

VERSION = ".".join(triton.__version__.split(".")[:2])
"""Triton's version without the patch, which does not change the code of a kernel."""


@dataclass(frozen=True)
class LayerKey:
    """What a call must share with a timed one to use its options; `dtype` as in "bfloat16"."""

    D: int
    H: int
    E: int
    C: int
    k: int
    dtype: str
    activation: str
    precision: str


@dataclass(frozen=True)
class Entry:
    """The fastest options for N rows of a layer, and their median seconds."""

    layer: LayerKey
    N: int
    options: Options
    seconds: float


@dataclass(frozen=True)
class Tuned:
    """The measurements on one device with one version of Triton."""

    device: str
    triton: str
    torch: str
    date: str
    samples: int
    machine: dict[str, float] = field(default_factory=dict)
    entries: tuple[Entry, ...] = ()


def options_for(problem: Problem, device: torch.device) -> Options:
    """Return the options of a call on `device`: those timed there, or else the cost model's choice."""
    return tuned(problem, device) or choose(problem, machine_of(device))


def tuned(problem: Problem, device: torch.device) -> Options | None:
    """Return the options timed for this layer at the N nearest by ratio, or None.

    A CUDA device without a file gets one warning.
    """
    if device.type != "cuda" or triton.knobs.runtime.interpret:
        return None
    return _tuned(problem, _name(torch.cuda.current_device() if device.index is None else device.index))


@lru_cache
def _name(index: int) -> str:
    return torch.cuda.get_device_name(index)


@lru_cache(maxsize=4096)
def _tuned(problem: Problem, name: str) -> Options | None:
    if problem.routing == "flat" or problem.is_stored:
        return None
    entries = [entry for entry in _entries(name) if entry.layer == layer_of(problem)]
    nearest = min(entries, key=lambda entry: abs(math.log(entry.N / problem.N)), default=None)
    return nearest.options if nearest and nearest.options.possible(problem) else None


@lru_cache
def _entries(name: str) -> tuple[Entry, ...]:
    """Return the entries of a device, or warn and return none if it has no good file."""
    path = path_of(name)
    if not path.exists():
        warnings.warn(
            f"no tuned kernel options for {name} with Triton {VERSION}: the cost model chooses them; "
            "`python -m kernels.tune` measures",
            UserWarning,
            stacklevel=2,
        )
        return ()
    try:
        return load(path, name).entries
    except ValueError as error:
        warnings.warn(f"{path} is not used, the cost model chooses: {error}", UserWarning, stacklevel=2)
        return ()


def path_of(name: str) -> Path:
    """Return the file of a device with this version of Triton."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return FOLDER / f"{slug}-triton-{VERSION}.json"


def layer_of(problem: Problem) -> LayerKey:
    """Return what a call shares with all others of its layer."""
    sizes = {name: getattr(problem, name) for name in ("D", "H", "E", "C", "k", "activation", "precision")}
    return LayerKey(**sizes, dtype=str(problem.dtype).removeprefix("torch."))


def load(path: Path, name: str) -> Tuned:
    """Return the contents of the file of the device `name`.

    Raises:
        ValueError: The file is no JSON, not of the form above, or of another device or version.
    """
    try:
        values = json.loads(path.read_text())
        contents = Tuned(**{**values, "entries": tuple(_entry(entry) for entry in values["entries"])})
    except json.JSONDecodeError as error:
        raise ValueError(f"it is no JSON ({error})") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it is not of the form that kernels.choice.tuning describes ({error!r})") from error
    if (contents.device, contents.triton) != (name, VERSION):
        raise ValueError(f"it was made on {contents.device} with Triton {contents.triton}")
    return contents


def _entry(values: dict[str, Any]) -> Entry:
    if not (isinstance(values["N"], int) and values["N"] > 0):
        raise ValueError(f"an entry has N = {values['N']!r}")
    options = decode(json.dumps(values["options"]))
    return Entry(LayerKey(**values["layer"]), values["N"], options, float(values["seconds"]))


def save(path: Path, contents: Tuned) -> None:
    """Write a file in one step, so that nobody reads half of it."""
    entries = [{**asdict(entry), "options": json.loads(entry.options.code)} for entry in contents.entries]
    part = path.with_suffix(".part")
    part.write_text(json.dumps({**asdict(contents), "entries": entries}, indent=1) + "\n")
    part.replace(path)
