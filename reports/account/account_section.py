"""The section on the account of the gap: where the time of each case goes, and how far the parts can be trusted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from reports.account import tables as account_tables
from reports.account.account import Account, by_interest, by_setting, by_size
from reports.account.cross_check import AGREE
from reports.account.parts import FLOORS, UNATTRIBUTED
from reports.account.stage_bars import stage_blocks
from reports.account.waterfall import LARGE, Waterfall
from reports.account.waterfall_figures import DATA, bars, waterfall_chart
from reports.numbers import units
from reports.output import canvas
from reports.output.blocks import (
    Block,
    Chart,
    Choice,
    Details,
    Grid,
    Items,
    PageOnly,
    Panel,
    Section,
    Subsection,
    Text,
    choosing,
)
from reports.reading.load import MeasuredCase
from reports.speed.alarm import alarm
from reports.speed.analysis import Analysis, labels
from reports.speed.settings import is_drawn, panel, resident

_BRIEF = (
    "Ratios are dense over MoE, the fastest form of each, so above 1× the MoE head is faster. Theoretical is by "
    "operations. Attainable is by floors: the longer of operations at the machine’s peak and least bytes at its rate, "
    "plus one launch. Realised can exceed attainable when the dense baseline runs further from its own floor. A copy "
    "reads as much as it writes: a kernel that mostly reads may exceed its rate, so a floor of bandwidth is no strict "
    "bound."
)
_WATERFALL = (
    "one case, of your choice. From the top: what the call would take if the whole theoretical saving were realised, "
    "what the machine needs at least (blue), what comes on top (orange), what nothing explains (pink), their sum, and "
    "the best dense form. Each bar begins where the one before ended; a pale one runs back, for a step that made the "
    "call faster. Parts are whole picoseconds and sum to the measured median exactly, also as shown."
)
_STAGES = (
    "the same parts for all forms of one head at one number of rows, the fastest on top and always in one order. The "
    "tick is the measured median, to which a bar’s parts sum; parts below zero stand left of it, and then the bar "
    "reaches beyond the tick by as much. The dashed line is the best dense form. Forms compiled as one whole are seen "
    "only by a trace, which separates fewer parts."
)
_SPEEDUPS = (
    "theoretical is the ratio of operations. Attainable is the ratio of floors, where a floor is the longer of "
    "operations at this machine’s peak and least bytes at its rate, plus one launch. Realised is measured, fastest "
    "form against fastest dense form, and exceeds attainable if the dense form runs further from its own floor. Bytes "
    "are cache-resident if all that a call must move fits a cache faster than memory."
)
_PARTS = (
    "“steps” are counterfactuals timed in the same blocks, each doing all of the one before and more. On a CPU, the "
    "cost of each operator to its caller is taken out of them and shown as launch and host. On a GPU, launch and host "
    "is what a call takes beyond its replay as a CUDA graph, plus what the replay of a graph with one empty kernel "
    "takes beyond its launch; if no graph can hold a form it is operators as on a CPU, which is too much if the "
    "device is still busy meanwhile. “graph” is a form that cannot be split: only its launch and host is known. "
    "“trace” are stages as a profiler saw them in a slower pass, on a GPU only their kernels, neither scaled nor cut. "
    "Theoretical is what the call would take if the whole theoretical saving were realised. In a soft head, top-k is "
    "its softmax. Padding of tiles counts as imbalance. Imbalance lies below zero if few rows reach fewer experts, "
    "and read fewer weights, than an even spread would."
)
_CHECKS = (
    "the same stage by the steps that do it and by the profiler’s ranges, on a GPU by the time that its kernels keep "
    "the device busy. They agree if they differ by at most a tenth of the call. trace / steps shows how far they "
    "differ for the stage itself, which can be far for a small stage. A reason is given only if something measured "
    "explains it."
)
_CEILINGS = (
    "the least time of many, measured in the run itself. Copies count bytes read and written, by the size of both "
    "buffers together. A floor uses the greatest rate of all working sets that hold what the call must move; with "
    "cold caches it uses that of the largest. A copy reads as much as it writes: a kernel that mostly reads may "
    "exceed its rate, so a floor of bandwidth is no strict bound. Launch is an empty kernel, on a CPU the cheapest "
    "operator. Operator is the host’s work for an eager operator. Waking threads is what the smallest product that a "
    "CPU splits over its threads takes on top."
)


def account_section(analysis: Analysis, accounts: Sequence[Account]) -> Section:
    """Return the accounts of heads alone, the alarm as its finding."""
    speedups = account_tables.speedups(analysis)
    blocks: list[Block] = [] if speedups or not analysis.missing else [Text(analysis.missing, "note")]
    split = _in_split_settings(accounts)
    if waterfalls := _waterfalls(analysis, split):
        blocks.append(Subsection("Where the time goes", [Grid(waterfalls, wide=True)], reading=_WATERFALL))
    if stages := stage_blocks(analysis, split):
        blocks.append(Subsection("Form beside form", stages, reading=_STAGES))
    if speedups:
        blocks.append(Subsection("Theoretical, attainable and realised, in numbers", speedups, reading=_SPEEDUPS))
    warning = alarm(analysis)
    if accounts:
        blocks.append(Subsection("What the parts are worth", list(_worth(analysis, accounts, split, warning))))
        if ceilings := account_tables.ceilings(analysis.results.ceilings):
            blocks.append(Subsection("What the machine can do", [replace(ceilings, titled=False)], reading=_CEILINGS))
    return Section("account", "Account of the gap", blocks, brief=_BRIEF, findings=warning)


def _in_split_settings(accounts: Sequence[Account]) -> list[Account]:
    """Return the accounts of settings that have at least one case with more parts than the floors."""
    split = {account.setting for account in accounts if account.waterfall.basis != "floors"}
    return [account for account in accounts if account.setting in split]


def _waterfalls(analysis: Analysis, accounts: Sequence[Account]) -> list[Panel]:
    """Return the waterfalls of all cases with more parts than the floors, in one panel for each drawn setting."""
    split = [account for account in accounts if account.waterfall.basis != "floors"]
    return [panel(setting, [_chart(analysis, cases)]) for setting, cases in by_setting(split) if is_drawn(setting)]


def _worth(
    analysis: Analysis, accounts: Sequence[Account], split: Sequence[Account], warning: Sequence[str]
) -> Iterator[Block]:
    """Yield what all accounts say together, and each in numbers."""
    yield Items([*warning, *sentences(analysis, accounts)])
    if tables := account_tables.waterfalls(analysis, split):
        yield PageOnly([Details("Every waterfall, in numbers", tables, reading=_PARTS)])
    if tables := account_tables.checks(analysis, accounts):
        yield PageOnly([Details("Cross-check by a second method", tables, reading=_CHECKS)])


def sentences(analysis: Analysis, accounts: Sequence[Account]) -> list[str]:
    """Return what all accounts say together, and what is missing from them."""
    return [*_on_floors(analysis, accounts), *_on_parts(accounts), *_on_checks(accounts)]


def _on_floors(analysis: Analysis, accounts: Sequence[Account]) -> Iterator[str]:
    lacking = sum(account.floor is None for account in accounts)
    if not analysis.results.ceilings:
        yield "No ceilings were measured with these results, so nothing has a floor and nothing attainable is known."
    elif lacking:
        whole = units.plural(lacking, "case")
        yield f"{whole} without a floor: no ceilings fit the machine, threads and dtype, or bytes were not counted."


def _on_parts(accounts: Sequence[Account]) -> Iterator[str]:
    split = [account.waterfall for account in accounts if account.waterfall.basis == "steps"]
    small = sum(abs(fall.unattributed) < LARGE for fall in split)
    if split:
        whole, rest = units.plural(len(split), "case"), "; the others say why" if small < len(split) else ""
        yield f"Of {whole} measured in steps {units.count(small)} leave less than a tenth unattributed{rest}."
        yield (
            "The last step of a form is the call itself once more, so little unattributed says only that steps and "
            "call were sampled in the same way; the independent check of the parts between them is the trace."
        )
    else:
        yield "No case was measured in steps: parts come from traces; without one all beyond floors is unattributed."


def _on_checks(accounts: Sequence[Account]) -> Iterator[str]:
    checked = [agreement for account in accounts for agreement in account.agreements]
    agree = units.count(sum(not each.reason for each in checked))
    close = units.count(sum(each.ratio is not None and abs(each.ratio - 1) <= AGREE for each in checked))
    if checked:
        whole = units.plural(len(checked), "stage")
        yield (
            f"Of {whole} measured by steps and by trace {agree} agree within a tenth of the call, which is the "
            f"criterion, and {close} within a tenth of the stage itself."
        )


def message(analysis: Analysis, account: Account) -> str:
    """Say what the waterfall of a case shows: its time, the time in theory, the floor, the largest parts, the rest."""
    record, fall = account.case.record, account.waterfall
    head = f"{analysis.labels[account.head]} in the form {record.form}"
    clauses = [f"At {units.plural(record.rows, 'row')} the {head} takes {units.signed_picoseconds(fall.total)}"]
    if fall.theoretical is not None:
        clauses.append(f"in theory it would take {units.signed_picoseconds(fall.theoretical)}")
    if account.floor is not None:
        limit = f"{account.floor.limit}, {resident(account.floor)}"
        clauses.append(f"the machine needs {units.seconds(account.floor.seconds)} at least ({limit})")
    if largest := _largest(fall):
        clauses.append(f"most of what comes on top is {units.listing(largest)}")
    clauses.append(f"{_share(fall.parts[-1].picoseconds, fall.total)} is unattributed")
    return " ".join([f"{'; '.join(clauses)}.", *fall.notes])


def losses(accounts: Sequence[Account]) -> dict[MeasuredCase, str]:
    """Return for each case of an MoE head a sentence on where most of its time goes.

    If nothing splits the time of the case, the sentence is about the fastest form of the head at as many rows that has
    parts, which it names.
    """
    sentences: dict[MeasuredCase, str] = {}
    for _, group in by_setting(_in_split_settings(accounts)):
        moe = [account for account in group if account.head.kind != "dense"]
        for forms in by_size(moe):
            split = [account for account in forms if account.waterfall.basis not in ("floors", "graph")]
            fastest = min(split, key=lambda account: account.waterfall.total, default=None)
            if fastest:
                sentences |= {account.case: _loss(account if account in split else fastest) for account in forms}
    return sentences


def _loss(account: Account) -> str:
    record, fall = account.case.record, account.waterfall
    least = f", of which the floors need {units.seconds(account.floor.seconds)}" if account.floor else ""
    most = f"; most of the rest is {units.listing(_largest(fall))}" if _largest(fall) else ""
    time = units.signed_picoseconds(fall.total)
    return f"At {units.plural(record.rows, 'row')} {record.form} takes {time}{least}{most}."


def _largest(fall: Waterfall) -> list[str]:
    """Return the two parts that take most beyond the floors, with their times and shares."""
    beyond = [part for part in fall.parts if part.name not in (*FLOORS, UNATTRIBUTED) and part.picoseconds > 0]
    largest = sorted(beyond, key=lambda part: -part.picoseconds)[:2]
    return [f"{part.name}, {_share(part.picoseconds, fall.total)}" for part in largest]


def _chart(analysis: Analysis, accounts: Sequence[Account]) -> Chart:
    """Return a chart in which a reader chooses one of the `accounts` of a setting."""
    names = labels(account.head for account in accounts)
    order = by_interest(analysis, accounts, steps_first=True)
    choices = [_choice(analysis, names[account.head], account) for account in order]
    most = max(len(choice.data[DATA]) for choice in choices)
    return choosing("Gap waterfall of one case", canvas.spec(waterfall_chart(most)), choices)


def _choice(analysis: Analysis, head: str, account: Account) -> Choice:
    """Return the account of a case; `head` is the name of its head."""
    record = account.case.record
    label = f"{head}, {record.form}, {units.plural(record.rows, 'row')}"
    return Choice(label, {DATA: bars(account.waterfall, account.dense)}, message(analysis, account))


def _share(picoseconds: int, total: int) -> str:
    return f"{units.signed_picoseconds(picoseconds)} ({units.signed_percent(picoseconds / max(total, 1))})"
