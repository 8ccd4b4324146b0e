"""The routing policies by name."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from models.config import Policy, SparseConfig
from models.routing import Assignments, capacity, expert_choice, threshold, top_k, top_p

Route = Callable[[Tensor, Tensor, SparseConfig], Assignments]
ROUTES: dict[Policy, Route] = {
    "top_k": top_k.route,
    "capacity": capacity.route,
    "top_p": top_p.route,
    "threshold": threshold.route,
    "expert_choice": expert_choice.route,
}
"""Each takes `ranking` (N, E), which decides who is chosen, `scores` (N, E), which weigh them, and the settings."""
