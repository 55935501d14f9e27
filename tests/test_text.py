"""Text from outside is shown, never obeyed."""

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deconvseg.text import dump_json, escape_controls, plain_documentation


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("a\nerror: forged", r"a\nerror: forged"),
        ("scan\u202egnp.exe", r"scan\u202egnp.exe"),
        ("ti\u200bbia\ufeff", r"ti\u200bbia\ufeff"),
        ("\x9b2J\x7f\r\t", r"\x9b2J\x7f\r\t"),
        ("caf\udce9", r"caf\udce9"),
        ("tag\U000e0041", r"tag\U000e0041"),
        ("Läsion ≥ 5 mm³, 病灶, [red]", "Läsion ≥ 5 mm³, 病灶, [red]"),
    ],
)
def test_what_acts_or_hides_is_shown_as_an_escape(name, shown):
    assert escape_controls(name) == shown


@given(st.text(st.characters()))
def test_no_control_format_or_surrogate_character_is_left(text):
    assert not {unicodedata.category(c) for c in escape_controls(text)} & {"Cc", "Cs", "Zl", "Zp"}


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_json_is_read_back_as_it_was_and_holds_nothing_that_acts(text):
    written = dump_json({"name": text, text: [text]})
    assert json.loads(written) == {"name": text, text: [text]}
    assert {unicodedata.category(c) for c in written} & {"Cc", "Cs"} <= {"Cc"}
    assert not set(written) & {"\x1b", "\x9b", "\u202e", "\x7f"}
    written.encode("utf-8")


def test_json_has_no_half_of_a_surrogate_pair():
    assert json.loads(dump_json({"name": "caf\udce9"})) == {"name": r"caf\udce9"}


def test_json_has_no_nan():
    assert json.loads(dump_json({"a": float("nan"), "b": [float("inf"), 1.5]})) == {"a": None, "b": [None, 1.5]}


def test_documentation_is_plain():
    text = "Scale ``x``, (B, \\*S), as :func:`~deconvseg.nn.create_upsampling` and :class:`Plan`.\n\n    More."
    assert plain_documentation(text) == "Scale x, (B, *S), as create_upsampling and Plan.\n\nMore."
