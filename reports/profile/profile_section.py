"""The section on profiles: each form's call by stage, what runs in it and what waits, and its longest work.

A profiled call is slower than a timed one: shares say where its time goes, but its time is no latency.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from reports.numbers import units
from reports.numbers.groups import grouped
from reports.output import canvas, legend
from reports.output.blocks import Chart, Facts, Grid, Legend, Panel, Section, Table, Text, without_blanks
from reports.output.tables import Field, number, tabulated, word
from reports.profile.figures import STAGES, share_chart
from reports.records.profile import Operator, Profile, ProfileFile, Stage

_Item = TypeVar("_Item")
LONGEST = 5
NAME_WIDTH = 80
"""A kernel's C++ name may have a thousand letters."""


def profile_section(files: Sequence[ProfileFile]) -> Section | None:
    """Return the section of these files, or None without any."""
    if not files:
        return None
    keys = [legend.patch(f"{stage.name}: {stage.meaning}", stage.colour, stage.letter, stage.ink) for stage in STAGES]
    return Section(
        "profile",
        "Profile",
        [Legend("Stages", keys), *map(_panel, files)],
        heading="Where a call’s time goes, as a profiler saw it",
        reading="a separate pass, never timed, records every operator and kernel of a call. Profiling slows short "
        "calls, so read shares, not times. Each bar is one form’s call from its first stage to the rest; letters name "
        "the stages. Hover a piece for its time; all numbers are in the tables.",
        brief="Profiling slows short calls: read shares, not times.",
        findings=[_sentence(file, rows, group) for file in files for rows, group in _by_rows(file).items()],
    )


def tally(files: Sequence[ProfileFile]) -> str:
    """Return how much was profiled, in one sentence; "" without any file."""
    count = sum(len(file.profiles) for file in files)
    return f"{units.plural(count, 'profile')} of {units.plural(len(files), 'head')}." if files else ""


def machines(files: Sequence[ProfileFile]) -> list[Facts]:
    """Return what the profiles of each file were taken on, with what, and when."""
    return [Facts(f"Profile of {file.checkpoint}; {file.device}", _facts(file)) for file in files]


def _panel(file: ProfileFile) -> Panel:
    charts = [_chart(rows, profiles) for rows, profiles in _by_rows(file).items()]
    tables = [_stages(file), _busy(file), _longest(file), _traces(file)]
    return Panel(
        file.title,
        file.device,
        [Grid(charts, wide=True), *(without_blanks(table) for table in tables if table.rows), *map(Text, _notes(file))],
    )


def _by_rows(file: ProfileFile) -> Mapping[int, list[Profile]]:
    return dict(sorted(grouped(file.profiles, lambda profile: profile.rows).items()))


def _chart(rows: int, profiles: Sequence[Profile]) -> Chart:
    spent = []
    for profile in profiles:
        stage = max((stage.name for stage in STAGES), key=profile.share)
        place = "outside all stages" if stage == "other" else f"in {stage}"
        spent.append(f"{profile.label} {units.percent(profile.share(stage))} {place}")
    heading = units.plural(rows, "row")
    message = f"{heading}: of its profiled call, each form spends most in one place: {units.listing(spent)}."
    return Chart(heading, canvas.spec(share_chart(profiles)), message, subject="Profile")


def _sentence(file: ProfileFile, rows: int, profiles: Sequence[Profile]) -> str:
    experts = _range(profiles, lambda profile: profile.share("experts") + profile.share("fused"))
    idle = _range(profiles, lambda profile: profile.gap / profile.seconds)
    nothing = "no kernel runs" if file.runs_on == "cuda" else "no operator runs"
    return (
        f"Of a profiled call of {file.checkpoint} on {units.plural(rows, 'row')} the experts and what is fused take "
        f"{experts}; {nothing} for {idle}."
    )


def _range(profiles: Sequence[Profile], share: Callable[[Profile], float]) -> str:
    """Return the least and the greatest share, with the forms they belong to."""
    least, most = min(profiles, key=share), max(profiles, key=share)
    if least is most:
        return f"{units.percent(share(most))} ({most.label})"
    return f"{units.percent(share(least))} ({least.label}) to {units.percent(share(most))} ({most.label})"


def _stages(file: ProfileFile) -> Table:
    """Return the share of each stage in a call."""

    def share(stage: Stage) -> Field[Profile]:
        return number(stage, lambda profile: units.percent(profile.share(stage)) if profile.share(stage) else "")

    fields: list[Field[Profile]] = [
        *_names(lambda profile: profile),
        number("call, profiled", lambda profile: units.seconds(profile.seconds)),
        *(share(stage.name) for stage in STAGES),
        word("told by", lambda profile: profile.told_by),
    ]
    return tabulated("Share of a profiled call by stage", fields, file.profiles)


def _calls(profile: Profile) -> str:
    """Return how many calls count, and how many do not because the profiler lost kernels of them."""
    lost = f" ({units.count(profile.dropped)} more lost kernels)" if profile.dropped else ""
    return f"{units.count(profile.calls)}{lost}"


def _busy(file: ProfileFile) -> Table:
    """Return how long something runs, how often it is started, and the host against the device."""
    cuda = file.runs_on == "cuda"
    fields: list[Field[Profile]] = [
        *_names(lambda profile: profile),
        number("calls", _calls),
        number("kernels and copies" if cuda else "operators or nodes", lambda profile: _mean(profile.launches)),
        number("GPU busy" if cuda else "in operators", lambda profile: units.seconds(profile.busy)),
        number("share", lambda profile: units.percent(profile.busy / profile.seconds)),
        number("GPU idle" if cuda else "between operators", lambda profile: units.seconds(profile.gap)),
    ]
    if cuda:
        fields.append(number("host until the last launch returns", lambda profile: units.seconds(profile.host)))
        fields.append(number("of it while the GPU is busy", lambda profile: units.seconds(profile.overlap)))
    caption = "Host against device, per profiled call" if cuda else "Operators against Python, per profiled call"
    return tabulated(f"{caption}; {file.device}", fields, file.profiles)


def _longest(file: ProfileFile) -> Table:
    """Return the longest operators, kernels or nodes of each form."""
    fields: list[Field[tuple[Profile, Operator]]] = [
        *_names(lambda item: item[0]),
        word("operator, kernel or node", lambda item: _shortened(item[1].name)),
        word("where", lambda item: item[1].where),
        number("time per call", lambda item: units.seconds(item[1].seconds)),
        number("share", lambda item: units.percent(item[1].seconds / item[0].seconds)),
        number("times", lambda item: _mean(item[1].count)),
    ]
    items = [
        (profile, work)
        for profile in file.profiles
        for work in sorted((*profile.operators, *profile.nodes), key=lambda work: -work.seconds)[:LONGEST]
    ]
    return tabulated(f"The {LONGEST} longest operators, kernels or nodes of each form", fields, items)


def _traces(file: ProfileFile) -> Table:
    """Return the traces that lie beside the file."""
    fields: list[Field[tuple[Profile, str]]] = [
        *_names(lambda item: item[0]),
        word("beside profile.json", lambda item: item[1]),
    ]
    items = [(profile, trace) for profile in file.profiles for trace in profile.traces]
    return tabulated("Traces, for `moegap traces` and ui.perfetto.dev", fields, items)


def _mean(number: float) -> str:
    """Return how many pieces of work a call starts, as a whole number if every call starts as many."""
    return f"{number:,.0f}" if number == round(number) else f"{number:,.1f}"


def _names(profile: Callable[[_Item], Profile]) -> list[Field[_Item]]:
    """Return the fields that say which `profile` an item is about."""
    return [
        word("form", lambda item: profile(item).label),
        number("rows", lambda item: units.count(profile(item).rows)),
    ]


def _shortened(name: str) -> str:
    return name if len(name) <= NAME_WIDTH else f"{name[: NAME_WIDTH - 1]}…"


def _notes(file: ProfileFile) -> Iterator[str]:
    """Yield how stages were told apart if not by ranges, and what was left out."""
    if named := list(dict.fromkeys(profile.label for profile in file.profiles if profile.told_by == "names")):
        yield (
            f"No range names a stage in {units.listing(named)}: the names of operators and kernels do, so a gate's "
            "product counts among the experts, and a kernel that computes several stages as fused."
        )
    if engines := list(dict.fromkeys(profile.label for profile in file.profiles if profile.by_its_engine)):
        yield (
            f"An engine's own profile, as of {units.listing(engines)}, costs microseconds per node: a short call reads "
            "several times longer than it takes, and much of its gap is the engine writing its profile."
        )
    for (label, reason), items in grouped(file.left_out, lambda item: (item.label, item.reason)).items():
        yield f"{label} at {units.row_counts([item.rows for item in items])} was left out: {reason}"


def _facts(file: ProfileFile) -> list[tuple[str, str]]:
    facts = {
        "device": file.device,
        "CPU": file.environment.get("cpu", ""),
        "threads": " ".join(file.environment.get(name, "") for name in ("threads", "thread_wait")).lower().strip(),
        "driver": file.environment.get("driver", ""),
        "versions": ", ".join(f"{name}\u00a0{version}" for name, version in sorted(file.versions.items())),
        "commit": units.commit(file.environment.get("commit", ""), file.environment.get("dirty") == "True"),
        "profiled": units.date(file.environment.get("measured_at", "")),
    }
    return [(name, value) for name, value in facts.items() if value]
