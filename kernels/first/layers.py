"""The layers of the first minutes, as they are on a GPU and small in a rehearsal.

N rows, D input width, H hidden width of one expert, E experts, k experts per row, C output width.
"""

from dataclasses import replace

import torch

from kernels.problem.problem import Problem
from kernels.tune import LAYERS


def layer(name: str, N: int, device: torch.device) -> Problem:
    """Return a layer of `kernels.tune` at N rows; on a CPU one of a few rows in float16 whose widths are 32 at most."""
    problem = LAYERS[name]
    if device.type == "cpu":
        narrow = {letter: min(32, getattr(problem, letter)) for letter in "DHC"}
        problem = replace(problem, **narrow, E=min(4, problem.E), k=min(2, problem.k), dtype=torch.float16)
        N = min(N, 5)
    return replace(problem, N=N, M=N * problem.k)
