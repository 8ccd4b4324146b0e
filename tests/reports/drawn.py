"""What a chart draws, read back from its picture: the marks that Vega made of the data, with their places."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

import vl_convert

from reports.output.blocks import Datasets

NUMBER = re.compile(r"-?[\d.]+(?:e-?\d+)?")


def svg(spec: Mapping[str, Any], data: Datasets | None = None, width: int = 400) -> str:
    """Return the picture of a specification, of `data` in place of its own where they are given."""
    own = {"datasets": dict(data)} if data else {}
    return vl_convert.vegalite_to_svg(json.dumps({**spec, **own, "width": width}), vl_version="6.4")


def marks(picture: str, kind: str) -> list[dict[str, str]]:
    """Return the marks of a kind (bar, point, line, ...) in the order drawn: what each says of itself, and its `d`."""
    found = []
    for element in ElementTree.fromstring(picture).iter():
        if element.get("aria-roledescription") == kind:
            told = dict(part.split(": ", 1) for part in element.attrib["aria-label"].split("; "))
            found.append(told | {"d": element.get("d", ""), "transform": element.get("transform", "")})
    return found


def span(mark: Mapping[str, str]) -> tuple[float, float]:
    """Return where a bar begins and ends, in pixels from the left."""
    start, width = re.match(r"M([-\d.e]+),[-\d.e]+h([-\d.e]+)", mark["d"]).groups()
    return float(start), float(start) + float(width)


def middle(mark: Mapping[str, str]) -> tuple[float, float]:
    """Return where the middle of a point lies, in pixels."""
    x, y = NUMBER.findall(mark["transform"])[:2]
    return float(x), float(y)
