"""A check that `kernels`, `models` and `reports` are this project's: other packages have such names too."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from bench.errors import BenchError

ROOT = Path(__file__).resolve().parent.parent


def check_rooms() -> None:
    """Raise `BenchError` if one of the project's packages would be imported from somewhere else."""
    for room in ("kernels", "models", "reports"):
        spec = find_spec(room)
        places = list(spec.submodule_search_locations or ()) if spec else []
        if not any(Path(place).resolve() == ROOT / room for place in places):
            raise BenchError(
                f"package {room!r} is found in {places[0] if places else 'nowhere'} instead of {ROOT / room}; "
                "run moegap in the environment that `make` set up, with no other package of that name"
            )
