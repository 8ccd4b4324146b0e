"""The section on the account of the gap: where the time of each case goes, and how far the parts can be trusted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from reports.account import tables as account_tables
from reports.account.account import Account, by_interest, by_setting, by_size
from reports.account.cross_check import AGREE
from reports.account.parts import Part
from reports.account.stage_bars import stage_chart, stage_legend
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
_PICTURES = (
    "the first picture is one case, of your choice. From the top: what the call would take if the whole theoretical "
    "saving were realised, what the machine needs at least (blue), what comes on top (orange), what nothing explains "
    "(pink), their sum, and the best dense form. Each bar begins where the one before ended; a pale one runs back, for "
    "a step that made the call faster. Parts are whole picoseconds and sum to the measured median exactly, also as "
    "shown. The second picture has the same parts for all forms of one head at one number of rows, the fastest on top "
    "and always in one order. A bar is as long as the measured median, and its pieces are the shares of parts above "
    "zero; parts below zero are named below. The dashed line is the best dense form. Forms compiled as one whole are "
    "seen only by a trace, which separates fewer parts."
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
    "buffers together. A floor uses the rate at the bytes that the call must move, interpolated between working sets; "
    "with cold caches that of the largest. A copy reads as much as it writes: a kernel that mostly reads may "
    "exceed its rate, so a floor of bandwidth is no strict bound. Launch is an empty kernel, on a CPU the cheapest "
    "operator. Operator is the host’s work for an eager operator. Waking threads is what the smallest product that a "
    "CPU splits over its threads takes on top."
)


def account_section(analysis: Analysis, accounts: Sequence[Account], headline: MeasuredCase | None = None) -> Section:
    """Return the accounts of heads alone, that of the `headline` case first, the alarm as its finding."""
    speedups = account_tables.speedups(analysis)
    blocks: list[Block] = [] if speedups or not analysis.missing else [Text(analysis.missing, "note")]
    split = _in_split_settings(accounts)
    pictures = _panels(analysis, split, headline)
    blocks += pictures[:1]
    if pictures[1:]:
        blocks.append(Details("The same on other machines and suites", pictures[1:]))
    if speedups:
        blocks.append(Details("Theoretical, attainable and realised, in numbers", speedups, reading=_SPEEDUPS))
    warning = alarm(analysis)
    if accounts:
        blocks.append(Details("What the parts are worth", list(_worth(analysis, accounts, split, warning))))
        if ceilings := account_tables.ceilings(analysis.results.ceilings):
            blocks.append(Details("What the machine can do", [replace(ceilings, titled=False)], reading=_CEILINGS))
    return Section(
        "account",
        "Where the time goes",
        blocks,
        reading=_PICTURES if pictures else "",
        brief=_BRIEF,
        findings=warning,
    )


def _in_split_settings(accounts: Sequence[Account]) -> list[Account]:
    """Return the accounts of settings that have at least one case with more parts than the floors."""
    split = {account.setting for account in accounts if account.waterfall.basis != "floors"}
    return [account for account in accounts if account.setting in split]


def _panels(analysis: Analysis, accounts: Sequence[Account], headline: MeasuredCase | None) -> list[Panel]:
    """Return the waterfall of a case beside the stages of all forms: a panel for each drawn setting.

    The `headline` case, and its setting, come first.
    """
    drawn = [(setting, cases) for setting, cases in by_setting(accounts) if is_drawn(setting)]
    drawn.sort(key=lambda item: all(account.case != headline for account in item[1]))
    return [panel(setting, _pictures(analysis, cases, headline)) for setting, cases in drawn]


def _pictures(analysis: Analysis, accounts: Sequence[Account], headline: MeasuredCase | None) -> list[Block]:
    split = [account for account in accounts if account.waterfall.basis != "floors"]
    stages = stage_chart(analysis, accounts, headline)
    return [Grid([_chart(analysis, split, headline), stages], wide=True), stage_legend(stages)]


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
    if fall.losses:
        clauses.append(
            f"most of what comes on top is {units.listing([_share(fall, part) for part in fall.losses[:2]])}"
        )
    if (left := fall.parts[-1]).picoseconds >= 0 and left not in fall.losses[:2]:
        clauses.append(f"{_share(fall, left)}")
    if fall.below:
        below = [f"{part.name}, {units.signed_picoseconds(part.picoseconds)}" for part in fall.below]
        clauses.append(f"apart from these shares, below zero: {units.listing(below)}")
    return " ".join([f"{'; '.join(clauses)}.", *_agreement(account), *fall.notes])


def _agreement(account: Account) -> list[str]:
    """Say how far the stages of a case agree by steps and by trace."""
    if account.waterfall.basis != "steps":
        return []
    if not account.agreements:
        return ["No second method saw these parts."]
    furthest = max(account.agreements, key=lambda each: abs(each.share))
    agree = units.count(sum(not each.reason for each in account.agreements))
    stage = units.listing(account_tables.stages(furthest))
    return [
        f"By a profiler {agree} of {units.plural(len(account.agreements), 'stage')} agree within a tenth of the call; "
        f"the furthest, {stage}, by {units.signed_percent(furthest.share)} of it."
    ]


def explained(accounts: Sequence[Account]) -> dict[MeasuredCase, Account]:
    """Return for each case of an MoE head the account that says where most of its time goes.

    If nothing splits the time of the case, that is the account of the fastest form of the head at as many rows that has
    parts.
    """
    chosen: dict[MeasuredCase, Account] = {}
    for _, group in by_setting(_in_split_settings(accounts)):
        moe = [account for account in group if account.head.kind != "dense"]
        for forms in by_size(moe):
            split = [account for account in forms if account.waterfall.basis not in ("floors", "graph")]
            fastest = min(split, key=lambda account: account.waterfall.total, default=None)
            if fastest:
                chosen |= {account.case: account if account in split else fastest for account in forms}
    return chosen


def _chart(analysis: Analysis, accounts: Sequence[Account], headline: MeasuredCase | None) -> Chart:
    """Return a chart in which a reader chooses one of the `accounts` of a setting, the `headline` case first."""
    names = labels(account.head for account in accounts)
    order = sorted(by_interest(analysis, accounts, steps_first=True), key=lambda account: account.case != headline)
    choices = [_choice(analysis, names[account.head], account) for account in order]
    most = max(len(choice.data[DATA]) for choice in choices)
    return choosing("Gap waterfall of one case", canvas.spec(waterfall_chart(most)), choices)


def _choice(analysis: Analysis, head: str, account: Account) -> Choice:
    """Return the account of a case; `head` is the name of its head."""
    record = account.case.record
    label = f"{head}, {record.form}, {units.plural(record.rows, 'row')}"
    return Choice(label, {DATA: bars(account.waterfall, account.dense)}, message(analysis, account))


def _share(fall: Waterfall, part: Part) -> str:
    """Return a part with its time and its share of all parts above zero."""
    time = units.signed_picoseconds(part.picoseconds)
    return f"{part.name}, {time} ({units.percent(fall.share(part.picoseconds))})"
