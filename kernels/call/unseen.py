"""Whether torch would see an operator: if not, its implementation can be called without the dispatcher."""

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.overrides import has_torch_function

from kernels.launch.checks import Tensors

PLAIN = frozenset({Tensor, Parameter, type(None)})
"""Types of arguments that do not take part in how an operator is run."""


def is_unseen(tensors: Tensors) -> bool:
    """Return whether nothing compiles, traces, transforms, counts or profiles a call with `tensors` on a CPU or GPU."""
    leader = tensors[0]
    return (
        not torch.compiler.is_compiling()
        and PLAIN.issuperset(map(type, tensors))
        and leader is not None
        and (leader.is_cuda or leader.is_cpu)
        and not has_torch_function(tensors)
        and not torch._C._len_torch_dispatch_stack()
        and torch._C._functorch.peek_interpreter_stack() is None
        and not torch._C._is_tracing()
        and not torch._C._autograd._profiler_enabled()
    )
