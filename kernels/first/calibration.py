"""What the machine itself does: graphs of 1, 10 and 50 launches, a copy, a large product.

The time of a graph grows with its launches: the slope is one launch, the rest what each replay costs.
"""

from functools import partial

import torch

from kernels.first.log import Log
from kernels.tune import BLOCKS, event_seconds, graph, timed

NODES = (1, 10, 50)
SIZES = {"cuda": (8192, 2**30), "cpu": (64, 2**10)}
"""Rows and columns of the square matrices, and the bytes that the copy reads."""


def calibration(log: Log) -> None:
    """Log microseconds per graph of so many launches, the copy's bytes per second, and the product's FLOP/s."""
    size, copied = SIZES[log.device.type]
    one = torch.zeros(1, device=log.device)
    x, w = (torch.randn(rows, 512, device=log.device, dtype=torch.bfloat16) for rows in (1024, 512))
    source = torch.empty(copied, dtype=torch.uint8, device=log.device).random_()
    target = torch.empty_like(source)
    a, b = (torch.randn(size, size, device=log.device, dtype=torch.bfloat16) for _ in range(2))
    small = {"zero_": one.zero_, "mm 1024 x 512 x 512": lambda: torch.mm(x, w)}
    large = {"copy": lambda: target.copy_(source), f"mm {size}^3": lambda: torch.mm(a, b)}
    for call in (*small.values(), *large.values()):
        call()
    if log.device.type != "cuda":
        log.write(ok=True)
        return
    graphs = {(name, nodes): graph(call, nodes) for name, call in small.items() for nodes in NODES}
    seconds = timed(graphs, partial(event_seconds, calls=1))
    for (name, nodes), taken in seconds.items():
        log.write(variant=name, nodes=nodes, replay_us=round(1e6 * taken, 2), samples=BLOCKS, clock="graph")
    rates = timed({name: graph(call, 3) for name, call in large.items()}, partial(event_seconds, calls=3))
    copy, product = rates.values()
    log.write(variant="copy", bytes_per_s=2 * copied / copy, bytes=2 * copied, samples=BLOCKS, clock="graph")
    log.write(variant=f"mm {size}^3", tflops=2 * size**3 / product / 1e12, samples=BLOCKS, clock="graph")
