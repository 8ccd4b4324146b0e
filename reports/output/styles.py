"""How each form, head and routing policy is drawn in every figure: a colour, a symbol and a dash.

Colours of known names are those of Okabe and Ito (2008), told apart with any colour vision, without black and yellow,
which vanish on a dark or on a light page. Unknown names, such as routing policies and forms of other packages, take
theirs from a second palette. Symbol and dash tell apart what colour does not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from zlib import crc32

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
OTHERS = ("#7A4FBF", "#B5174B", "#8A9A1F", "#8C6239", "#1B9AAA", "#E0409A", "#4B5FD6", "#6B7A8F")
"""Of unknown names."""
DASHES = ((), (7, 3), (2, 2), (10, 3, 2, 3), (4, 2))
SYMBOLS = (  # SVG paths in a box from -1 to 1
    "M-0.8,0A0.8,0.8,0,1,1,0.8,0A0.8,0.8,0,1,1,-0.8,0Z",
    "M-0.7,-0.7H0.7V0.7H-0.7Z",
    "M0,-0.9L0.9,0.7H-0.9Z",
    "M0,-1L0.85,0L0,1L-0.85,0Z",
    "M0,0.9L0.9,-0.7H-0.9Z",
    "M-0.33,-0.9H0.33V-0.33H0.9V0.33H0.33V0.9H-0.33V0.33H-0.9V-0.33H-0.33Z",
    "M0,-1L0.25,-0.3L0.95,-0.3L0.4,0.15L0.6,0.85L0,0.42L-0.6,0.85L-0.4,0.15L-0.95,-0.3L-0.25,-0.3Z",
)
KNOWN = ("loop", "eager", "compile", "grouped_mm", "triton", "onnxruntime")
GREY = "#808080"
HEADS = {"dense": (GREY, 0, 1), "soft": (COLOURS[3], 1, 2), "sparse": (COLOURS[0], 0, 0)}
"""Colour, dash and symbol by place; in the order of tables."""


@dataclass(frozen=True)
class Style:
    """How one name is drawn. `dash` in pixels on and off, empty for a solid line; `symbol` an SVG path."""

    name: str
    colour: str
    dash: tuple[int, ...]
    symbol: str


def styles(forms: Iterable[str]) -> list[Style]:
    """Return a style for each form, the known ones first."""
    present = set(forms)
    known = [_style(form, COLOURS[place], place, place) for place, form in enumerate(KNOWN) if form in present]
    return [*known, *_others(present - set(KNOWN))]


def contenders(names: Iterable[str]) -> list[Style]:
    """Return a style for each head or routing policy, in the order of `names`."""
    ordered = dict.fromkeys(names)
    by_name = {style.name: style for style in _others(ordered.keys() - HEADS.keys())}
    return [by_name[name] if name in by_name else _style(name, *HEADS[name]) for name in ordered]


def heads_first(names: Iterable[str]) -> list[str]:
    """Return each of `names` once: the heads in their order, then routing policies as they come."""
    order = [*HEADS]
    return sorted(dict.fromkeys(names), key=lambda name: order.index(name) if name in HEADS else len(order))


def _others(names: Collection[str]) -> list[Style]:
    """Return a style for each unknown name: a colour by its spelling, so that it is the same in every report.

    If two names hash to one colour, the later one by alphabet takes the next that is free, or else another symbol.
    """
    used: Counter[int] = Counter()
    result = []
    for name in sorted(names):
        first = crc32(name.encode(errors="surrogatepass"))
        places = [(first + step) % len(OTHERS) for step in range(len(OTHERS))]
        place = min(places, key=used.__getitem__)
        result.append(_style(name, OTHERS[place], place + used[place], place + used[place]))
        used[place] += 1
    return result


def _style(name: str, colour: str, dash: int, symbol: int) -> Style:
    return Style(name, colour, DASHES[dash % len(DASHES)], SYMBOLS[symbol % len(SYMBOLS)])
