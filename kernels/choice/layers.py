"""The two layers from which tuning and inspection derive theirs, at one row.

N rows, D input width, H hidden width of one expert, E experts, k experts per row, C output width, M assignments.
"""

import torch

from kernels.problem.problem import Problem

PAPER = Problem(N=1, D=512, H=64, E=8, C=10, k=2, M=2, dtype=torch.bfloat16, activation="gelu", described=(True, False))
"""The head of arXiv 2601.15021; rows of w2 are too narrow for a descriptor."""

LANGUAGE = Problem(N=1, D=2048, H=768, E=128, C=2048, k=8, M=8, dtype=torch.bfloat16, activation="swiglu")
"""A layer of Qwen3-30B-A3B."""
