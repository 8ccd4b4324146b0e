"""ONNX Runtime, inputs and outputs bound to torch's own memory: on a graph of the head, and on its fused operator.

Plain top-k heads are written as a graph of few nodes (`onnx_graphs`); all others are exported by torch.onnx from their
definition. That was tried for top-k too: 144 nodes with 8 experts, now 46. The written graph is 1.9, 1.7, 1.3 and 0.9
times as fast at 1, 32, 256 and 2,048 rows (D 128, H 64, C 10, one thread, AMD EPYC, one interleaved run beside other
processes, 2026-11-29). A graph of all experts in one masked product was up to 1.5 times as fast as the written one
below 16 rows, and half as fast at 2,048.

Letters: N rows, D input width, H hidden width of one expert, E experts, C output width, W = H columns of an expert's
first product, or 2H for swiglu.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import onnxruntime
import torch
from torch import Tensor, nn

from bench.execution.form import Form, Runner
from bench.execution.stages import CALL, OPERATORS, PROVIDER, RANGES
from bench.forms.eager import wide_soft
from bench.forms.packages import onnx_graphs
from bench.forms.packages.integers import Scheme
from bench.forms.packages.onnx_graphs import ELEMENT_TYPES
from bench.forms.packages.onnx_session import PROVIDERS, profiled, runner
from bench.timing.precision import dtype_name
from models.heads.heads import Head, HeadConfig
from models.heads.soft import SoftMoEHead
from models.heads.sparse import SparseMoEHead
from models.routing.places import PlacesConfig
from models.routing.top_k import plain_top_k

MOST_ROWS = 2**24


def _unavailable(config: HeadConfig, device: torch.device, dtype: torch.dtype) -> str | None:
    if dtype not in ELEMENT_TYPES:
        return f"this form binds float32 and float16 only, not {dtype_name(dtype)}"
    if device.type == "cpu" and dtype is not torch.float32:
        return "ONNX Runtime's CPU provider computes half precision by casting to float32, so it would not be float16"
    if isinstance(config, PlacesConfig) and _places_overflow(config):
        return (
            f"ONNX counts the places of an expert in 64-bit integers, which a capacity_factor of as many digits as "
            f"{config.capacity_factor!r} overflows; train the head with a rounded one"
        )
    if PROVIDERS[device.type] not in onnxruntime.get_available_providers():
        return f"this onnxruntime has no {PROVIDERS[device.type]}; install onnxruntime-gpu[cuda,cudnn]"
    return None


def unavailable_fused(config: HeadConfig, device: torch.device, dtype: torch.dtype) -> str | None:
    """Return why the fused operator cannot run a head of this configuration here, or None."""
    if not plain_top_k(config) or config.weights_over == "all":
        return (
            "ONNX Runtime's MoE weighs the k best experts by a softmax over their own scores, and knows no other gate"
        )
    if config.activation == "gelu":
        return "ONNX Runtime's MoE computes gelu by its tanh approximation, and this head has the exact one"
    if config.classes > config.features:
        return f"ONNX Runtime's MoE has {config.features} outputs as it has inputs, and this head has {config.classes}"
    return _unavailable(config, device, dtype)


def _unavailable_graph(config: HeadConfig, device: torch.device, dtype: torch.dtype) -> str | None:
    if device.type != "cuda":
        return "only a session on a CUDA device replays a CUDA graph"
    return unavailable_fused(config, device, dtype)


def _places_overflow(config: PlacesConfig) -> bool:
    """Return whether the products in `config.capacity` pass 64 bits within MOST_ROWS rows."""
    numerator, denominator = config.exact_factor
    return numerator * config.k * MOST_ROWS + denominator * config.experts > torch.iinfo(torch.int64).max


def _prepare(head: Head, example: Tensor) -> Runner:
    model, reused_s = _exported(head, example)
    return runner(model, example, head.config.classes, reused_s)


def prepare_fused(head: Head, example: Tensor, scheme: Scheme | None = None, *, graph: bool = False) -> Runner:
    """Return the runner of the fused operator, with weights stored in `scheme` or in full, or in a CUDA `graph`."""
    assert isinstance(head, SparseMoEHead)
    E, D, W = head.w1.shape
    H, size = head.config.hidden, example.dtype.itemsize
    model, nodes = onnx_graphs.fused(head, scheme)
    expert = sum(scheme.matrix_bytes(*shape) if scheme else size * math.prod(shape) for shape in ((D, W), (H, D)))

    def work(rows_per_expert: list[int]) -> dict[str, int]:
        """Count the products as the operator executes them: the second one has D columns, however few are kept."""
        M, used = sum(rows_per_expert), sum(map(bool, rows_per_expert))
        flops = 2 * len(example) * D * E + 2 * M * D * (W + H)
        requested = size * M * (D + W + H + D) + used * expert
        return {"launches": nodes, "executed_flops": flops, "requested_bytes": requested}

    return replace(runner(model, example, head.config.classes, graph=graph), work=work)


_exports: WeakKeyDictionary[Head, tuple[bytes, float]] = WeakKeyDictionary()


def _exported(head: Head, example: Tensor) -> tuple[bytes, float]:
    """Return the head exported once for all shapes, and the seconds that an earlier shape spent on it."""
    if head in _exports:
        return _exports[head]
    start = time.perf_counter()
    if isinstance(head, SparseMoEHead) and plain_top_k(head.config):
        model = onnx_graphs.split(head)
    else:
        model = export(head, example)
    _exports[head] = model, time.perf_counter() - start
    return model, 0.0


class _Exported(nn.Module):
    def __init__(self, head: Head) -> None:
        super().__init__()
        self.head = head
        self.function = wide_soft(head) if isinstance(head, SoftMoEHead) else head.forward

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def export(head: Head, example: Tensor) -> bytes:
    """Return `head` as a serialised ONNX model with input `x` (N, D), output `logits` (N, C) and a free N.

    A stable descending sort becomes TopK, which ranks equal values by lowest index as the routing does.
    """
    rows = torch.zeros(4, example.shape[1], dtype=example.dtype, device=example.device)
    for exporter in ("torch.onnx", "onnx_ir"):
        logging.getLogger(exporter).setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            _Exported(head).eval(),
            (rows,),
            dynamo=True,
            input_names=["x"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("N")},),
            custom_translation_table={torch.ops.aten.sort.stable: _stable_sort(head.config.batch_coupled)},
            verbose=False,
        )
    assert program is not None
    model: bytes = program.model_proto.SerializeToString()
    return model


def _stable_sort(places_nan: bool) -> Any:
    """Return the translation of aten.sort.stable along the last dimension.

    ONNX does not say where TopK ranks NaN. With `places_nan` NaN ranks above every number, as in torch: infinity takes
    its place, so the sorted values must not be used. If rows do not affect each other, any order will do, because a row
    with NaN becomes NaN anyway.
    """
    from onnxscript import opset18 as op

    def sort_stable(self: Any, *, stable: bool = True, dim: int = -1, descending: bool = False) -> Any:
        keys, size = self, op.Shape(self, start=-1)
        if places_nan and self.dtype.is_floating_point():
            infinity: Any = op.Constant(value_float=math.inf)
            keys = op.Where(op.IsNaN(self), op.CastLike(infinity, self), self)
        return op.TopK(keys, size, axis=dim, largest=descending, sorted=1)

    return sort_stable


def _model(head: Head, x: Tensor) -> bytes:
    return _exported(head, x)[0]


def fused_model(head: Head, x: Tensor, scheme: Scheme | None = None) -> bytes:
    """Return the head around the fused operator as a serialised model, the same for all rows x."""
    assert isinstance(head, SparseMoEHead)
    return onnx_graphs.fused(head, scheme)[0]


def events(model_of: Callable[[Head, Tensor], bytes], head: Head, x: Tensor, calls: int) -> list[dict[str, Any]]:
    """Return ONNX Runtime's own profile of `calls` on x (N, D): a range for each call, with its nodes inside.

    A node is an operator named by its type, with its name and provider as arguments. A node of a GPU's provider shows
    the host's time to launch it; its kernels are in torch's trace.
    """
    if x.shape[0] == 0:
        return []
    trace = []
    for run, *nodes in profiled(model_of(head, x), PROVIDERS[x.device.type], x, calls):
        trace.append({**run, "name": CALL, "cat": RANGES})
        for node in nodes:
            arguments = {PROVIDER: node["args"]["provider"], "node": node["name"].removesuffix("_kernel_time")}
            length = min(node["dur"], run["ts"] + run["dur"] - node["ts"])  # both are rounded to microseconds
            trace.append({**node, "name": node["args"]["op_name"], "cat": OPERATORS, "dur": length, "args": arguments})
    return trace


FORMS = (
    Form(
        "onnxruntime", 5, "ONNX Runtime on a graph of the head", _unavailable, _prepare,
        memory_seen=False, events=partial(events, _model), setup=1.0, capturable=False,
    ),
    Form(
        "onnxruntime_moe", 5, "ONNX Runtime's fused operator", unavailable_fused, prepare_fused,
        memory_seen=False, events=partial(events, fused_model), setup=1.0, capturable=False, default=False,
    ),
    Form(
        "onnxruntime_moe_graph", 5, "ONNX Runtime's fused operator in its own CUDA graph", _unavailable_graph,
        partial(prepare_fused, graph=True), memory_seen=False, events=partial(events, fused_model), setup=1.0,
        capturable=False, reusable=False, default=False,
    ),
)  # fmt: skip
