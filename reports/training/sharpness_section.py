"""The section on sharpness: curvature per block, the loss around each checkpoint, and how far to trust both.

The gradient g shows whether a checkpoint can be at a minimum. If no curvature exceeds the largest eigenvalue lambda,
one step along the gradient lowers the loss by at least |g|^2 / (2 lambda); at a minimum that is nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import vl_convert

from reports.numbers import units
from reports.output import canvas, legend
from reports.output.blocks import (
    Chart,
    Column,
    Grid,
    Key,
    Legend,
    PageOnly,
    Panel,
    Section,
    Table,
    Text,
    folded,
    numeric,
    without_blanks,
    worded,
)
from reports.output.styles import Style, contenders
from reports.records.sharpness import BlockCurvature, Density, LossLine, Sharpness, SharpnessPart, Surface
from reports.training import sharpness_figures as figures
from reports.training.paper import head_name

NEAR_MINIMUM = 0.01  # of the loss; if one step is sure to gain more, this is no minimum
EIGENVALUES = 5
PICTURE_WIDTH = 330  # of each chart
PICTURE_INK = "#222"
_OUTER = ("$schema", "config", "background", "datasets")  # of a whole picture, not of one chart in it

_LINES = (
    legend.line("top eigenvector, or the first direction"),
    legend.line("other directions", dash="6 3"),
    legend.line("slope and curvature predict: λα²/2", width=1.2, dash="1 3"),
    Key("rows take another route", '<path d="M7,1L13,7L7,13L1,7Z" fill="none" stroke="currentColor"/>', (14, 14)),
)
_SUMMARY = (
    *worded("checkpoint", "images"),
    *numeric("loss", "accuracy", "gradient norm", "largest eigenvalue", "trace", "one step is sure of", "agreement"),
    *worded("device"),
)
_BLOCKS = (
    *worded("block"),
    *numeric("parameters"),
    *(Column(f"eigenvalue {place + 1} (residual)") for place in range(EIGENVALUES)),
    *numeric("trace ± standard error", "probes"),
    *worded("stopped by"),
    *numeric("gradient norm", "time"),
)
_WORST = (*worded("kind"), *numeric("radius", "rise of the loss", "rows rerouted"))


def sharpness_section(files: Sequence[Sharpness]) -> Section | None:
    """Return the table of all checkpoints, and a panel for each with each subset; None without files."""
    if not files:
        return None
    styles = {style.name: style for style in contenders(head_name(file.head, file.policy) for file in files)}
    parts = [(file, part) for file in files for part in file.parts]
    rows = tuple(_summary_row(file, part) for file, part in parts)
    return Section(
        "sharpness",
        "Sharpness",
        [
            without_blanks(Table("Every checkpoint and subset, over all parameters", _SUMMARY, rows)),
            Legend("Lines", _LINES),
            *(_panel(file, part, styles[head_name(file.head, file.policy)]) for file, part in parts),
        ],
        reading="eigenvalues and trace are those of the Hessian of the mean loss, larger is sharper. If curvature is "
        "at most λ, one step along the gradient g lowers the loss by at least |g|²/2λ. At a minimum that is nothing; a "
        "checkpoint that would gain more than 1 % of the loss has not converged. The loss is smooth only as long as no "
        "row takes another route.",
        findings=_curvature([part for _, part in parts]),
        about="curvature of the loss around the trained heads",
    )


def _curvature(parts: Sequence[SharpnessPart]) -> list[str]:
    """Return how many checkpoints have not converged, and how sharp they are, for each subset."""
    sentences = []
    for subset in dict.fromkeys(part.subset for part in parts):
        group = [part for part in parts if part.subset == subset]
        none = sum((gain(part) or 0.0) > NEAR_MINIMUM for part in group)
        largest = [whole.largest for part in group if (whole := part.whole) and whole.largest is not None]
        values = units.listing([units.quantity(value) for value in largest]) if largest else ""
        checkpoints = f"{units.plural(len(group), 'checkpoint')} {'has' if len(group) == 1 else 'have'}"
        sentences.append(
            f"Judged by gradient norm on {subset} images, {none} of {checkpoints} not converged"
            f"{f'; largest eigenvalues {values}' if values else ''}."
        )
    return sentences


def sentence(part: SharpnessPart) -> str:
    """Return whether this is a minimum, judged by the gradient, and how the routing changes around it."""
    return " ".join(filter(None, (_minimum(part), _quadratic(part.lines), _rerouting(part))))


def gain(part: SharpnessPart) -> float | None:
    """Return the share of the loss that one step along the gradient is sure to gain, or None if unknown."""
    whole = part.whole
    gradient = _gradient(part)
    largest = whole.largest if whole else None
    if gradient is None or largest is None or largest <= 0 or part.loss <= 0:
        return None
    return gradient**2 / (2 * largest) / part.loss


def _minimum(part: SharpnessPart) -> str:
    gradient, share = _gradient(part), gain(part)
    if gradient is None:
        return "The gradient norm was not recorded, so whether this is a minimum is open."
    if share is None:
        return f"The gradient norm is {units.quantity(gradient)}; without a largest eigenvalue it says little."
    sure = f"its norm is {units.quantity(gradient)}, and one step along it lowers the loss by at least {_share(share)}"
    if share <= NEAR_MINIMUM:
        return f"Judged by the gradient, it may have converged: {sure}."
    return f"Judged by the gradient, it has not converged on these images: {sure}."


def _quadratic(lines: Sequence[LossLine]) -> str:
    """Say whether the second difference in the small range equals the curvature."""
    checked = [line for line in lines if line.range == "small" and line.relative_error is not None]
    if not checked:
        return ""
    worst = max(checked, key=lambda line: abs(line.relative_error or 0))
    return (
        f"In the small range the second difference of the loss agrees with the curvature within "
        f"{_share(abs(worst.relative_error or 0))} ({units.quantity(worst.second_difference)} against "
        f"{units.quantity(worst.curvature)}, {worst.direction})."
    )


def _rerouting(part: SharpnessPart) -> str:
    """Say how many rows take another route; the loss is smooth only if none does."""
    clauses = []
    for extent, lines in part.lines_by_range.items():
        if known := [rows for line in lines for rows in line.rerouted or ()]:
            rows = f"{units.count(max(known))} of {units.plural(part.images, 'row')}" if any(known) else "none"
            clauses.append(f"in the {extent} range {rows}")
    if not clauses:
        return ""
    return f"Rows that take another route than at the checkpoint, at most: {units.listing(clauses)}."


def _panel(file: Sharpness, part: SharpnessPart, style: Style) -> Panel:
    title = f"{file.checkpoint} on {units.count(part.images)} {part.subset} images"
    details = [file.data, file.loss, file.dtype, "" if file.seed is None else f"seed {file.seed}", file.device]
    return Panel(
        title,
        ", ".join(filter(None, details)),
        [
            Text(sentence(part)),
            *(Text(note, "note") for note in (*part.notes, *file.notes)),
            Grid(list(_charts(part, style)), wide=True),
            PageOnly([folded(table) for table in _tables(title, part)]),
        ],
    )


def _charts(part: SharpnessPart, style: Style) -> Iterator[Chart]:
    if (density := part.density) and any(height > 0 for height in density.density):
        chart = figures.density_chart(density, style)
        yield Chart("Spectral density", canvas.spec(chart), _density_message(density, part.whole))
    for extent, lines in part.lines_by_range.items():
        chart = figures.line_chart(lines, style)
        yield Chart(f"Loss along directions, {extent} range", canvas.spec(chart), _line_message(lines))
    if part.surface:
        chart = figures.surface_chart(part.surface)
        yield Chart("Loss over a plane", canvas.spec(chart), _surface_message(part.surface, part.loss))


def _density_message(density: Density, whole: BlockCurvature | None) -> str:
    peak = max(range(len(density.grid)), key=density.density.__getitem__)
    reach = (
        f"; the largest eigenvalue is {units.quantity(whole.largest)}" if whole and whole.largest is not None else ""
    )
    probes = f", {units.plural(density.probes, 'probe')}" if density.probes else ""
    return f"The density peaks at {units.quantity(density.grid[peak])}{reach} (all parameters{probes})."


def _line_message(lines: Sequence[LossLine]) -> str:
    """Say how far the loss rises at the ends, what curvature predicts there, and how many rows reroute."""
    clauses = []
    for line in lines:
        points = figures.rises(line)
        top = max(points, key=lambda point: point["rise"])
        predicted = {point["alpha"]: point["rise"] for point in figures.parabola(line)}.get(top["alpha"])
        beside = "" if predicted is None else f" (curvature predicts {units.quantity(predicted)})"
        place = f"at {units.quantity(top['alpha'])} along {line.direction}"
        clauses.append(f"by {units.quantity(top['rise'])} {place}{beside}")
    known = [rows for line in lines for rows in line.rerouted or ()]
    routes = ""
    if known:
        most = units.plural(max(known), "row")
        routes = f" At most {most} take another route." if any(known) else " No row takes another route."
    return f"The loss rises {units.listing(clauses)}.{routes}"


def _surface_message(surface: Surface, loss: float) -> str:
    cells = [(height, row, column) for row, line in enumerate(surface.losses) for column, height in enumerate(line)]
    least, most = min(cells), max(cells)
    place = f"{units.quantity(surface.alphas[least[1]])}, {units.quantity(surface.betas[least[2]])}"
    return (
        f"Over the plane of two directions the loss runs from {units.quantity(least[0])} at ({place}) to "
        f"{units.quantity(most[0])}; at the checkpoint it is {units.quantity(loss)}."
    )


def _summary_row(file: Sharpness, part: SharpnessPart) -> tuple[str, ...]:
    whole = part.whole
    share = gain(part)
    return (
        file.checkpoint,
        f"{units.count(part.images)}\N{NO-BREAK SPACE}{part.subset}",
        units.quantity(part.loss),
        "" if part.accuracy is None else units.percent(part.accuracy),
        units.quantity(_gradient(part)),
        units.quantity(whole.largest if whole else None),
        _trace(whole) if whole else "",
        "" if share is None else f"{_share(share)} of the loss",
        units.deviation(part.agreement),
        file.device,
    )


def _tables(title: str, part: SharpnessPart) -> Iterator[Table]:
    if part.blocks:
        rows = tuple(_block_row(block) for block in part.blocks)
        yield without_blanks(Table(f"{title}, by block", _BLOCKS, rows))
    if part.sam or part.adaptive:
        kinds = (("worst case (SAM)", part.sam), ("adaptive, scale-invariant", part.adaptive))
        worst = tuple(
            (kind, units.quantity(item.radius), units.quantity(item.loss_increase), units.count(item.rerouted))
            for kind, items in kinds
            for item in items
        )
        yield Table(f"{title}, worst case within a radius", _WORST, worst)


def _block_row(block: BlockCurvature) -> tuple[str, ...]:
    ranked = sorted(block.eigenvalues, key=lambda eigenvalue: -eigenvalue.value)[:EIGENVALUES]
    cells = [f"{units.quantity(each.value, 4)} ({units.deviation(each.residual) or 'unknown'})" for each in ranked]
    trace = block.trace
    return (
        block.block,
        "" if block.parameters is None else units.count(block.parameters),
        *cells,
        *[""] * (EIGENVALUES - len(cells)),
        _trace(block),
        units.count(trace.probes) if trace else "",
        trace.stopped_by if trace else "",
        units.quantity(block.gradient_norm),
        "" if block.seconds is None else units.duration(block.seconds),
    )


def _trace(block: BlockCurvature) -> str:
    if block.trace is None:
        return ""
    return f"{units.quantity(block.trace.value)} ± {units.quantity(block.trace.standard_error, 2)}"


def _gradient(part: SharpnessPart) -> float | None:
    if part.gradient_norm is not None:
        return part.gradient_norm
    return part.whole.gradient_norm if part.whole else None


def _share(share: float) -> str:
    """Return a share as a percentage, small ones too."""
    return f"{units.quantity(100 * share, 2)} %"


def picture(file: Sharpness) -> str | None:
    """Return the spectral density, the lines and the plane of each subset as an SVG; None if there are none."""
    (style,) = contenders([head_name(file.head, file.policy)])
    rows: list[dict[str, Any]] = []
    datasets: dict[str, Any] = {}
    for part in file.parts:
        specs = [chart.spec | {"title": chart.heading, "width": PICTURE_WIDTH} for chart in _charts(part, style)]
        if specs:
            inner = [{name: value for name, value in spec.items() if name not in _OUTER} for spec in specs]
            title = f"{part.images} {part.subset} images, loss {part.loss:.4g}"
            rows.append({"title": title, "hconcat": inner, "resolve": {"scale": {"color": "independent"}}})
            for spec in specs:
                datasets |= spec["datasets"]
    if not rows:
        return None
    whole = {
        "config": canvas.CONFIG,
        "datasets": datasets,
        "background": "white",
        "title": f"Sharpness of {file.checkpoint} on {file.data}",
        "vconcat": rows,
    }
    svg: str = vl_convert.vegalite_to_svg(whole)
    return svg.replace(canvas.INK, PICTURE_INK)
