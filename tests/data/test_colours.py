"""Colours of classes: how they are written, and that each class has one of its own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deconvseg.data import class_colours, colour_numbers, default_colour, parse_colour
from deconvseg.errors import InputError

NAMES = st.lists(st.text(min_size=1, max_size=5), unique=True, max_size=8)
COLOURS = st.tuples(*[st.integers(0, 255)] * 3).map(lambda rgb: "#{:02x}{:02x}{:02x}".format(*rgb))


@given(COLOURS)
def test_a_colour_is_read_as_it_is_written(colour):
    assert parse_colour(colour.upper()) == parse_colour(f" {colour} ") == colour
    assert "#{:02x}{:02x}{:02x}".format(*colour_numbers(colour)) == colour


@pytest.mark.parametrize("text", ["", "red", "#12", "#12345", "#1234567", "ff8800", "#ggg", "#١٢٣", "1,2,3"])
def test_what_is_no_colour_is_refused(text):
    with pytest.raises(InputError, match="is no colour; write it as #rrggbb"):
        parse_colour(text)


@given(NAMES)
def test_without_declared_colours_each_class_has_that_of_its_place(names):
    assert class_colours(names) == {name: default_colour(place) for place, name in enumerate(names)}


@given(NAMES, st.dictionaries(st.text(max_size=5), COLOURS, max_size=4))
def test_declared_colours_are_kept_and_all_others_differ_from_them(names, declared):
    declared |= {name: default_colour(0) for name in names[-1:]}
    colours = class_colours(names, declared)
    assert list(colours) == names
    assert all(colours[name] == declared[name] for name in names if name in declared)
    others = [colours[name] for name in names if name not in declared]
    assert not set(others) & {declared[name] for name in names if name in declared}
