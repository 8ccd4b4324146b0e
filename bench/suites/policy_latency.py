"""The suite `policies`: how long the trained heads of a policy study take in every form, measured interleaved.

Letters: N rows, D features.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from bench.cases.case import Case, Shape
from bench.cases.measure import measure_group
from bench.subjects.subject import load_subjects
from bench.timing.sampling import OnProgress
from models.device import device_name
from models.policies.results import PolicyResults
from reports.records.policy_study import Latency
from reports.records.record import ClockName, Status

SUITE = "policies"
CLOCK: ClockName = "wall"
RETRIED = (Status.FAILED, Status.SKIPPED)


def is_measured(results: PolicyResults, rows: int, forms: Sequence[str], device: torch.device) -> bool:
    """Return whether every policy has its final result for N = `rows` in all of `forms` on `device`."""
    here = (rows, device_name(device), torch.get_num_threads())
    final = [part for part in results.latency if part.status not in RETRIED]
    there = {(part.policy, part.form) for part in final if (part.rows, part.device, part.threads) == here}
    return all((run.policy, form) in there for run in results.runs for form in forms)


def measure_latency(
    results: PolicyResults,
    *,
    rows: int,
    forms: Sequence[str],
    seconds: float,
    device: torch.device,
    progress: OnProgress,
) -> None:
    """Measure every policy's head of its first seed in each of `forms` on N = `rows`, and write the results.

    What is timed is one call of the head alone as its caller sees it, in float32, on real features, with `seconds` of
    sampling per head and form. All are measured again, because only interleaved cases are compared fairly. If a policy
    couples the rows of a batch, these N rows are the batch.
    """
    firsts: dict[str, str] = {}
    for run in results.runs:
        firsts.setdefault(run.policy, run.folder)
    subjects = dict(zip(firsts, load_subjects(results.path.parent / folder for folder in firsts.values()), strict=True))
    shape = Shape("head", rows, torch.float32, device)
    cases = {
        (policy, form): Case(subject, form, shape, CLOCK) for policy, subject in subjects.items() for form in forms
    }
    measured = measure_group(list(cases.values()), SUITE, seconds, 0, progress, steps=False, traces=False)
    outcomes = {outcome.record.case_id: outcome for outcome in measured.outcomes}
    results.rows = rows
    results.latency = []
    for (policy, form), case in cases.items():
        record, samples = outcomes[case.id].record, outcomes[case.id].samples
        same = {name: getattr(record, name) for name in ("reason", "rows", "dtype", "clock", "threads")}
        results.latency.append(
            Latency(
                policy=policy, form=form, status=record.status.value, seconds=samples, device=record.device_name, **same
            )
        )
    results.write()
