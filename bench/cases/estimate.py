"""How long a run will take: a guess from what it measures and what the machine can do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.cases.case import Case
from bench.cases.prepare import reference_flops
from bench.forms import form
from bench.timing.graphs import FURTHER
from bench.timing.precision import dtype_name
from bench.timing.sampling import LEAST_BLOCKS
from models.heads.cost import flops, parameters
from reports.records.record import Ceilings

STEPS = 4
"""Typical number of steps of a form that can be split."""
OVER_PEAK = 2.0
"""A long call usually takes this many times its arithmetic at peak."""
REPLAYED = 2 * (1 + 1 + FURTHER[0])
"""Long calls in one sample of graphs: a short and a longer one, each replayed once more before."""
REFERENCE_RATE = {"cpu": 2e10, "cuda": 2e11}
"""Operations of the reference per second; on a GPU with the time to move its rows there and back."""
CONVERTED = 2e8
"""Numbers per second that are drawn, moved to the host or widened."""


def estimated_seconds(
    groups: Sequence[Sequence[Case]], seconds: float, ceilings: Sequence[Ceilings], *, steps: bool = True
) -> float:
    """Return about how many seconds `groups` take with `seconds` of sampling per case or step."""
    peaks: dict[str, float] = {ceiling.dtype: ceiling.flops_per_s for ceiling in ceilings}
    return sum(_group_seconds(group, seconds, peaks, steps) for group in groups)


def _group_seconds(group: Sequence[Case], seconds: float, peaks: Mapping[str, float], steps: bool) -> float:
    possible = [case for case in group if not case.refusal]
    prepared = {(case.subject, case.form, case.shape.skew): form(case.form).setup for case in possible}
    inputs = {(case.subject, case.shape.skew): _input_seconds(case) for case in possible}
    sampled = sum(_sampled_seconds(case, seconds, peaks, steps) for case in possible)
    return sum(prepared.values()) + sum(inputs.values()) + sampled


def _input_seconds(case: Case) -> float:
    """Return about how many seconds the rows of a head alone and their float64 reference take."""
    shape, config = case.shape, case.subject.head.config
    device = shape.device.type
    operations = flops(config, shape.rows, training=shape.training).total
    reference = min(reference_flops(shape), operations) / REFERENCE_RATE[device]
    return reference + (parameters(config) + shape.rows * config.features) / CONVERTED


def _sampled_seconds(case: Case, seconds: float, peaks: Mapping[str, float], steps: bool) -> float:
    chosen, shape, config = form(case.form), case.shape, case.subject.head.config
    parts = shape.part == "head" and shape.cache == "warm" and not shape.training
    split = steps and chosen.steps is not None and parts
    operations = flops(config, shape.rows, training=shape.training).total
    if shape.part == "classifier":
        operations += case.subject.backbone_flops * shape.rows
    call = OVER_PEAK * operations / peaks[dtype_name(shape.dtype)]
    if case.clock == "graph":
        call *= REPLAYED
    return (1 + STEPS * split) * max(seconds, (LEAST_BLOCKS + 2) * call)
