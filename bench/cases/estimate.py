"""How long a run will take, guessed before it begins from what it measures and what the machine can do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.forms import form
from bench.subjects.workloads import Case, dtype_name
from bench.timing.sampling import LEAST_BLOCKS
from models.heads.cost import flops
from reports.records.record import Ceilings

STEPS = 4
"""Steps of a form that can be split, about."""
OFTEN = 2.0
"""Times its arithmetic at peak that a long call usually takes."""


def estimated_seconds(groups: Sequence[Sequence[Case]], seconds: float, ceilings: Sequence[Ceilings]) -> float:
    """Return about how many seconds measuring `groups` takes with `seconds` of sampling per case."""
    peaks: dict[str, float] = {found.dtype: found.flops_per_s for found in ceilings}
    return sum(_seconds(case, seconds, peaks) for group in groups for case in group)


def _seconds(case: Case, seconds: float, peaks: Mapping[str, float]) -> float:
    chosen, shape, config = form(case.form), case.shape, case.subject.head.config
    if chosen.unavailable(config, shape.device, shape.dtype) or chosen.untimeable(shape.device):
        return 0.0
    split = chosen.steps is not None and shape.part == "head" and shape.cache == "warm"
    steps = STEPS if split else 0
    operations = flops(config, shape.rows).total
    if shape.part == "classifier":
        operations += case.subject.backbone_flops * shape.rows
    call = OFTEN * operations / peaks[dtype_name(shape.dtype)]
    return chosen.setup + (1 + steps) * max(seconds, (LEAST_BLOCKS + 2) * call)
