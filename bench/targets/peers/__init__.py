"""Peers: the ways of computing a MoE layer that are timed side by side, and the anchors they are measured by.

A peer is added by writing one file in this folder that defines `PEER`; the registry finds it.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from bench.targets.peers.peer import Peer, Prepared

__all__ = ["Peer", "Prepared", "peers"]


@cache
def peers() -> dict[str, Peer]:
    """Return every peer by name."""
    modules = (importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__))
    found = [module.PEER for module in modules if hasattr(module, "PEER")]
    return {peer.name: peer for peer in sorted(found, key=lambda peer: peer.name)}
