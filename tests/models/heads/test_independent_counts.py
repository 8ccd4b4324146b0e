"""`models.heads.cost` against what the heads are seen to do, exactly, on random heads; and mistakes in it are seen."""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from models.config import head_config
from models.heads import cost
from models.heads.cost import Flops
from models.heads.heads import Head, HeadConfig, build_head
from models.routing.policies import POLICIES
from models.settings import Activation
from tests.models.counting import Counted, count

CASES = 600
DTYPES = (torch.float32, torch.float64, torch.bfloat16)


@dataclass
class Case:
    """A head and rows (N, D), what the routing decided, and what was counted."""

    head: Head
    x: Tensor
    assignments: int | None  # None where they follow from N
    loads: list[int]  # rows of each expert; empty for a dense head
    counted: Counted

    @property
    def config(self) -> HeadConfig:
        return self.head.config

    @property
    def distinct(self) -> int | None:
        return sum(load > 0 for load in self.loads) if self.loads else None


def random_config(draw: random.Random) -> HeadConfig:
    kind = draw.choice(("dense", "soft", "sparse"))
    changes: dict[str, Any] = {
        "features": draw.randint(1, 12),
        "hidden": draw.randint(1, 9),
        "classes": draw.randint(1, 7),
        "activation": draw.choice(get_args(Activation)),
    }
    if kind != "dense":
        changes["experts"] = draw.randint(1, 9)
    if kind == "sparse":
        policy = draw.choice((*POLICIES, "top_k", "top_k", "top_k"))
        settings = {"mass": draw.uniform(0.1, 1), "threshold": draw.uniform(0, 0.5), "overflow": "next"}
        settings["capacity_factor"] = draw.choice((0.3, 1.0, 1.3))
        changes |= {"policy": policy, "k": draw.randint(1, changes["experts"])}
        changes |= {name: settings[name] for name in POLICIES[policy].settings()}
        changes["bias_correction"] = policy != "expert_choice" and draw.random() < 0.2
    return head_config(kind, **changes)


def random_case(seed: int) -> Case:
    draw = random.Random(seed)
    torch.manual_seed(seed)
    head = build_head(random_config(draw)).to(draw.choice(DTYPES)).eval().requires_grad_(False)
    if head.config.kind != "dense":
        head.gate.bias.normal_(std=draw.choice((0.1, 3.0)))  # the second leaves most rows to few experts
    rows = draw.choice((0, 1, 1, 2, 3, 5, 8, 13, 30))
    x = torch.randn(rows, head.config.features).to(head.w1)
    loads = [] if head.config.kind == "dense" else head.routing(x).load().tolist()
    assignments = sum(loads) if head.config.kind == "sparse" else None
    return Case(head, x, assignments, loads, count(head, x))


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return [random_case(seed) for seed in range(CASES)]


@dataclass(frozen=True)
class Costs:
    """The formulas under test, or a mutant of them."""

    parameters: Callable[[HeadConfig], int] = cost.parameters
    flops: Callable[[HeadConfig, int, int | None], Flops] = cost.flops
    least_bytes: Callable[[HeadConfig, int, int, int | None], int] = cost.least_bytes

    def agree(self, case: Case) -> bool:
        config, rows = case.config, len(case.x)
        flops = self.flops(config, rows, case.assignments)
        return (
            self.parameters(config) == sum(weight.numel() for weight in case.head.parameters())
            and {"gate": flops.gate, "experts": flops.experts, "combine": flops.combine} == case.counted.flops
            and flops.total == sum(case.counted.flops.values())
            and self.least_bytes(config, rows, case.x.element_size(), case.distinct) == case.counted.bytes
        )


def test_the_formulas_are_what_is_seen(cases: list[Case]) -> None:
    assert [seed for seed, case in enumerate(cases) if not Costs().agree(case)] == []


def test_the_cases_reach_all_that_can_differ(cases: list[Case]) -> None:
    seen = Counter((case.config.kind, case.config.activation) for case in cases)
    assert len(seen) == 3 * len(get_args(Activation))
    assert min(seen.values()) >= 15
    sparse = [case for case in cases if case.config.kind == "sparse"]
    assert {case.config.policy for case in sparse} == set(POLICIES)
    assert sum(len(case.x) == 0 for case in cases) >= 20
    assert sum(len(case.x) == 1 for case in cases) >= 40
    assert sum(case.config.experts == 1 for case in sparse) >= 10
    for empty in (lambda loads: not loads[0], lambda loads: not loads[-1], lambda loads: not all(loads[1:-1])):
        assert sum(empty(case.loads) for case in sparse if len(case.x) > 1) >= 20
    assert sum(max(case.loads) == len(case.x) > 1 and case.config.experts > case.config.k for case in sparse) >= 10
    assert sum(case.assignments < case.config.most_assignments(len(case.x)) for case in sparse) >= 20


def test_nothing_given_means_the_most_that_can_be(cases: list[Case]) -> None:
    for case in cases:
        rows, size = len(case.x), case.x.element_size()
        most = cost.flops(case.config, rows)
        assert most.total >= sum(case.counted.flops.values())
        assert cost.least_bytes(case.config, rows, size) >= case.counted.bytes
        if case.assignments is None or case.config.policy in ("top_k", "expert_choice"):
            assert most.total == sum(case.counted.flops.values())


def plain(config: HeadConfig) -> HeadConfig:
    """Return the head as if nothing doubled its first product."""
    return type(config).model_validate({**config.model_dump(), "activation": "relu"})


def less(name: str) -> Costs:
    """Return the formulas without one part of the operations."""
    return Costs(flops=lambda *given: replace(cost.flops(*given), **{name: 0}))


MUTANTS = {
    "gate forgotten": less("gate"),
    "experts forgotten": less("experts"),
    "combine forgotten": less("combine"),
    "additions of the combine forgotten": Costs(
        flops=lambda *given: replace(cost.flops(*given), combine=cost.flops(*given).combine // 2)
    ),
    "dropped assignments counted": Costs(flops=lambda config, rows, _: cost.flops(config, rows)),
    "experts without rows counted": Costs(
        least_bytes=lambda config, rows, size, _: cost.least_bytes(config, rows, size, getattr(config, "experts", None))
    ),
    "halves forgotten in operations": Costs(flops=lambda config, *given: cost.flops(plain(config), *given)),
    "halves forgotten in bytes": Costs(least_bytes=lambda config, *given: cost.least_bytes(plain(config), *given)),
    "halves forgotten in parameters": Costs(parameters=lambda config: cost.parameters(plain(config))),
    "an output bias forgotten": Costs(parameters=lambda config: cost.parameters(config) - config.classes),
    "logits not written": Costs(
        least_bytes=lambda config, rows, size, used: (
            cost.least_bytes(config, rows, size, used) - rows * config.classes * size
        )
    ),
    "rows not read": Costs(
        least_bytes=lambda config, rows, size, used: (
            cost.least_bytes(config, rows, size, used) - rows * config.features * size
        )
    ),
    "four bytes whatever the dtype": Costs(
        least_bytes=lambda config, rows, _, used: cost.least_bytes(config, rows, 4, used)
    ),
}


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=list(MUTANTS))
def test_a_mistake_in_the_formulas_is_seen(mutant: Costs, cases: list[Case]) -> None:
    assert sum(not mutant.agree(case) for case in cases) >= 10


def elements_that_matter(head: Head, x: Tensor) -> dict[str, set[int]]:
    """Return for each weight and for x the elements that make a logit NaN when they are NaN, one at a time."""
    result: dict[str, set[int]] = {}
    for name, tensor in (*head.named_parameters(), ("x", x)):
        for place in range(tensor.numel()):
            kept = tensor.view(-1)[place].clone()
            tensor.view(-1)[place] = torch.nan
            if head(x).isnan().any():
                result.setdefault(name, set()).add(place)
            tensor.view(-1)[place] = kept
    return result


def test_what_the_counter_sees_read_is_what_matters(cases: list[Case]) -> None:
    small = [case for case in cases if sum(weight.numel() for weight in case.head.parameters()) < 200][:30]
    assert {case.config.kind for case in small} == {"dense", "soft", "sparse"}
    with torch.no_grad():
        for case in small:
            assert elements_that_matter(case.head, case.x) == case.counted.read, case.config


class Bending:
    """A head whose `forward` computes something the counter knows nothing of."""

    def __init__(self, head: Head, bend: Callable[[Head, Tensor], Tensor]) -> None:
        self.head, self.bend = head, bend

    def named_parameters(self) -> Any:
        return self.head.named_parameters()

    def __call__(self, x: Tensor) -> Tensor:
        return self.bend(self.head, x)


@pytest.mark.parametrize(
    ("bend", "words"),
    [
        (lambda head, x: head(x) / 2, "div.* does not know what it costs"),
        (lambda head, x: head(x @ x.T @ x), "mm.* does not know what for"),
    ],
)
def test_the_counter_refuses_what_it_does_not_know(bend: Callable[[Head, Tensor], Tensor], words: str) -> None:
    head = build_head(head_config("sparse", features=4, hidden=3, classes=2)).eval()
    with pytest.raises(AssertionError, match=words):
        count(Bending(head, bend), torch.randn(3, 4))  # type: ignore[arg-type]
