"""Which launches start early, and that no kernel of a chain touches global memory before it waits."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.choice.choice import reachable
from kernels.choice.tuning import LANGUAGE, PAPER
from kernels.cost.machine import A100, B200, H100, MI300X, RTX_5090, Machine, assuming
from kernels.launch.chain import chain, follow
from kernels.launch.launch import Launch, launch, recording
from kernels.launch.plan import planned
from kernels.moe import moe
from kernels.paths.grouped import Grouped
from kernels.problem.experts import Experts
from kernels.problem.options import Product, Router
from kernels.problem.problem import Problem, RoutingKind
from kernels.problem.routes import SOURCES
from tests.kernels.calls import new_call
from tests.kernels.process import OLDEST, run_compiled

PART = Product(columns=64, depth=64, warps=4, stages=2, described=True)
CHAINED = Grouped(64, Router(16, 64, 4, 2, splits=2), PART, replace(PART, persistent=True), chained=True)
PLAIN = replace(CHAINED, chained=False)
TOUCHES = re.compile(r"\b(?:ld|st|atom|red|cp|prefetch\w*)\.(?!param|shared|local)|\bbra\b")
"""Instructions of PTX that reach global memory, or may pass by the wait."""


@triton.jit
def _late_kernel(x, out, chained: tl.constexpr):
    value = tl.load(x)
    follow(chained)
    tl.store(out, value)


def launches(options: Grouped, machine: Machine, routing: RoutingKind = "gate") -> list[Launch]:
    """Return the launches of a call, which must run without the interpreter's variable."""
    problem = Problem(N=256, D=128, H=128, E=8, C=128, k=2, M=512, dtype=torch.float16, routing=routing)

    def new(*shape: int, dtype: torch.dtype = problem.dtype) -> Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    experts = Experts(new(8, 128, 128), new(8, 128), new(8, 128, 128), new(8, 128), "relu")
    with assuming(machine), recording() as records:
        options.run(new(256, 128), SOURCES[routing].of(problem, new), experts)
    return records


@pytest.fixture
def uninterpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET")


@pytest.mark.usefixtures("uninterpreted")
@pytest.mark.parametrize("routing", ["gate", "top_k", "flat"])
@pytest.mark.parametrize("machine", [H100, B200, RTX_5090], ids=lambda machine: machine.name)
def test_all_launches_but_the_first_start_early(routing: RoutingKind, machine: Machine) -> None:
    made = launches(CHAINED, machine, routing)
    assert [each.early for each in made] == [False, True, True, True, True]
    assert all(each.arguments["chained"] for each in made)


@pytest.mark.usefixtures("uninterpreted")
@pytest.mark.parametrize(("options", "machine"), [(PLAIN, H100), (CHAINED, A100), (CHAINED, MI300X)])
def test_none_starts_early_unless_options_and_machine_agree(options: Grouped, machine: Machine) -> None:
    assert not any(each.early or each.arguments["chained"] for each in launches(options, machine))


@pytest.mark.parametrize("machine", [A100, H100, B200, RTX_5090, MI300X], ids=lambda machine: machine.name)
def test_the_choice_chains_if_the_machine_can(machine: Machine) -> None:
    for layer in (PAPER, LANGUAGE):
        grouped = [options for _, options in reachable(layer, machine) if isinstance(options, Grouped)]
        assert {options.chained for options in grouped} == {machine.chains}


def test_the_interpreter_runs_no_chain() -> None:
    call = new_call(70, 64, 32, 4, 16, torch.float16, k=2)
    options = Grouped(16, Router(16, 32, 4, 2), replace(PART, described=False), replace(PART, described=False))
    assert torch.equal(call.run(moe, options=replace(options, chained=True)), call.run(moe, options=options))


class _Kernel:
    """Notes, for each start, whether it is chained and whether it is early."""

    def __init__(self, *names: str) -> None:
        self.arg_names = names
        self.starts: list[tuple[Any, Any]] = []

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        def start(x: Tensor, chained: object = None, **options: Any) -> None:
            self.starts.append((chained, options.get("launch_pdl")))

        return start


@pytest.mark.usefixtures("uninterpreted")
def test_a_plan_starts_launches_as_early_as_the_first_call() -> None:
    member, other = _Kernel("x", "chained"), _Kernel("x")

    def run(tensors: Any, settings: Any) -> Tensor:
        (x,) = tensors
        with chain(True):
            for kernel in (member, other, member):
                launch("combine", kernel, (1,), {"x": x})
        launch("combine", member, (1,), {"x": x})
        return x + 1

    again = planned(run)
    for _ in range(2):
        again([torch.zeros(1)], ())
    assert member.starts == 2 * [(True, None), (True, True), (False, None)]
    assert other.starts == 2 * [(None, None)]


SCRIPT = """
import json
import torch
from kernels.cost.machine import A100, H100
from kernels.compiled.job import specialise
from kernels.launch.launch import Launch
from tests.kernels.launch.test_chain import CHAINED, PLAIN, _late_kernel, launches

def compiled(launch, target="sm_90"):
    return specialise(launch, target).compile().asm["ptx"]

x = torch.empty(1, device="meta")
late = Launch("combine", _late_kernel, (1,), {"x": x, "out": x, "chained": True}, 4, 1)
code = {
    "chained": {launch.kernel.__name__: compiled(launch) for launch in launches(CHAINED, H100)}
    | {"_count_kernel": compiled(launches(CHAINED, H100, "top_k")[0])},
    "plain": [compiled(launch) for launch in launches(PLAIN, H100)[-1:]],
    "sm_80": [compiled(launch, "sm_80") for launch in launches(CHAINED, A100)[-1:]],
    "late": compiled(late),
}
print(json.dumps(code))
"""


def waits_first(ptx: str) -> bool:
    """Return whether a kernel waits before it touches global memory, and then lets the next launch start."""
    head, wait, rest = re.sub("//.*", "", ptx).partition("griddepcontrol.wait")
    return bool(wait) and not TOUCHES.search(head) and "griddepcontrol.launch_dependents" in rest


@pytest.mark.parametrize("folder", [None, OLDEST], ids=["installed", "oldest"])
def test_every_kernel_of_a_chain_waits_before_it_touches_memory(folder: Path | None) -> None:
    if folder and not folder.exists():
        pytest.skip("`make kernels` downloads Triton 3.6.0")
    done = run_compiled("-c", SCRIPT, before=folder)
    assert done.returncode == 0, done.stderr
    code = json.loads(done.stdout)
    names = {"_route_kernel", "_count_kernel", "_dispatch_kernel", "_grouped_gemm_kernel", "_combine_kernel"}
    assert code["chained"].keys() == names
    assert [name for name, ptx in code["chained"].items() if not waits_first(ptx)] == []
    assert not any("griddepcontrol" in ptx for ptx in (*code["plain"], *code["sm_80"]))
    assert "griddepcontrol.wait" in code["late"]
    assert not waits_first(code["late"])


@pytest.mark.parametrize(
    "mutant",
    [
        "griddepcontrol.launch_dependents; ld.global.b32 %r1, [%rd1];",
        "ld.param.b32 %r1, [p]; griddepcontrol.wait; ld.global.b32 %r1, [%rd1];",
        "ld.global.b32 %r1, [%rd1]; griddepcontrol.wait; griddepcontrol.launch_dependents;",
        "cp.async.cg.shared.global [%r1], [%rd1], 16; griddepcontrol.wait; griddepcontrol.launch_dependents;",
        "@%p1 bra $L__BB0_2; griddepcontrol.wait; griddepcontrol.launch_dependents;",
    ],
)
def test_a_kernel_that_waits_too_late_is_noticed(mutant: str) -> None:
    good = "ld.param.b32 %r1, [p]; griddepcontrol.wait; griddepcontrol.launch_dependents; ld.global.b32 %r1, [%rd1];"
    assert waits_first(good)
    assert not waits_first(mutant)
