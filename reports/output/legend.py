"""Legends: what the lines, symbols and colours of charts mean, as small drawings beside words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from reports.output.blocks import Key, Legend
from reports.output.styles import Style


def of_styles(
    styles: Iterable[Style], references: Mapping[str, Sequence[int]] | None = None, label: str = "Forms"
) -> Legend:
    """Return the legend of forms, heads or policies, and of reference lines: their words and dashes."""
    lines = [line(words, width=1.5, dash=" ".join(map(str, dash))) for words, dash in (references or {}).items()]
    return Legend(label, [*map(styled, styles), *lines])


def styled(style: Style) -> Key:
    """Return the key of one compared name."""
    dash = " ".join(map(str, style.dash))
    stroke = f'<line x1="0" y1="6" x2="34" y2="6" stroke="{style.colour}" stroke-width="2" stroke-dasharray="{dash}"/>'
    symbol = f'<path d="{style.symbol}" transform="translate(17 6) scale(5)" fill="{style.colour}"/>'
    return Key(style.name, stroke + symbol)


def line(words: str, *, width: float = 2, dash: str = "", opacity: float = 1) -> Key:
    """Return the key of a line in the page's ink."""
    drawing = (
        f'<line x1="0" y1="6" x2="34" y2="6" stroke="currentColor" stroke-width="{width:g}" '
        f'stroke-dasharray="{dash}" opacity="{opacity:g}"/>'
    )
    return Key(words, drawing)


def patch(words: str, colour: str, sign: str = "", ink: str = "currentColor") -> Key:
    """Return the key of an area of a colour, or of an outline if there is none, with a sign of one letter on it."""
    fill = f'fill="{colour}"' if colour else 'fill="none" stroke="currentColor" stroke-opacity="0.4"'
    letter = f'<text x="10" y="15" text-anchor="middle" font-size="14" font-weight="bold" fill="{ink}">{sign}</text>'
    return Key(words, f'<rect x="1" y="1" width="18" height="18" {fill}/>{letter if sign else ""}', (20, 20))
