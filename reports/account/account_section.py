"""The section on the account of the gap: where the time of each case goes, and how far to trust the parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from reports.account import tables as account_tables
from reports.account.account import Account, by_interest, by_setting
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
from reports.reading.load import Case
from reports.speed.analysis import Analysis, labels
from reports.speed.settings import is_drawn, panel, resident

_BRIEF = (
    "Ratios are dense over MoE, the fastest form of each, so above 1× the MoE head is faster. Theoretical is by "
    "operations, attainable by floors: the longer of operations at the machine’s peak and least bytes at its rate, "
    "and one launch. Realised can exceed attainable when the dense baseline runs further from its own floor. A copy "
    "reads as much as it writes: a kernel that mostly reads may pass its rate, so a floor of bandwidth is no strict "
    "bound."
)
_WATERFALL = (
    "one case, of your choice. From the top, what the call would take if the theoretical saving were realised whole, "
    "what the machine needs at least (blue), what comes on top (orange), what nothing explains (pink), their sum and "
    "the best dense form. Each bar begins where the one before ended; a pale one runs back, for a step that made the "
    "call faster. Parts are whole picoseconds and sum to the measured median exactly, also as shown."
)
_STAGES = (
    "the same parts, of all forms of one head at one number of rows, fastest on top and always in one order. The tick "
    "is the measured median, to which a bar’s parts sum; parts below zero stand left of it, and then the bar reaches "
    "beyond the tick by as much. The dashed line is the best dense form. Forms of one compiled whole are seen by a "
    "trace alone, which tells fewer parts apart."
)
_SPEEDUPS = (
    "theoretical is the ratio of operations; attainable the ratio of floors, where a floor is the longer of operations "
    "at this machine’s peak and least bytes at its rate, and one launch; realised is measured, fastest form against "
    "fastest dense form, and exceeds attainable if the dense form runs further from its own floor. Bytes are "
    "cache-resident if all that a call must move fits a cache faster than memory."
)
_PARTS = (
    "“steps” are counterfactuals timed in the same blocks, each doing what the one before does and more; on a CPU "
    "each operator’s cost to its caller is taken out of them and stands as launch and host. On a GPU that is what a "
    "call takes beyond its replay as a CUDA graph, and what replaying a graph of one empty kernel takes beyond its "
    "launch; if no graph can hold a form it is operators as on a CPU, too much if the device is still busy meanwhile. "
    "“graph” is a form that cannot be split, of which that alone is known. “trace” are stages as a profiler saw them "
    "in a slower pass, on a GPU their kernels alone, neither scaled nor cut. Theoretical is what the call would take "
    "if the theoretical saving were realised whole. In a soft head top-k stands for its softmax. Padding of tiles "
    "counts as imbalance, which lies below zero if few rows reach fewer experts, and read fewer weights, than an even "
    "spread would."
)
_CHECKS = (
    "the same stage by the steps that do it and by the profiler’s ranges, on a GPU by the time its kernels keep the "
    "device busy. They agree if they differ by no more than a tenth of the call; trace / steps shows how far apart "
    "they are for the stage itself, which of a small stage may be much. A reason stands only if something measured "
    "tells it."
)
_CEILINGS = (
    "the least time of many, measured in the run itself. Copies count bytes read and written, by the size of both "
    "buffers together; a floor uses the greatest rate of any working set that holds what the call must move, with "
    "cold caches that of the largest. A copy reads as much as it writes: a kernel that mostly reads may pass its "
    "rate, so a floor of bandwidth is no strict bound. Launch is an empty kernel, on a CPU the cheapest operator; "
    "operator is the host’s work for an eager one; waking threads is what the smallest product that a CPU splits over "
    "its threads takes beyond that."
)


def account_section(analysis: Analysis, accounts: Sequence[Account]) -> Section | None:
    """Return the accounts of heads alone; None without records. Those of a map of break-even stand in that map."""
    if not analysis.results.records:
        return None
    speedups = account_tables.speedups(analysis)
    blocks: list[Block] = [] if speedups or not analysis.missing else [Text(analysis.missing, "note")]
    split = _in_split_settings(accounts)
    if waterfalls := _waterfalls(analysis, split):
        blocks.append(Subsection("Where the time goes", [Grid(waterfalls, wide=True)], reading=_WATERFALL))
    if stages := stage_blocks(analysis, split):
        blocks.append(Subsection("Form beside form", stages, reading=_STAGES))
    if speedups:
        blocks.append(Subsection("Theoretical, attainable and realised, in numbers", speedups, reading=_SPEEDUPS))
    if accounts:
        blocks.append(Subsection("What the parts are worth", list(_worth(analysis, accounts, split))))
        if ceilings := account_tables.ceilings(analysis.results.ceilings):
            blocks.append(Subsection("What the machine can do", [replace(ceilings, titled=False)], reading=_CEILINGS))
    return Section("account", "Account of the gap", blocks, brief=_BRIEF)


def _in_split_settings(accounts: Sequence[Account]) -> list[Account]:
    """Return the accounts of settings in which something splits the time of at least one case."""
    split = {account.setting for account in accounts if account.waterfall.basis != "floors"}
    return [account for account in accounts if account.setting in split]


def _waterfalls(analysis: Analysis, accounts: Sequence[Account]) -> list[Panel]:
    """Return the waterfalls of all cases that something splits: one panel for each setting seen by the wall clock.

    Settings of cold caches and of made routings have none.
    """
    split = [account for account in accounts if account.waterfall.basis != "floors"]
    return [panel(setting, [_chart(analysis, cases)]) for setting, cases in by_setting(split) if is_drawn(setting)]


def _worth(analysis: Analysis, accounts: Sequence[Account], split: Sequence[Account]) -> Iterator[Block]:
    """Yield what all accounts say together, and every one in numbers."""
    yield Items(sentences(analysis, accounts))
    if tables := account_tables.waterfalls(analysis, split):
        yield PageOnly([Details("Every waterfall, in numbers", tables, reading=_PARTS)])
    if tables := account_tables.checks(analysis, accounts):
        yield PageOnly([Details("Cross-check by a second method", tables, reading=_CHECKS)])


def sentences(analysis: Analysis, accounts: Sequence[Account]) -> list[str]:
    """Return what all accounts say together, and what they lack."""
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
    small = sum(abs(found.unattributed) < LARGE for found in split)
    if split:
        whole, rest = units.plural(len(split), "case"), "; the others say why" if small < len(split) else ""
        yield f"Of {whole} measured in steps {units.count(small)} leave less than a tenth unattributed{rest}."
        yield (
            "The last step of a form is the call itself once more, so little unattributed says only that steps and "
            "call were sampled alike; the independent check of the parts between them is the trace."
        )
    else:
        yield "No case was measured in steps: parts come from traces; without one all beyond floors is unattributed."


def _on_checks(accounts: Sequence[Account]) -> Iterator[str]:
    checked = [found for account in accounts for found in account.agreements]
    agree = units.count(sum(not found.reason for found in checked))
    alike = units.count(sum(found.ratio is not None and abs(found.ratio - 1) <= AGREE for found in checked))
    if checked:
        whole = units.plural(len(checked), "stage")
        yield (
            f"Of {whole} measured by steps and by trace {agree} agree within a tenth of the call, which is the "
            f"criterion, and {alike} within a tenth of the stage itself."
        )


def message(analysis: Analysis, account: Account) -> str:
    """Return what the waterfall of a case shows: its time, that in theory, the floor, the largest parts, the rest."""
    record, found = account.case.record, account.waterfall
    head = f"{analysis.labels[account.head]} in the form {record.form}"
    told = [f"At {units.plural(record.rows, 'row')} the {head} takes {units.signed_picoseconds(found.total)}"]
    if found.theoretical is not None:
        told.append(f"in theory it would take {units.signed_picoseconds(found.theoretical)}")
    if account.floor is not None:
        limit = f"{account.floor.limit}, {resident(account.floor)}"
        told.append(f"the machine needs {units.seconds(account.floor.seconds)} at least ({limit})")
    if largest := _largest(found):
        told.append(f"most of what comes on top is {units.listing(largest)}")
    told.append(f"{_share(found.parts[-1].picoseconds, found.total)} is unattributed")
    return " ".join([f"{'; '.join(told)}.", *found.notes])


def losses(accounts: Sequence[Account]) -> dict[Case, str]:
    """Return for each case of an MoE head where most of its time goes, in a sentence.

    That is told by the fastest form of the head at as many rows that something splits, which the sentence names.
    """
    told = {}
    for _, own in by_setting(_in_split_settings(accounts)):
        mixtures = [found for found in own if found.head.kind != "dense"]
        split = [found for found in mixtures if found.waterfall.basis not in ("floors", "graph")]
        split.sort(key=lambda found: found.waterfall.total)
        for one in own:
            size = (one.head, one.case.record.rows)
            kin = [found for found in split if (found.head, found.case.record.rows) == size]
            chosen = one if one in kin else next(iter(kin), None)
            if chosen:
                told[one.case] = _loss(chosen)
    return told


def _loss(account: Account) -> str:
    record, found = account.case.record, account.waterfall
    least = f", of which the floors need {units.seconds(account.floor.seconds)}" if account.floor else ""
    most = f"; most of the rest is {units.listing(_largest(found))}" if _largest(found) else ""
    time = units.signed_picoseconds(found.total)
    return f"At {units.plural(record.rows, 'row')} {record.form} takes {time}{least}{most}."


def _largest(found: Waterfall) -> list[str]:
    """Return the two parts that take most beyond the floors, with their times and shares."""
    beyond = [part for part in found.parts if part.name not in (*FLOORS, UNATTRIBUTED) and part.picoseconds > 0]
    largest = sorted(beyond, key=lambda part: -part.picoseconds)[:2]
    return [f"{part.name}, {_share(part.picoseconds, found.total)}" for part in largest]


def _chart(analysis: Analysis, accounts: Sequence[Account]) -> Chart:
    """Return a chart of any of the `accounts` of a setting."""
    names = labels(found.head for found in accounts)
    order = by_interest(analysis, accounts, steps_first=True)
    choices = [_choice(analysis, names[found.head], found) for found in order]
    most = max(len(choice.data[DATA]) for choice in choices)
    return choosing("Gap waterfall of one case", canvas.spec(waterfall_chart(most)), choices)


def _choice(analysis: Analysis, head: str, account: Account) -> Choice:
    """Return the account of a case whose `head` is called so among those to choose from."""
    record, comparison = account.case.record, account.comparison
    dense = analysis.latencies[comparison.base].value if comparison else None
    label = f"{head}, {record.form}, {units.plural(record.rows, 'row')}"
    return Choice(label, {DATA: bars(account.waterfall, dense)}, message(analysis, account))


def _share(picoseconds: int, total: int) -> str:
    return f"{units.signed_picoseconds(picoseconds)} ({units.signed_percent(picoseconds / max(total, 1))})"
