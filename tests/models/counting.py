"""What one evaluation of a head executes and touches, seen operator by operator; shares nothing with `heads.cost`.

Every operator of the head's readable forward passes a dispatch mode, which keeps all tensors, so that storages tell
where values come from. Products count two operations per multiply-add. Multiplications and additions of what the
experts put out count one each, adding a bias aside. A weight or an input value is read if an operator takes it that is
not a mere view and whose result reaches the logits.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from models.heads.heads import Head

PRODUCTS = {"mm": (0, 1), "bmm": (0, 1), "addmm": (1, 2), "baddbmm": (1, 2)}
"""Products by name, and which of their arguments are multiplied."""
GATHERS = ("index", "index_select", "gather")
"""Operators that read only what their indices name of the first argument."""
MOVES = ("view", "_unsafe_view", "permute", "transpose", "t", "expand", "clone", "_to_copy", "masked_fill")
"""Operators that compute nothing."""
PARTS = {"gate.weight": "gate", "w1": "experts", "w2": "experts"}


@dataclass
class Counted:
    """Operations by part, which elements of each named tensor were read, and what was read and written in bytes."""

    flops: dict[str, int] = field(default_factory=lambda: {"gate": 0, "experts": 0, "combine": 0})
    read: dict[str, set[int]] = field(default_factory=dict)
    bytes: int = 0


@dataclass
class _Call:
    func: Any
    name: str
    args: tuple[Any, ...]
    inputs: list[Tensor]
    outputs: list[Tensor]


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[_Call] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        self.calls.append(_Call(func, name, args, _tensors((args, kwargs)), _tensors(result)))
        return result


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


@torch.no_grad()
def count(head: Head, x: Tensor) -> Counted:
    """Return what `head`, in evaluation mode, does with x (N, D)."""
    with _Recorder() as recorder:
        logits = head(x)
    named = {_storage(tensor): (name, tensor) for name, tensor in (*head.named_parameters(), ("x", x))}
    result = Counted()
    _count_operations(recorder.calls, {storage: name for storage, (name, _) in named.items()}, result)
    _find_reads(recorder.calls, named, logits, result)
    read = sum(len(result.read.get(name, ())) * tensor.element_size() for name, tensor in named.values())
    result.bytes = read + logits.numel() * logits.element_size()
    return result


def _count_operations(calls: list[_Call], names: dict[int, str], result: Counted) -> None:
    """Count from the first call on; `names` of storages grows by copies of what is named."""
    outputs: set[int] = set()  # storages into which values of experts' second products flow
    for call in calls:
        known = {names[_storage(tensor)] for tensor in call.inputs if _storage(tensor) in names}
        results = {_storage(tensor) for tensor in call.outputs}
        takes_outputs = any(_storage(tensor) in outputs for tensor in call.inputs)
        if call.name in PRODUCTS:
            left, right = (call.args[place] for place in PRODUCTS[call.name])
            parts = {PARTS[name] for name in known if name in PARTS}
            assert len(parts) == 1, f"{call.func} multiplies {known}, and this counter does not know what for"
            result.flops[parts.pop()] += 2 * math.prod(left.shape) * right.shape[-1]
        elif takes_outputs:
            result.flops["combine"] += _combining(call, known)
        elif call.name in MOVES and len(known) == 1:
            names |= dict.fromkeys(results, *known)
        if takes_outputs or (call.name in PRODUCTS and "w2" in known):
            outputs |= results


def _combining(call: _Call, known: set[str]) -> int:
    """Return the operations of a call that takes outputs of experts, beside tensors that are `known` by name."""
    match call.name:
        case "mul":
            return call.outputs[0].numel()
        case "sum":
            return call.inputs[0].numel()
        case "index_add":
            return call.args[3].numel()
        case "add":
            return 0 if "b2" in known else call.outputs[0].numel()
    assert call.name in MOVES, f"{call.func} takes outputs of experts, and this counter does not know what it costs"
    return 0


def _find_reads(calls: list[_Call], named: dict[int, tuple[str, Tensor]], logits: Tensor, result: Counted) -> None:
    needed = {_storage(logits)} if logits.numel() else set()
    for call in reversed(calls):
        results = {_storage(tensor) for tensor in call.outputs if tensor.numel()}
        if not results & needed:
            continue
        for tensor in call.inputs:
            if tensor.numel() and _storage(tensor) not in results:
                needed.add(_storage(tensor))
                if _storage(tensor) in named:
                    name, whole = named[_storage(tensor)]
                    result.read.setdefault(name, set()).update(_positions(call, tensor, whole))


def _positions(call: _Call, tensor: Tensor, whole: Tensor) -> list[int]:
    """Return which elements of `whole` the call reads through its view `tensor`."""
    places = torch.arange(whole.untyped_storage().nbytes() // whole.element_size())
    seen = places.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())
    if call.name in GATHERS and tensor is call.args[0]:
        seen = call.func(seen, *call.args[1:])
    return seen.flatten().tolist()
