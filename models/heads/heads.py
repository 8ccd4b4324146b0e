"""From a head's configuration to its module."""

from __future__ import annotations

from models.config import DenseConfig, HeadConfig, SoftConfig, SparseConfig
from models.heads.dense import DenseHead
from models.heads.soft import SoftMoEHead
from models.heads.sparse import SparseMoEHead

Head = DenseHead | SoftMoEHead | SparseMoEHead


def build_head(config: HeadConfig) -> Head:
    """Return a freshly initialised head; its parameters come from torch's global generator."""
    match config:
        case DenseConfig():
            return DenseHead(config)
        case SoftConfig():
            return SoftMoEHead(config)
        case SparseConfig():
            return SparseMoEHead(config)
