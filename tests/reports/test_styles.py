"""One look for each form."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reports.styles import KNOWN, styles


def test_a_known_form_looks_the_same_in_any_company() -> None:
    alone, together = styles(["triton"]), styles([*KNOWN, "another"])
    assert alone[0] == together[KNOWN.index("triton")]


def test_the_known_forms_differ_in_colour_and_in_symbol() -> None:
    known = styles(KNOWN)
    assert len({style.colour for style in known}) == len({style.symbol for style in known}) == len(KNOWN)


@given(st.sets(st.sampled_from([*KNOWN, *"abcdefghijklmnopqr", "<b>", ""])))
def test_no_two_forms_look_alike(forms: set[str]) -> None:
    looks = styles(forms)
    assert {style.form for style in looks} == forms
    assert len({(style.colour, style.symbol) for style in looks}) == len(forms)
