"""Peak memory against allocations of known size."""

import pytest
import torch

from bench.timing.memory import peak_memory

CPU = torch.device("cpu")
MB = 2**20

# the profiler's exporter leaves a file handle to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def test_the_peak_is_what_lives_at_once():
    def together():
        first = torch.empty(MB, dtype=torch.uint8)
        return first, torch.empty(2 * MB, dtype=torch.uint8)

    def in_turn():
        for size in (3, 2, 1):
            torch.empty(size * MB, dtype=torch.uint8)

    assert peak_memory(together, CPU) == 3 * MB
    assert peak_memory(in_turn, CPU) == 3 * MB
    assert peak_memory(lambda: None, CPU) == 0


@pytest.mark.gpu
def test_the_peak_on_a_gpu_is_what_lives_at_once():
    def together():
        first = torch.empty(4 * MB, dtype=torch.uint8, device="cuda")
        return first, torch.empty(8 * MB, dtype=torch.uint8, device="cuda")

    assert peak_memory(together, torch.device("cuda", 0)) == 12 * MB
