"""The list of all paths. If two are estimated to be equally fast, the first one is chosen."""

import json
from functools import lru_cache
from typing import Any

from kernels.paths.fused_rows import FusedRows
from kernels.paths.fused_tiles import FusedTiles
from kernels.paths.grouped import Grouped
from kernels.paths.options import Options

PATHS: tuple[type[Options], ...] = (FusedRows, FusedTiles, Grouped)


@lru_cache(maxsize=4096)
def decode(code: str) -> Options:
    """Return the options that have this `code`."""
    values: dict[str, Any] = json.loads(code)
    name = values.pop("path")
    return {path.__name__: path for path in PATHS}[name].of(values)
