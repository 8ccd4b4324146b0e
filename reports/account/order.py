"""Which accounts are drawn, and in which order a reader is offered them."""

from __future__ import annotations

from collections.abc import Sequence

from reports.account.account import Account
from reports.speed.analysis import Analysis
from reports.speed.panels import INTEREST, from_batch


def by_interest(analysis: Analysis, accounts: Sequence[Account], *, steps_first: bool = False) -> list[Account]:
    """Return `accounts` in the order in which they are offered: sparse heads first, soft and dense ones after them.

    Of each kind those at the rows nearest to the paper's batch come first, then the others from the fewest on, and of
    each number of rows the fastest first; with `steps_first` those measured in steps before those told by a trace.
    """
    nearest = {
        kind: min(
            (found.case.record.rows for found in accounts if found.head.kind == kind),
            key=from_batch,
        )
        for kind in {found.head.kind for found in accounts}
    }

    def rank(found: Account) -> tuple[int, bool, int, bool, float]:
        kind, rows = found.head.kind, found.case.record.rows
        later = steps_first and found.waterfall.basis != "steps"
        return (INTEREST.index(kind), rows != nearest[kind], rows, later, analysis.latencies[found.case].value)

    return sorted(accounts, key=rank)
