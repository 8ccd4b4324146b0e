"""Launch plans: Python works a call out once for each layout of its tensors; later calls only repeat the steps.

Checks, options, sizes, strides and grids depend on layouts and settings alone. So the first call notes its steps, each
of which calls torch or starts a kernel, and a later call with the same layouts and settings does them again with its
tensors. A plan holds no tensor: it numbers them, first the arguments, then the results of the steps.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from itertools import chain
from typing import Any, ParamSpec

from torch import Tensor
from torch.overrides import TorchFunctionMode, handle_torch_function

from kernels.launch.checks import Tensors, keep, layouts
from kernels.launch.descriptors import is_descriptor, pointed
from kernels.launch.launch import Launch, in_order, is_noted, noting, on_device, starter

VIEWS = {Tensor.contiguous, Tensor.flatten, Tensor.__getitem__}
"""Functions whose results may start at the address of their argument."""

Planned = Callable[[Tensors, Hashable], Tensor]
Parameters = ParamSpec("Parameters")


@dataclass(frozen=True, slots=True)
class Step:
    """One function to call: its arguments, with None in the place of every tensor, and which tensors belong there.

    Attributes:
        tensors: Place and number of each tensor.
        descriptors: Place and number of each tensor that is read through a descriptor, and the descriptor.
        last: Numbers of the tensors that no later step needs.
    """

    function: Callable[..., Any]
    arguments: list[Any]
    keywords: dict[str, Any]
    tensors: tuple[tuple[int, int], ...]
    descriptors: tuple[tuple[int, int, Any], ...]
    last: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps of a call on a CUDA device, or on -1, the CPU, and the number of the tensor that it returns."""

    device: int
    steps: tuple[Step, ...]
    result: int

    def run(self, tensors: Tensors) -> Tensor:
        """Do the steps with `tensors`, which have the layouts that the plan was made for."""
        numbered: list[Any] = [*tensors]
        with on_device(self.device):
            for step in self.steps:
                arguments = step.arguments
                if step.tensors:
                    arguments = arguments.copy()
                    for place, number in step.tensors:
                        arguments[place] = numbered[number]
                    for place, number, descriptor in step.descriptors:
                        arguments[place] = pointed(descriptor, numbered[number])
                result = step.function(*arguments, **step.keywords)
                numbered += result if isinstance(result, tuple) else (result,)
                for number in step.last:
                    numbered[number] = None
        return numbered[self.result]  # type: ignore[no-any-return]


def planned(function: Planned) -> Planned:
    """Let `function` run by plans.

    It returns a new tensor from a sequence of tensors and settings, and must read no values of tensors and nothing else
    that changes. An error is not remembered. Launches that are recorded are worked out each time.
    """
    plans: dict[Hashable, Plan] = {}

    @wraps(function)
    def run(tensors: Tensors, settings: Hashable) -> Tensor:
        if is_noted():
            return function(tensors, settings)
        key = settings, layouts(tensors)
        plan = plans.get(key)
        if plan is None:
            plan = keep(plans, key, _plan(function, tensors, settings))
        return plan.run(tensors)

    return run


def noted(function: Callable[Parameters, Tensor]) -> Callable[Parameters, Tensor]:
    """Make each call of `function` one step of a plan, because its result depends on more than its arguments."""

    @wraps(function)
    def call(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Tensor:
        if _planning.get():
            return handle_torch_function(function, (), *args, **kwargs)
        return function(*args, **kwargs)

    return call


_planning: ContextVar[bool] = ContextVar("planning", default=False)


def _plan(function: Planned, tensors: Tensors, settings: Hashable) -> Plan:
    """Return the plan of `function`, which runs without starting a kernel."""
    arguments = [None if tensor is None else tensor.detach() for tensor in tensors]  # distinct, even if passed twice
    notes = _Notes(arguments)
    token = _planning.set(True)
    try:
        with notes, noting(notes.launch):
            result = function(arguments, settings)
    finally:
        _planning.reset(token)
    return notes.plan(result)


class _Notes(TorchFunctionMode):
    """Notes every call of torch that returns tensors, and every launch, while it is active."""

    def __init__(self, tensors: Tensors) -> None:
        super().__init__()
        self.tensors = [*tensors]  # by their numbers; while they live no other has their id
        self.numbers = {id(tensor): number for number, tensor in enumerate(tensors) if tensor is not None}
        self.views: dict[int, Any] = {}  # by the id of their result: calls that are noted once a call of torch needs it
        self.start_at: dict[int, Tensor] = {}  # by the id of a view: the tensor that starts at the same address
        self.steps: list[tuple[Any, ...]] = []

    def __torch_function__(
        self, function: Callable[..., Any], types: Iterable[type], args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        results = result if isinstance(result, tuple) else (result,)
        if results and all(isinstance(each, Tensor) for each in results):
            if function not in VIEWS or result.data_ptr() != args[0].data_ptr():
                self._note(function, args, kwargs or {}, results)
            elif result is not args[0]:
                self.views[id(result)] = function, args, kwargs or {}, results
                self.start_at[id(result)] = self.start_at.get(id(args[0]), args[0])
        return result

    def launch(self, launch: Launch) -> None:
        """Note a launch, which asks of a tensor no more than its address."""
        function = starter(launch.stage, launch.kernel, launch.grid, launch.warps, launch.stages, launch.early)
        arguments = in_order(launch.kernel, launch.arguments)
        self._note(function, [self.start_at.get(id(value), value) for value in arguments], {}, (None,))

    def plan(self, result: Tensor) -> Plan:
        """Return the steps noted so far as the plan of a call that returns `result`."""
        kept = self._number(result)
        needed = {kept}
        steps: list[Step] = []
        for function, arguments, keywords, tensors, descriptors in reversed(self.steps):
            used = {number for _, number, *_ in (*tensors, *descriptors)}
            steps.append(Step(function, arguments, keywords, tensors, descriptors, tuple(used - needed)))
            needed |= used
        return Plan(result.get_device(), tuple(reversed(steps)), kept)

    def _number(self, tensor: Tensor) -> int:
        """Return the number of a tensor."""
        if id(tensor) in self.views:
            self._note(*self.views.pop(id(tensor)))
        if id(tensor) not in self.numbers:
            raise TypeError("a plan cannot hold a tensor that no call of torch made: let `noted` wrap what made it")
        return self.numbers[id(tensor)]

    def _note(
        self, function: Callable[..., Any], arguments: Sequence[Any], keywords: dict[str, Any], results: Tensors
    ) -> None:
        tensors, descriptors, held = [], [], [*arguments]
        for place, value in enumerate(arguments):
            if isinstance(value, Tensor):
                tensors.append((place, self._number(value)))
                held[place] = None
            elif is_descriptor(value):
                descriptors.append((place, self._number(value.base), pointed(value, None)))
                held[place] = None
        nested = chain.from_iterable(value for value in held if isinstance(value, list | tuple))
        if any(isinstance(value, Tensor) for value in (*keywords.values(), *nested)):
            raise TypeError(f"a plan cannot hold tensors that {function.__name__} takes by name or in a list")
        self.steps.append((function, held, keywords, tuple(tensors), tuple(descriptors)))
        for result in results:
            self.numbers[id(result)] = len(self.tensors)
            self.tensors.append(result)
