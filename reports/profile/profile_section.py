"""The section on profiles: each form's call by stage, what runs in it and what waits, and its longest work.

A profiled call is slower than a timed one: shares say where its time goes, but its time is no latency.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from reports.numbers import units
from reports.output import canvas, legend
from reports.output.blocks import (
    Chart,
    Column,
    Facts,
    Grid,
    Legend,
    Panel,
    Section,
    Table,
    Text,
    numeric,
    without_blanks,
    worded,
)
from reports.profile.figures import STAGES, Bar, share_chart
from reports.records.profile import Profile, ProfileFile

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
        [
            Grid(charts, wide=True),
            *(without_blanks(table) for table in tables if table.rows),
            *map(Text, _notes(file)),
        ],
    )


def _by_rows(file: ProfileFile) -> Mapping[int, list[Profile]]:
    by_rows: dict[int, list[Profile]] = {}
    for profile in file.profiles:
        by_rows.setdefault(profile.rows, []).append(profile)
    return dict(sorted(by_rows.items()))


def _chart(rows: int, profiles: Sequence[Profile]) -> Chart:
    bars = [
        Bar(profile.label, profile.seconds, {stage.name: profile.share(stage.name) for stage in STAGES})
        for profile in profiles
    ]
    largest = [max(bar.shares.items(), key=lambda item: item[1]) for bar in bars]
    spent = [
        f"{bar.form} {units.percent(share)} {'outside all stages' if stage == 'other' else f'in {stage}'}"
        for bar, (stage, share) in zip(bars, largest, strict=True)
    ]
    heading = units.plural(rows, "row")
    message = f"{heading}: of its profiled call, each form spends most in one place: {units.listing(spent)}."
    return Chart(heading, canvas.spec(share_chart(bars)), message, subject="Profile")


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
    columns = (*_HEAD, *numeric("call, profiled"), *(Column(stage.name) for stage in STAGES), *worded("told by"))
    rows = tuple(
        (
            *_names(profile),
            units.seconds(profile.seconds),
            *(units.percent(share) if (share := profile.share(stage.name)) else "" for stage in STAGES),
            profile.told_by,
        )
        for profile in file.profiles
    )
    return Table("Share of a profiled call by stage", columns, rows)


def _busy(file: ProfileFile) -> Table:
    """Return how long something runs, how often it is started, and the host against the device."""
    cuda = file.runs_on == "cuda"
    columns = (
        *_HEAD,
        *numeric(
            "calls",
            "kernels and copies" if cuda else "operators or nodes",
            "GPU busy" if cuda else "in operators",
            "share",
            "GPU idle" if cuda else "between operators",
            "host until the last launch returns",
            "of it while the GPU is busy",
        ),
    )
    rows = tuple(
        (
            *_names(profile),
            units.count(profile.calls),
            _mean(profile.launches),
            units.seconds(profile.busy),
            units.percent(profile.busy / profile.seconds),
            units.seconds(profile.gap),
            units.seconds(profile.host) if cuda else "",
            units.seconds(profile.overlap) if cuda else "",
        )
        for profile in file.profiles
    )
    caption = "Host against device, per profiled call" if cuda else "Operators against Python, per profiled call"
    return Table(f"{caption}; {file.device}", columns, rows)


def _longest(file: ProfileFile) -> Table:
    """Return the longest operators, kernels or nodes of each form."""
    columns = (*_HEAD, *worded("operator, kernel or node", "where"), *numeric("time per call", "share", "times"))
    rows = []
    for profile in file.profiles:
        longest = sorted((*profile.operators, *profile.nodes), key=lambda work: -work.seconds)[:LONGEST]
        for work in longest:
            name = work.name if len(work.name) <= NAME_WIDTH else f"{work.name[: NAME_WIDTH - 1]}…"
            share = units.percent(work.seconds / profile.seconds)
            times = (units.seconds(work.seconds), share, _mean(work.count))
            rows.append((*_names(profile), name, work.where, *times))
    return Table(f"The {LONGEST} longest operators, kernels or nodes of each form", columns, tuple(rows))


def _traces(file: ProfileFile) -> Table:
    """Return the traces that lie beside the file."""
    rows = tuple((*_names(profile), trace) for profile in file.profiles for trace in profile.traces)
    return Table(
        "Traces, for `moegap traces` and ui.perfetto.dev", (*_HEAD, Column("beside profile.json", False)), rows
    )


_HEAD = (*worded("form"), *numeric("rows"))


def _mean(number: float) -> str:
    """Return how many pieces of work a call starts, as a whole number if every call starts as many."""
    return f"{number:,.0f}" if number == round(number) else f"{number:,.1f}"


def _names(profile: Profile) -> tuple[str, str]:
    return profile.label, units.count(profile.rows)


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
    left_out: dict[tuple[str, str], list[int]] = {}
    for item in file.left_out:
        left_out.setdefault((item.label, item.reason), []).append(item.rows)
    for (label, reason), rows in left_out.items():
        sizes = units.listing([units.count(size) for size in rows])
        yield f"{label} at {sizes} {'row' if rows == [1] else 'rows'} was left out: {reason}"


def _facts(file: ProfileFile) -> list[tuple[str, str]]:
    facts = {
        "device": file.device,
        "CPU": file.environment.get("cpu", ""),
        "threads": " ".join(file.environment.get(name, "") for name in ("threads", "thread_wait")).lower().strip(),
        "driver": file.environment.get("driver", ""),
        "versions": ", ".join(f"{name}\u00a0{version}" for name, version in sorted(file.versions.items())),
        "commit": file.environment.get("commit", "")[:12],
        "profiled": units.date(file.environment.get("measured_at", "")),
    }
    if file.environment.get("dirty") == "True" and facts["commit"]:
        facts["commit"] += " with uncommitted changes"
    return [(name, value) for name, value in facts.items() if value]
