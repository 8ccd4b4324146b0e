"""The routing policies by name, found in the files of this folder."""

from __future__ import annotations

import importlib
import pkgutil

from models import routing
from models.routing.policy import SparseConfig


def _find() -> dict[str, type[SparseConfig]]:
    names = [file.name for file in pkgutil.iter_modules(routing.__path__) if file.name != "policies"]
    modules = [importlib.import_module(f"{routing.__name__}.{name}") for name in names]
    found: list[type[SparseConfig]] = [module.POLICY for module in modules if hasattr(module, "POLICY")]
    return {policy.model_fields["policy"].default: policy for policy in sorted(found, key=lambda policy: policy.rank)}


POLICIES = _find()
"""Each is the configuration of the sparse heads that it routes; in the order of `rank`, the plainest first."""
DEFAULT = next(iter(POLICIES))
"""The policy of a sparse head that names none, as in checkpoints from before there were others."""
