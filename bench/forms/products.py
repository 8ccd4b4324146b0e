"""The experts' two products alone: ours on rows dispatched beforehand, and two dense products by cuBLAS.

Letters: N rows, D input width, H hidden width of one expert, E experts, C output width, M assignments of a row to an
expert.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bench.errors import UnavailableError
from bench.execution.form import Form, Runner, always, torch_runner
from bench.execution.sorting import sort_by_expert
from bench.forms.triton import Kernels, runs_on, unavailable, untimeable
from kernels.paths.grouped import Grouped
from models.heads.cost import flops, least_bytes, parameters
from models.heads.dense import DenseConfig, DenseHead
from models.heads.heads import Head, HeadConfig
from models.heads.soft import SoftMoEHead
from models.heads.sparse import SparseMoEHead


def _prepare_ours(head: Head, example: Tensor) -> Runner:
    if len(example) == 0:
        raise UnavailableError("without rows there are no products")
    kernels = Kernels(head)
    routing = kernels.head.routing(example)
    if routing.per_row is None:
        raise UnavailableError("rows have different numbers of experts here, so the number of products is not fixed")
    options = kernels.chosen(example)
    if not isinstance(options, Grouped):
        options = kernels.required(example, (Grouped,))
        assert isinstance(options, Grouped)
    sorted_rows = kernels.dispatch(routing, options)

    def run(x: Tensor) -> Tensor:
        y = options.products(x, sorted_rows, kernels.experts)
        return (y.sum(dim=0) if y.ndim == 3 else y).to(x.dtype)  # (M, C); a second product in parts is a sum of them

    return torch_runner(run, example, **runs_on(options))


def expert_outputs(head: Head, x: Tensor) -> Tensor:
    """Return the output (M, C) in float64 of each assignment of x (N, D), in the stable order by expert."""
    assert isinstance(head, SoftMoEHead | SparseMoEHead)
    routing = head.routing(x)
    outputs = []
    for e, rows in enumerate(sort_by_expert(routing).rows.split(routing.load().tolist())):
        w1, b1, w2, b2 = (weight[e].double() for weight in (head.w1, head.b1, head.w2, head.b2))
        outputs.append(head.activation(x[rows].double() @ w1 + b1) @ w2 + b2)  # (m, C)
    return torch.cat(outputs)


def _work_of_ours(
    config: HeadConfig, rows: int, dtype: torch.dtype, device: torch.device, experts: int | None
) -> tuple[int, int]:
    assert config.gated
    M = config.most_assignments(rows)
    used = min(M, config.experts) if experts is None else experts
    values = used * parameters(_one_expert(config)) + rows * config.features + M * config.classes
    return flops(config, rows).experts, dtype.itemsize * values


def _prepare_cublas(head: Head, example: Tensor) -> Runner:
    M = head.config.most_assignments(len(example))
    w1, w2 = (head.w1, head.w2) if isinstance(head, DenseHead) else (head.w1[0], head.w2[0])
    rows = example[torch.arange(M, device=example.device) % max(1, len(example))]  # (M, D)
    hidden = _hidden(head, example)

    def run(x: Tensor) -> Tensor:
        torch.mm(rows, w1)  # (M, H), or (M, 2H) for swiglu
        return torch.mm(hidden, w2)  # (M, C)

    return torch_runner(run, example)


def _expected_of_cublas(head: Head, x: Tensor) -> Tensor:
    w2 = head.w2 if isinstance(head, DenseHead) else head.w2[0]
    return _hidden(head, x).double() @ w2.double()


def _hidden(head: Head, x: Tensor) -> Tensor:
    """Return random hidden values (M, H) for the most assignments that x (N, D) can have."""
    shape = head.config.most_assignments(len(x)), head.config.hidden
    return torch.randn(shape, dtype=x.dtype, device=x.device, generator=torch.Generator(x.device).manual_seed(0))


def _work_of_cublas(
    config: HeadConfig, rows: int, dtype: torch.dtype, device: torch.device, experts: int | None
) -> tuple[int, int]:
    M, expert = config.most_assignments(rows), _one_expert(config)
    return flops(expert, M).total, least_bytes(expert, M, dtype.itemsize)


def _one_expert(config: HeadConfig) -> DenseConfig:
    """Return one expert of a head as a dense head."""
    return DenseConfig(
        features=config.features, hidden=config.hidden, classes=config.classes, activation=config.activation
    )


FORMS = (
    Form(
        "triton_products", 12, "our two grouped products alone", unavailable, _prepare_ours, untimeable=untimeable,
        setup=3.0, computes="products", expected=expert_outputs, work=_work_of_ours, reusable=False, default=False,
    ),
    Form(
        "cublas", 13, "two dense products of equal operations", always, _prepare_cublas,
        computes="products", expected=_expected_of_cublas, work=_work_of_cublas, default=False,
    ),
)  # fmt: skip
