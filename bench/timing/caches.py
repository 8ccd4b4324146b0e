"""The size of the last caches before memory."""

from __future__ import annotations

import os
from pathlib import Path

import torch

UNKNOWN = 64 * 2**20
"""Bytes assumed of a CPU that does not say how large its caches are."""
_CPUS = Path("/sys/devices/system/cpu")
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}


def last_cache(device: torch.device, cpus: Path = _CPUS) -> int:
    """Return the bytes of a GPU's L2 cache, or of all last-level caches of this process's CPUs together.

    Linux lists the CPUs' caches under `cpus`; on other systems `UNKNOWN` is assumed.
    """
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).L2_cache_size)
    last: dict[str, int] = {}  # by the CPUs that share the cache, so that each is counted once
    for number in _usable_cpus():
        levels = {_read(entry, "level"): entry for entry in (cpus / f"cpu{number}" / "cache").glob("index*")}
        if levels:
            entry = levels[max(levels, key=int)]
            last[_read(entry, "shared_cpu_list")] = _bytes(_read(entry, "size"))
    return sum(last.values()) or UNKNOWN


def _usable_cpus() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _read(entry: Path, name: str) -> str:
    return (entry / name).read_text().strip()


def _bytes(size: str) -> int:
    """Return the bytes of a size in Linux's spelling, such as `32768K`."""
    return int(size[:-1]) * _UNITS[size[-1]] if size[-1] in _UNITS else int(size)
