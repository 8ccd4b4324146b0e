"""The tiles chosen for the backward pass."""

from dataclasses import replace

import pytest
import torch

from kernels.choice.tuning import LANGUAGE, PAPER
from kernels.cost.machine import A100, B200, H100, Machine
from kernels.paths.backward import choose_backward
from kernels.problem.problem import Problem


def rows(layer: Problem, N: int) -> Problem:
    return replace(layer, N=N, M=N * layer.k, routing="top_k")


@pytest.mark.parametrize("machine", [A100, H100, B200], ids=lambda machine: machine.name)
@pytest.mark.parametrize("layer", [PAPER, LANGUAGE, replace(LANGUAGE, dtype=torch.float32)])
def test_every_size_has_tiles(layer: Problem, machine: Machine) -> None:
    for N in (1, 33, 1024, 65536):
        tiles = choose_backward(rows(layer, N), machine)
        assert not tiles.hidden.described  # transposed weights have no contiguous rows
        assert tiles.w1.rows <= 128


def test_few_weights_share_their_rows_and_many_do_not() -> None:
    assert choose_backward(rows(PAPER, 65536), H100).w2.splits > 1
    large = choose_backward(rows(LANGUAGE, 65536), H100)
    assert (large.w1.splits, large.tile_rows) == (1, 128)
