"""What a timing run measures, in groups of what is measured interleaved, the most telling first.

Letters: N rows, E experts, k experts per row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from bench.subjects.workloads import dtype_name
from bench.targets.peers import Peer, peers
from bench.targets.peers.layers import DEEPSEEK, E128, MIXTRAL, OLMOE, PAPER, Layer
from reports.records.record import Status
from reports.records.timing import Cache, Clock, Routing, Timing

HEAD_FP32 = ("empty", "ours", "ours_fused", "ours_grouped", "loop", "masked", "dense")
HEAD = (*HEAD_FP32, "grouped_mm")
CEILINGS = ("copy", "peak")
COMPILED = ("compile_grouped_mm", "compile_masked", "compile_dense")
LARGE = ("empty", "ours", "ours_products", "cublas", "grouped_mm")
FEW_ROWS = ("empty", "copy", "ours", "ours_grouped", "grouped_mm")
OPTIONAL = ("ours_given", "liger", "moe_ops")
SKEWED = ("ours", "ours_products")
LAYER_SECONDS = 5.0
"""Guessed seconds for the tensors and the reference of a large layer."""


@dataclass(frozen=True)
class Group:
    """Cases measured interleaved: one layer, N, dtype; `peers` on balanced rows, `skewed` on the other routings.

    `tag` tells groups of one shape apart.
    """

    layer: Layer
    rows: int
    dtype: torch.dtype
    peers: tuple[str, ...]
    skewed: tuple[str, ...] = ()
    tag: str = ""
    clocks: tuple[tuple[Clock, Cache], ...] = (("graph", "warm"), ("graph", "cold"), ("call", "warm"))

    @property
    def name(self) -> str:
        """Layer, rows, dtype and tag."""
        return "-".join(filter(None, (self.layer.name, f"n{self.rows}", dtype_name(self.dtype), self.tag)))

    @property
    def routings(self) -> tuple[Routing, ...]:
        """The routings that occur."""
        return ("balanced", "zipf", "hot") if self.skewed else ("balanced",)

    @property
    def contestants(self) -> list[tuple[Routing, Peer]]:
        """Every peer with every routing it is measured on."""
        known = peers()
        named = {routing: self.peers if routing == "balanced" else self.skewed for routing in self.routings}
        return [(routing, known[name]) for routing, names in named.items() for name in names]

    def expected_seconds(self, device: torch.device, sampling: float) -> float:
        """Return a guess of how long the group takes, at `sampling` seconds per case."""
        possible = [peer for _, peer in self.contestants if not peer.unavailable(self.layer, self.dtype, device)]
        setup = sum(peer.setup for peer in possible)
        cases = sum(len(self.clocks_of(peer)) for peer in possible)
        return setup + cases * sampling + (0.0 if self.layer.name == PAPER.name else LAYER_SECONDS)

    def clocks_of(self, peer: Peer) -> list[tuple[Clock, Cache]]:
        """Return the clocks that can see `peer`."""
        return [clock for clock in self.clocks if peer.capturable or clock[0] != "graph"]

    def planned(self) -> Iterator[Timing]:
        """Yield every case as it stands before anything was measured, as many experts in use as can be."""
        layer, item, gpu = self.layer, self.dtype.itemsize, torch.device("cuda")
        for routing, peer in self.contestants:
            flops, least_bytes = peer.counts(layer, self.rows, item, min(layer.E, self.rows * layer.k), gpu)
            for clock, cache in self.clocks_of(peer):
                yield Timing(
                    group=self.name,
                    layer=self.layer.name,
                    rows=self.rows,
                    rows_per_expert=self.rows * self.layer.k / self.layer.E,
                    dtype=dtype_name(self.dtype),  # type: ignore[arg-type]
                    routing=routing,
                    peer=peer.name,
                    clock=clock,
                    cache=cache,
                    status=Status.SKIPPED,
                    reason="not measured yet",
                    flops=flops,
                    least_bytes=least_bytes,
                )


def plan() -> list[Group]:
    """Return the groups of a run on a GPU, the most important first."""
    bf16, fp32 = torch.bfloat16, torch.float32
    return [
        Group(PAPER, 256, bf16, HEAD + CEILINGS),
        Group(E128, 8192, bf16, (*LARGE, *OPTIONAL, "peak"), SKEWED),
        Group(E128, 128, bf16, FEW_ROWS + OPTIONAL),
        *(Group(PAPER, rows, bf16, HEAD) for rows in (65536, 1, 1024, 16, 64, 4096, 16384)),
        Group(OLMOE, 8192, bf16, LARGE, SKEWED),
        Group(MIXTRAL, 8192, bf16, LARGE),
        Group(PAPER, 256, bf16, HEAD + COMPILED, tag="compile"),
        Group(E128, 8192, bf16, (*LARGE, "compile_grouped_mm"), tag="compile"),
        Group(DEEPSEEK, 64, bf16, FEW_ROWS),
        Group(PAPER, 1024, fp32, HEAD_FP32 + CEILINGS),
        *(Group(PAPER, rows, fp32, HEAD_FP32) for rows in (1, 65536, 64, 16384)),
        Group(E128, 32768, bf16, (*LARGE, *OPTIONAL)),
        Group(DEEPSEEK, 8192, bf16, LARGE),
        Group(MIXTRAL, 64, bf16, FEW_ROWS),
        Group(PAPER, 65536, bf16, HEAD + COMPILED, tag="compile"),
    ]


def rehearsal() -> list[Group]:
    """Return small groups that a CPU gets through in seconds, with every kind of case that it can have."""
    head, large = replace(PAPER, D=16, H=16, E=4), replace(E128, D=16, H=16, E=4, k=2, C=16)
    return [
        Group(head, 8, torch.float32, HEAD + CEILINGS),
        Group(large, 16, torch.float32, LARGE + OPTIONAL, SKEWED),
        Group(large, 4, torch.float32, FEW_ROWS),
        Group(head, 16, torch.float32, ("ours", "dense", "masked", *COMPILED), tag="compile"),
    ]
