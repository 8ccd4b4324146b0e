"""The suite `map`: dense and sparse heads of many sizes, at the rows that `bench.suites.break_even` asks for.

Each result decides the next case. In a result file the suite is called `scale`, as in older ones.

Letters: D input width, H hidden width of one expert, E experts, k experts per row, N rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import product
from operator import attrgetter
from statistics import median

import torch

from bench.cases.case import Case, Shape
from bench.cases.measure import measure_group, skipped
from bench.cases.result import Outcome, ResultFile
from bench.errors import BenchError
from bench.subjects.subject import Subject
from bench.suites.break_even import CLASSES, Cell, Known, MapGrid, Probe, Sizes, expected_probes, next_probes
from bench.timing.blocks import block_medians
from bench.timing.precision import dtype_name
from bench.timing.sampling import OnProgress, part_of
from models.classifier.classifier import Classifier
from models.config import BackboneConfig, InputConfig, ModelConfig, head_config
from models.heads.heads import HeadConfig, equal_capacity
from reports.records.record import ClockName, Status

SUITE = "scale"
DECIDING: ClockName = "wall"
"""The clock that decides the search."""
TIME_IS_UP = "the time for the map was up; continue with --resume"


def measure_map(
    grid: MapGrid,
    forms: Sequence[str],
    device: torch.device,
    dtypes: Sequence[torch.dtype],
    seconds: float,
    seed: int,
    result: ResultFile,
    progress: Callable[[str, float], None],
    deadline: float | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> None:
    """Measure what `result` lacks of the map of `grid`, and add each probe to it at once.

    `seconds` is the sampling time per case. `progress` gets the current probe in words and about the share of the map
    that is done, `tell` a line on each finished probe. After `deadline`, a value of `time.monotonic`, no probe begins:
    the remaining ones become skipped cases, which the next run tries again. Raises `BenchError` if the grid leaves out
    every form.
    """
    if all(form in grid.left_out for form in forms):
        raise BenchError(f"this map leaves out {', '.join(forms)}; name another --form, or leave out --quick")
    searches = [_Search(grid, forms, device, dtype, seconds, seed) for dtype in dtypes]
    done = 0.0
    while wanted := [(search, layer, rows) for search in searches for layer, rows in search.next_places(result)]:
        share = (1 - done) / max(len(wanted), sum(search.expected_places(result) for search in searches))
        for number, (search, layer, rows) in enumerate(wanted):
            if deadline is not None and time.monotonic() >= deadline:
                result.add(case for late, layer, rows in wanted[number:] for case in late.skipped(layer, rows))
                tell(TIME_IS_UP)
                return
            name = f"{layer}, {rows:,} rows, {dtype_name(search.dtype)}"
            tell(f"{name}: {search.measure(layer, rows, result, part_of(partial(progress, name), done, share))}")
            done += share


def map_subjects(cells: Sequence[Cell], seed: int = 0) -> list[Subject]:
    """Return the dense head of the layer that all `cells` share, then the sparse head of each, with seeded weights.

    The dense head is E H wide: as many expert parameters. All take features as they are.
    """
    layer = cells[0].layer
    sparse = [head_config("sparse", **asdict(layer), classes=CLASSES, k=cell.k) for cell in cells]
    configs: list[HeadConfig] = [equal_capacity(sparse[0]), *sparse]
    names = [_name(layer), *(_name(layer, cell.k) for cell in cells)]
    return [_subject(name, config, seed) for name, config in zip(names, configs, strict=True)]


def known_probes(grid: MapGrid, outcomes: Iterable[Outcome], tried: Iterable[tuple[Sizes, int]] = ()) -> Known:
    """Return what `outcomes`, of one dtype, device and clock, say about the cells of `grid`.

    A layer's rows are known if any case of them was measured, or if they were `tried` in vain.
    """
    names = {_name(cell.layer, k): cell.layer for cell in grid.cells for k in (None, cell.k)}
    places: dict[tuple[Sizes, int], list[Outcome]] = {place: [] for place in tried}
    for outcome in outcomes:
        record = outcome.record
        if record.status is Status.MEASURED and record.checkpoint in names:
            places.setdefault((names[record.checkpoint], record.rows), []).append(outcome)
    known: dict[Cell, dict[int, Probe]] = {}
    for (layer, rows), cases in places.items():
        for cell in grid.of(layer):
            known.setdefault(cell, {})[rows] = Probe(_fastest(cases, layer), _fastest(cases, layer, cell.k))
    return known


@dataclass
class _Search:
    """The search of one map: a grid in one dtype on one device."""

    grid: MapGrid
    forms: Sequence[str]
    device: torch.device
    dtype: torch.dtype
    seconds: float
    seed: int
    _tried: set[tuple[Sizes, int]] = field(default_factory=set)
    _subjects: dict[Sizes, list[Subject]] = field(default_factory=dict)

    def next_places(self, result: ResultFile) -> list[tuple[Sizes, int]]:
        """Return the layers and rows to measure next."""
        wanted = next_probes(self.grid, self._known(result))
        return list(dict.fromkeys((cell.layer, rows) for cell, rows in wanted))

    def expected_places(self, result: ResultFile) -> int:
        """Return about how many layers and rows are still to come."""
        expected = expected_probes(self.grid, self._known(result))
        return sum(max(expected[cell] for cell in self.grid.of(layer)) for layer in self.grid.layers)

    def measure(self, layer: Sizes, rows: int, result: ResultFile, progress: OnProgress) -> str:
        """Measure all cells of a layer at `rows` into `result`, and return their sides in words.

        Cases that the grid leaves out become skipped ones with its reason.
        """
        cases, excluded = self._cases(layer, rows)
        measured = measure_group(cases, SUITE, self.seconds, self.seed, progress, steps=False, traces=False)
        result.add([*measured.outcomes, *skipped(excluded, SUITE, measured.group)], measured.group)
        self._tried.add((layer, rows))
        for subject in self._subjects[layer]:
            subject.runners.clear()  # no head is measured twice at as many rows
        known = known_probes(self.grid, self._of_search(measured.outcomes), [(layer, rows)])
        return ", ".join(f"k {cell.k} {_in_words(known[cell][rows])}" for cell in self.grid.of(layer))

    def skipped(self, layer: Sizes, rows: int) -> list[Outcome]:
        """Return the cases of a layer at `rows`, skipped because time is up."""
        return skipped(((case, TIME_IS_UP) for case in self._cases(layer, rows)[0]), SUITE)

    def _known(self, result: ResultFile) -> Known:
        return known_probes(self.grid, self._of_search(result.outcomes()), self._tried)

    def _of_search(self, outcomes: Iterable[Outcome]) -> list[Outcome]:
        """Return the outcomes that decide this search."""
        wanted = (SUITE, self.device.type, dtype_name(self.dtype), DECIDING)
        setting = attrgetter("suite", "device", "dtype", "clock")
        return [outcome for outcome in outcomes if setting(outcome.record) == wanted]

    def _cases(self, layer: Sizes, rows: int) -> tuple[list[Case], list[tuple[Case, str]]]:
        """Return the cases of a layer at `rows`, and the cases that the grid leaves out, each with the reason."""
        if layer not in self._subjects:
            self._subjects[layer] = map_subjects(self.grid.of(layer), self.seed)
        shape = Shape("head", rows, self.dtype, self.device)
        cases: list[Case] = []
        excluded: list[tuple[Case, str]] = []
        for subject, form in product(self._subjects[layer], self.forms):
            case = Case(subject, form, shape, DECIDING)
            if reason := self.grid.excluded(form, subject.head.config.experts):
                excluded.append((case, reason))
            else:
                cases.append(case)
        return cases, excluded


def _subject(name: str, config: HeadConfig, seed: int) -> Subject:
    torch.manual_seed(seed)
    images = InputConfig(shape=(1, 1, config.features), mean=(0.0,), std=(1.0,))
    model = Classifier(ModelConfig(backbone=BackboneConfig(name="identity"), head=config), images)
    return Subject(name, model.eval().requires_grad_(False), images, "initialised")


def _name(layer: Sizes, k: int | None = None) -> str:
    """Return the name of a layer's dense head, or of its sparse head with k experts per row."""
    name = f"scale-d{layer.features}-h{layer.hidden}-e{layer.experts}"
    return name if k is None else f"{name}-k{k}"


def _fastest(outcomes: Iterable[Outcome], layer: Sizes, k: int | None = None) -> dict[int, float]:
    """Return the median of each block of the fastest form of one head of a layer, empty if none was measured.

    Forms with stored weights count if there are no others.
    """
    forms = [outcome for outcome in outcomes if outcome.record.checkpoint == _name(layer, k)]
    if not forms:
        return {}
    fastest = min(forms, key=lambda outcome: (bool(outcome.record.scheme), median(outcome.samples)))
    return block_medians(fastest.samples, fastest.record.blocks)


def _in_words(probe: Probe) -> str:
    return probe.side if probe.speedup is None else f"{probe.side} ({probe.speedup:.2f})"
