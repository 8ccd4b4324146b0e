"""One look for each form."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reports.output.styles import COLOURS, HEADS, KNOWN, contenders, heads_first, styles


def test_a_known_form_looks_the_same_in_any_company() -> None:
    alone, together = styles(["triton"]), styles([*KNOWN, "another"])
    assert alone[0] == together[KNOWN.index("triton")]


def test_the_known_forms_differ_in_colour_and_in_symbol() -> None:
    known = styles(KNOWN)
    assert len({style.colour for style in known}) == len({style.symbol for style in known}) == len(KNOWN)


@given(st.sets(st.sampled_from([*KNOWN, *"abcdefghijklmnopqr", "<b>", ""])))
def test_no_two_forms_look_alike(forms: set[str]) -> None:
    looks = styles(forms)
    assert {style.name for style in looks} == forms
    assert len({(style.colour, style.symbol) for style in looks}) == len(forms)


def test_a_form_of_another_package_has_a_colour_of_its_own_in_every_report() -> None:
    others = ("liger", "moe_ops", "cublas", "megablocks")
    together = {style.name: style for style in styles([*KNOWN, *others])}
    assert len({style.colour for style in together.values()}) == len(together)
    for name in others:
        assert styles([name])[0].colour not in COLOURS
        assert styles([name]) == styles([name, "triton"])[1:]


POLICIES = ("top_k", "capacity", "top_p", "threshold", "expert_choice")


def test_a_head_is_drawn_the_same_in_any_company() -> None:
    assert contenders(["sparse"]) == contenders([*POLICIES, "sparse"])[-1:]


def test_heads_and_policies_of_a_study_differ_in_colour_and_in_symbol_or_dash() -> None:
    drawn = contenders(["dense", "soft", *POLICIES])
    assert len({style.colour for style in drawn}) == len({(style.symbol, style.dash) for style in drawn}) == len(drawn)


@given(st.lists(st.sampled_from([*HEADS, *POLICIES, *"abcdefg", "<b>"]), unique=True))
def test_every_contender_has_a_style_in_the_order_asked(names: list[str]) -> None:
    assert [style.name for style in contenders(names)] == names


@given(st.permutations([*HEADS, *POLICIES]))
def test_heads_come_before_policies(names: list[str]) -> None:
    ordered = heads_first([*names, *names])
    assert ordered[:3] == [*HEADS]
    assert ordered[3:] == [name for name in names if name in POLICIES]
