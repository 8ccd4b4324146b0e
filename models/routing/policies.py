"""The routing policies by name, one from each file of this folder that has a `POLICY`."""

from __future__ import annotations

import importlib
import pkgutil

from models import routing
from models.routing.policy import SparseConfig


def _discovered() -> dict[str, type[SparseConfig]]:
    names = [file.name for file in pkgutil.iter_modules(routing.__path__) if file.name != "policies"]
    modules = [importlib.import_module(f"{routing.__name__}.{name}") for name in names]
    policies: list[type[SparseConfig]] = [module.POLICY for module in modules if hasattr(module, "POLICY")]
    policies.sort(key=lambda policy: policy.rank)
    return {policy.model_fields["policy"].default: policy for policy in policies}


POLICIES = _discovered()
"""Each is the configuration class of the sparse heads that it routes; ordered by `rank`, the plainest first."""
DEFAULT = next(iter(POLICIES))
"""The policy of a sparse head that names none, as in checkpoints that are older than the other policies."""
