"""Our kernels forced onto one path, or with the routing given.

Letters: N rows, k experts per row.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor

from bench.forms.form import Form, Runner, torch_runner
from bench.forms.triton import Kernels, kernel_runner, routing_source, runs_on, unavailable, untimeable
from kernels.paths.fused_rows import FusedRows
from kernels.paths.fused_tiles import FusedTiles
from kernels.paths.grouped import Grouped
from kernels.paths.options import Options
from models.heads.heads import Head
from models.heads.soft import SoftMoEHead
from models.heads.sparse import SparseMoEHead
from models.routing import Routing


def exact_routing(head: SoftMoEHead | SparseMoEHead, x: Tensor) -> Routing:
    """Return the head's routing of x (N, D) in float64, with float32 weights, for forms that do not route."""
    routing = head.routing(x.double())
    return routing._replace(weights=routing.weights.float())


def _prepare_path(paths: tuple[type[Options], ...], head: Head, example: Tensor) -> Runner:
    kernels = Kernels(head)
    return kernel_runner(kernels, example, kernels.required(example, paths), forced=True)


def _prepare_given(head: Head, example: Tensor) -> Runner:
    kernels = Kernels(head)
    routing = routing_source(exact_routing(kernels.head, example))
    options = kernels.chosen(example, routing)
    return torch_runner(partial(kernels, routing=routing, options=options), example, **runs_on(options))


FORMS = (
    Form(
        "triton_fused", 9, "our kernels, one launch", unavailable, partial(_prepare_path, (FusedTiles, FusedRows)),
        untimeable=untimeable, setup=3.0, default=False,
    ),
    Form(
        "triton_grouped", 10, "our kernels, five launches", unavailable, partial(_prepare_path, (Grouped,)),
        untimeable=untimeable, setup=4.0, default=False,
    ),
    Form(
        "triton_given", 11, "our kernels, routing given", unavailable, _prepare_given,
        untimeable=untimeable, setup=2.0, reusable=False, default=False,
    ),
)  # fmt: skip
