"""The entry of `profile.json` for a profiling pass over a form."""

from __future__ import annotations

from pathlib import Path

from bench.profile.trace import FormTraces
from reports.records.profile import Profile

NAME = "profile.json"


def form_profile(seen: FormTraces, folder: Path, *, form: str, rows: int, graph: bool) -> Profile:
    """Return the entry of a pass over `form` at N = `rows`, traces as paths from `folder`; `graph` marks a replay."""
    means = seen.breakdown
    return Profile(
        form=form,
        rows=rows,
        graph=graph,
        calls=means.calls,
        told_by=means.told_by,
        seconds=means.seconds,
        busy=means.busy,
        gap=means.gap,
        host=means.host,
        overlap=means.overlap,
        launches=means.launches,
        parts=means.parts,
        operators=means.operators,
        nodes=seen.nodes,
        traces=tuple(str(trace.relative_to(folder)) for trace in seen.traces),
    )
