"""How each form, and each head or routing policy, looks in every figure: a colour, a symbol and a dash.

Colours are those of Okabe and Ito (2008), told apart with any colour vision, without black and yellow, which vanish
on a dark or on a light page. Symbol and dash tell apart what colour does not.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
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
CONTENDERS = {  # colour, dash and symbol by place; policies of fixed capacity are blue, dynamic ones are warm
    "dense": (GREY, 0, 1),
    "soft": (COLOURS[3], 1, 2),
    "sparse": (COLOURS[0], 0, 0),
    "top_k": (COLOURS[0], 0, 0),  # the sparse head's policy, where nothing else is said
    "capacity": (COLOURS[5], 2, 3),
    "top_p": (COLOURS[4], 3, 4),
    "threshold": (COLOURS[1], 4, 5),
    "expert_choice": (COLOURS[2], 1, 6),
}


@dataclass(frozen=True)
class Style:
    """The look of one name. `dash` in pixels on and off, empty for a solid line; `symbol` an SVG path."""

    name: str
    colour: str
    dash: tuple[int, ...]
    symbol: str


def styles(forms: Iterable[str]) -> list[Style]:
    """Return a style for each form: the known ones always get the same, others the free ones in alphabetical order."""
    present = set(forms)
    order = [*KNOWN, *sorted(present - set(KNOWN))]
    return [_style(form, place) for place, form in enumerate(order) if form in present]


def contenders(names: Iterable[str]) -> list[Style]:
    """Return a style for each head or policy: the known ones always get the same, others free ones by alphabet."""
    present = set(names)
    known = [name for name in CONTENDERS if name in present]
    others = sorted(present - set(known))
    looks = {name: CONTENDERS[name] for name in known}
    looks |= {name: (COLOURS[(place + 1) % 6], place % 5, (place + 2) % 7) for place, name in enumerate(others)}
    return [Style(name, colour, DASHES[dash], SYMBOLS[mark]) for name, (colour, dash, mark) in looks.items()]


def _style(name: str, place: int) -> Style:
    return Style(
        name=name,
        colour=COLOURS[place % len(COLOURS)],
        dash=DASHES[place % len(DASHES)],
        symbol=SYMBOLS[place % len(SYMBOLS)],
    )
