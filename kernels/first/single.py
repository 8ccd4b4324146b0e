"""Single calls for tools that watch a process: `python -m kernels.first.single product` or `smallest`."""

import sys

import torch

from kernels.first.layers import layer
from kernels.first.smoke import PATHS
from kernels.first.tiles import ROWS, variants
from kernels.moe import moe
from kernels.tune import tensors


def product(device: torch.device) -> None:
    """Run both products of a large layer once, with the chosen tiles."""
    variants(layer("e128", ROWS, device), device)["first chosen"]()


def smallest(device: torch.device) -> None:
    """Run every path once on the paper's head at 17 rows."""
    arguments = tensors(layer("paper", 17, device), device)
    for options in PATHS.values():
        moe(*arguments, options=options)


if __name__ == "__main__":
    with torch.inference_mode():
        {"product": product, "smallest": smallest}[sys.argv[1]](torch.device("cuda"))
    torch.cuda.synchronize()
